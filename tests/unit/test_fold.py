"""The fold of one partition: which records are facts, what they change, and what it refuses to guess."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping

import pytest

from projections.collector import collector_paused
from projections.fold import NEVER_SAVED, PartitionFold, refold
from schemas.identity import digest
from schemas.run import EVOLVE_VERSION, Run
from schemas.store import Batch, HistoryRow, Mark, RunRow, Tip
from tests.histories import Log, LogRecord, Story, definition, id_at, random_log, reencoded

NOBODY: Mapping[str, Tip | None] = {}


def fold_of(log: Log, partition: int = 0, known: Mapping[str, Tip | None] | None = None) -> tuple[PartitionFold, Batch]:
    """The whole partition folded by a store that knows nothing, or what is given."""
    fold = PartitionFold(partition, log.partitions, "c")
    records = log.records[partition]
    taken, tips = 0, dict(known or {})
    while taken < len(records):
        taken += fold.take(records[taken:], tips)
        if taken < len(records):
            tips[fold.asks] = None
    return fold, fold.batch()


def log_of(*values: bytes | None) -> Log:
    log = Log(1)
    log.take(0)
    for value in values:
        log.append(0, value)
    return log


def rows_of(batch: Batch) -> dict[str, RunRow]:
    return {row.run_id: row for row in batch.runs}


def story(seed: int = 0, partitions: int = 1) -> Story:
    return Log(partitions, seed).story(0)


def test_a_run_becomes_one_row_per_batch() -> None:
    """However many events it has had: the row as it is at the end, and a history row for each fact."""
    run = story()
    log = log_of(*run.whole(1, {"slept": 0}))
    _, batch = fold_of(log)
    (row,) = batch.runs
    assert (row.seq, row.digest, row.done, row.state, row.set_aside) == (6, run.tip, True, None, None)
    assert (row.first_offset, row.last_offset, row.partition) == (1, 6, 0)
    assert (row.view["status"], row.view["results"]) == ("SUCCESS", {"step_0": {"slept": 0}, "step_1": {"slept": 0}})
    assert [(event.seq, event.offset) for event in batch.history] == [(n, n) for n in range(1, 7)]
    assert [event.value for event in batch.history] == [record.value for record in log.records[0][1:]]
    assert [event.at_ms for event in batch.history] == [record.timestamp for record in log.records[0][1:]]
    assert (batch.start, batch.mark) == (0, Mark(7, 1, digest(log.records[0][-1].value or b""), "c"))


def test_an_unfinished_run_carries_its_state() -> None:
    """The row holds what a process needs to go on, with the version of the fold that wrote it."""
    run = story()
    _, batch = fold_of(log_of(run.requested(1), run.event(1, "StepStarted", {"step": "step_0", "attempt": 1})))
    (row,) = batch.runs
    assert row.state is not None
    assert (row.done, row.state_version) == (False, EVOLVE_VERSION)
    loaded = Run.load(row.run_id, row.state)
    assert (loaded.seq, loaded.tip, loaded.phase) == (2, run.tip, "started")


def test_a_later_batch_does_not_know_the_first_offset() -> None:
    """The store keeps the one that it has."""
    run = story()
    log = log_of(run.requested(1))
    fold, first = fold_of(log)
    log.append(0, run.completed(1))
    assert fold.take(log.records[0][2:], NOBODY) == 1
    second = fold.batch()
    assert [row.first_offset for row in (*first.runs, *second.runs)] == [1, None]
    assert (second.start, second.mark.position, second.runs[0].last_offset) == (2, 3, 2)
    assert (fold.runs, fold._ended) == ({}, set())


def reasons(log: Log, known: Mapping[str, Tip | None] | None = None) -> dict[str, int]:
    return dict(fold_of(log, known=known)[1].orphans)


def test_every_kind_of_orphan_is_counted_and_changes_nothing() -> None:
    """A copy, an event of an old epoch, one after the end, one that is not at home, and what cannot be read."""
    run = story()
    values = run.whole(1)
    sound = rows_of(fold_of(log_of(*values))[1])
    assert reasons(log_of(values[0], values[1], values[1])) == {"not the tip": 1}
    assert reasons(log_of(*values, values[0])) == {"after the end": 1}
    assert reasons(log_of(None, b"", b"{", b"[]", b'{"subject":1}', reencoded(values[0], epoch=0))) == {"unreadable": 6}
    assert reasons(log_of(reencoded(values[0], epoch=7))) == {"old epoch": 1}
    assert reasons(log_of(reencoded(values[0], subject="no id/"))) == {"not at home": 1}
    noise = log_of(b"{", values[0], values[0], reencoded(values[1], epoch=9), *values[1:], values[-1])
    assert rows_of(fold_of(noise)[1])[run.run_id].view == sound[run.run_id].view
    assert reasons(noise) == {"unreadable": 1, "not the tip": 1, "old epoch": 1, "after the end": 1}


def test_a_run_that_is_at_home_elsewhere_is_no_run() -> None:
    """Its first event stands in the wrong partition; nobody folds it here."""
    log = Log(2)
    log.take(0)
    stray = Story(id_at(log.rng, 1, 2), definition())
    log.append(0, stray.requested(1))
    assert reasons(log) == {"not at home": 1}


def test_epochs_only_rise() -> None:
    """The next owner's take is a fact, a copy of it or an older one is not; the old owner's events are orphans from there on."""
    run = story()
    log = log_of(run.requested(1))
    log.take(0)
    late = run.event(1, "StepStarted", {"step": "step_0", "attempt": 1})
    log.append(0, late)
    log.append(0, log.records[0][0].value)
    log.append(0, log.records[0][2].value)
    fold, batch = fold_of(log)
    assert (fold.epoch, dict(batch.orphans)) == (2, {"old epoch": 1, "lost take": 2})


def test_a_finished_run_does_not_begin_again() -> None:
    """A second copy of a first event counts as a run only if the store has never heard of it."""
    run = story()
    log = log_of(run.requested(1))
    assert reasons(log, {run.run_id: Tip(6, "digest", True)}) == {"after the end": 1}
    assert reasons(log, {run.run_id: None}) == {}


def test_it_stops_before_a_run_of_which_it_was_told_nothing() -> None:
    """A record's key proves nothing: the fold asks, and goes on where it stopped."""
    first, second = story(1), story(2)
    log = log_of(first.requested(1), second.requested(1), first.completed(1))
    fold = PartitionFold(0, 1, "c")
    assert fold.take(log.records[0], {first.run_id: None}) == 2
    assert (fold.asks, fold.position, fold.start) == (second.run_id, 2, 0)
    assert fold.take(log.records[0][2:], {second.run_id: Tip(3, "d", True)}) == 2
    assert dict(fold.batch().orphans) == {"after the end": 1}
    assert fold.start == 4


def test_keys_say_of_whom_to_ask() -> None:
    """Runs in memory, missing keys and keys that are no run ids need no answer."""
    fold = PartitionFold(0, 1, "c", None, [Run("known")])
    keys = [b"known", b"new", None, b"\xff", b"", b"no id/", b"new"]
    assert fold.unknown([LogRecord(n, 0, key, b"") for n, key in enumerate(keys)]) == {"new"}


def test_an_offset_that_is_not_the_next_is_our_own_mistake() -> None:
    """Whoever feeds the fold has to notice a gap before."""
    with pytest.raises(AssertionError, match="offset 5 where 0 is next"):
        PartitionFold(0, 1, "c").take([LogRecord(5, 0, None, b"")], NOBODY)


@pytest.mark.parametrize("seed", range(8))
def test_cuts_do_not_matter(seed: int) -> None:
    """The last row of each run, the history and the mark are the same for one batch and for many."""
    log = random_log(seed, partitions=1)
    _, whole = fold_of(log)
    fold, last, history = PartitionFold(0, 1, "c"), dict[str, RunRow](), list[HistoryRow]()
    ended: dict[str, Tip | None] = {}
    for record in log.records[0]:
        while not fold.take([record], ended):
            ended[fold.asks] = None
        batch = fold.batch()
        for row in batch.runs:
            first = last[row.run_id].first_offset if row.run_id in last else row.first_offset
            last[row.run_id] = row._replace(first_offset=first)
            ended |= {row.run_id: Tip(row.seq, row.digest, True)} if row.done else {}
        history += batch.history
    assert last == rows_of(whole)
    assert history == whole.history
    assert batch.mark == whole.mark


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("size", [1, 7, 40])
def test_parts_and_the_batch_after_them_are_one_batch(seed: int, size: int) -> None:
    """However many parts there are, each run has one row, that of its end or of the last batch, and nothing is told twice."""
    log = random_log(seed, partitions=1)
    records = log.records[0]
    _, whole = fold_of(log)
    fold, rows, history, orphans = PartitionFold(0, 1, "c"), list[RunRow](), list[HistoryRow](), Counter[str]()
    told: dict[str, Tip | None] = {}
    at = 0
    for begin in range(0, len(records), size):
        some, taken = records[begin : begin + size], 0
        while taken < len(some):
            taken += fold.take(some[taken:], told)
            if taken < len(some):
                told[fold.asks] = None
        part = fold.part()
        assert (part.start, part.mark.position) == (at, begin + len(some))
        assert all(row.done for row in part.runs)
        at = part.mark.position
        assert fold.start == at
        told.update((row.run_id, Tip(row.seq, row.digest, True)) for row in part.runs)
        rows += part.runs
        history += part.history
        orphans.update(part.orphans)
    more = True
    while more:
        more = fold.prepare(3)
        rest = fold.part()
        assert (rest.start, rest.mark, rest.history, len(rest.runs) <= 3) == (at, whole.mark, [], True)
        rows += rest.runs
    assert len({row.run_id for row in rows}) == len(rows)
    assert {row.run_id: row for row in rows} == rows_of(whole)
    assert history == whole.history
    assert orphans == whole.orphans


def test_rows_may_be_made_in_slices() -> None:
    """So that the loop gets its turn between them; the batch is the same."""
    log = random_log(3, partitions=1)
    whole = fold_of(log)[1]
    fold, ended = PartitionFold(0, 1, "c"), dict[str, Tip | None]()
    taken = 0
    while taken < len(log.records[0]):
        taken += fold.take(log.records[0][taken:], ended)
        ended[fold.asks] = None
    more, slices = True, 0
    while more:
        more = fold.prepare(3)
        slices += 1
    assert slices == -(-len(whole.runs) // 3)
    assert fold.batch() == whole


def test_an_unknown_type_sets_the_run_aside_and_moves_its_tip() -> None:
    """Seq, digest and history go on, the columns stand still, and the name of the type is kept short and storable."""
    run = story()
    odd = run.requested(1), run.event(1, "Odd\0" + "x" * 999, {}), run.completed(1)
    _, batch = fold_of(log_of(*odd[:2]))
    (row,) = batch.runs
    assert (row.seq, row.digest, row.view["seq"]) == (2, digest(odd[1]), 2)
    assert row.view["status"] == "PENDING"
    assert (row.set_aside or "").startswith("an event of the unknown type")
    assert (len(batch.history[1].type), batch.history[1].type[:5]) == (500, "Odd\ufffdx")
    (ended,) = fold_of(log_of(*odd))[1].runs
    assert (ended.done, ended.set_aside == row.set_aside) == (True, True)


def test_a_step_whose_name_is_no_text_sets_the_run_aside() -> None:
    """Nobody but the owner of a partition could have written that; and the partition goes on."""
    run = Story("r1", {"id": "w", "steps": [{"name": [], "type": "delay", "config": {"duration": 1}}]})
    _, batch = fold_of(log_of(run.requested(1)))
    (row,) = batch.runs
    assert "cannot be folded" in (row.set_aside or "")
    assert row.view["steps"] == []


def test_a_state_that_cannot_be_written_is_folded_from_history() -> None:
    """A payload nested deeper than JSON is written here does not stop the partition."""
    run = Log(1).story(0, payload={"deep": "here"})
    value = run.requested(1).replace(b'"here"', b"[" * 300 + b"]" * 300)
    _, batch = fold_of(log_of(value))
    (row,) = batch.runs
    assert (row.state, row.state_version) == (b"", NEVER_SAVED)
    again = refold(row.run_id, [event.value for event in batch.history])
    assert (again.seq, again.tip) == (1, digest(value))


def test_refold_gives_the_run_of_the_fold() -> None:
    """From the bytes of its history alone."""
    log = random_log(9, partitions=1)
    fold, batch = fold_of(log)
    assert fold.runs
    for run in fold.runs.values():
        assert refold(run.id, [row.value for row in batch.history if row.run_id == run.id]).dump() == run.dump()


def test_the_collector_rests_while_many_runs_are_loaded() -> None:
    """Nested loads too; afterwards it is on again."""
    assert gc.isenabled()
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
