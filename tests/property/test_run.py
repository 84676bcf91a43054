"""The fold of a partition: what is no fact changes nothing, and every reader finds the same facts."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from schemas.run import Run
from schemas.store import Mark, Snapshot
from streams.partition import Partition
from tests.histories import LogRecord, random_log

SEEDS = st.integers(0, 10**6)


def fold(records: list[LogRecord], partition: int, partitions: int, part: Partition | None = None) -> Partition:
    part = part or Partition(partition, partitions, position=0)
    for record in records:
        part.fold(record, {})
    return part


def state(part: Partition) -> tuple[int, dict[str, bytes], dict[str, tuple[int, str]]]:
    """Epoch, unfinished runs and finished ones."""
    runs = {run_id: run.dump() for run_id, run in part.runs.items()}
    return part.epoch, runs, {run_id: (seq, tip) for run_id, (seq, tip, _) in part.finished.items()}


def renumbered(records: list[LogRecord]) -> list[LogRecord]:
    return [LogRecord(offset, record.timestamp, record.key, record.value) for offset, record in enumerate(records)]


@given(SEEDS)
def test_orphans_change_nothing(seed: int) -> None:
    """A log without its orphans folds to the same state as the log with them."""
    log = random_log(seed)
    for partition, records in enumerate(log.records):
        part, facts = Partition(partition, 2, position=0), []
        for record in records:
            before = sum(part.orphans.values())
            part.fold(record, {})
            if sum(part.orphans.values()) == before:
                facts.append(record)
        assert sum(part.orphans.values()) == len(records) - len(facts)
        assert state(fold(renumbered(facts), partition, 2)) == state(part)


@given(SEEDS)
def test_duplicates_change_nothing(seed: int) -> None:
    """Records that land a second time, at any later place, are no facts to a reader that forgets nothing."""
    rng, log = Random(seed), random_log(seed)
    for partition, records in enumerate(log.records):
        twice = list(records)
        for _ in range(len(records) // 3):
            at = rng.randrange(len(twice))
            twice.insert(rng.randint(at + 1, len(twice)), twice[at])
        assert state(fold(renumbered(twice), partition, 2)) == state(fold(records, partition, 2))


@given(SEEDS)
def test_a_rewritten_event_ends_its_chain(seed: int) -> None:
    """Changing one byte of an event, even white space, makes everything after it in its run no fact."""
    rng, log = Random(seed), random_log(seed, partitions=1)
    records, part = list(log.records[0]), Partition(0, 1, position=0)
    facts: list[tuple[int, str, int]] = []
    for record in records:
        touched: dict[str, Run] = {}
        part.fold(record, touched)
        facts += [(record.offset, run.id, run.seq) for run in touched.values()]
    offset, run_id, seq = rng.choice(facts)
    records[offset] = LogRecord(offset, 0, None, (records[offset].value or b"") + b" ")
    again = fold(records, 0, 1)
    run = again.runs.get(run_id)
    assert (run.seq if run is not None else again.finished[run_id][0]) == seq


@given(SEEDS, st.data())
def test_a_snapshot_is_as_good_as_the_log(seed: int, data: st.DataObject) -> None:
    """A reader that starts from the unfinished runs at any position ends where one that read everything ends.

    It has forgotten the finished runs, so it needs what the producer promises: nothing lands twice.
    """
    log = random_log(seed)
    for partition, landed in enumerate(log.records):
        records = renumbered(list({record.value: record for record in landed}.values()))
        at = data.draw(st.integers(1, len(records)))
        before = fold(records[:at], partition, 2)
        runs = [Run.load(run_id, run.dump()) for run_id, run in before.runs.items()]
        part = Partition(partition, 2, announced=at)
        part.load(Snapshot(Mark(at, before.epoch, None, "c"), runs))
        epoch, unfinished, finished = state(fold(records[at:], partition, 2, part))
        whole = fold(records, partition, 2)
        assert (epoch, unfinished) == state(whole)[:2]
        assert finished.items() <= state(whole)[2].items()
