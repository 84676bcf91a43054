"""What every store does. A backend's test file subclasses these with a fixture `store`."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from projections.fold import PartitionFold
from projections.tables import Tables
from schemas.errors import StalePosition
from schemas.identity import digest
from schemas.run import EVOLVE_VERSION
from schemas.store import Mark, PendingRow, RunFilter, Tip
from tests.feeding import CLUSTER, everything, feed, fold_batch
from tests.histories import BASE_S, Log, Story, cut, definition, random_log


def pending(
    run_id: str, offset: int = 0, *, workflow_id: str = "greet", created_at: str = "2026-01-01T00:00:00Z"
) -> PendingRow:
    return PendingRow(run_id, 0, offset, workflow_id, None, b'{"n":9007199254740993}', created_at)


def whole_log(*statuses: str, seed: int = 1) -> tuple[Log, list[Story]]:
    """One run per status, of a workflow each, a second apart."""
    log, stories = Log(1, seed), []
    epoch = log.take(0)
    for n, status in enumerate(statuses):
        story = log.story(0, workflow_id=f"flow-{n % 2}", payload={"n": n})
        story.clock_s = BASE_S + n
        log.append(0, story.requested(epoch))
        if status in ("RUNNING", "SUCCESS"):
            log.append(0, story.event(epoch, "StepStarted", {"step": "step_0", "attempt": 1}))
        if status == "SUCCESS":
            log.append(0, story.completed(epoch))
        stories.append(story)
    return log, stories


async def ids_of(store: Tables, where: RunFilter, after: tuple[str, str] | None = None, limit: int = 100) -> list[str]:
    return [run.view["run_id"] for run in await store.runs(where, after=after, limit=limit)]


class WriteContract:
    """Batches, the fence and what the engine reads back."""

    async def test_an_empty_store_has_nothing(self, store: Tables) -> None:
        """Tables that were just made answer every question with nothing."""
        snapshot = await store.snapshot(0)
        assert (snapshot.mark, snapshot.runs) == (None, [])
        assert await store.tips(0, ["a"]) == (0, {})
        assert (await store.run("a"), list(await store.runs(RunFilter(), after=None, limit=5))) == (None, [])
        assert await store.positions() == {}

    async def test_the_mark_says_where_the_tables_stand(self, store: Tables) -> None:
        """Position, epoch, digest of the record before it and cluster are kept with the batch."""
        log, _ = whole_log("SUCCESS", "RUNNING")
        await feed(store, log)
        last = log.records[0][-1]
        expected = Mark(last.offset + 1, 1, digest(last.value or b""), CLUSTER)
        assert await store.mark(0) == (await store.snapshot(0)).mark == expected
        assert await store.positions() == {("e", 0): last.offset + 1}

    async def test_a_batch_that_starts_elsewhere_is_refused_whole(self, store: Tables) -> None:
        """A redelivered batch, or that of a slower projector, changes nothing."""
        log, _ = whole_log("RUNNING")
        fold = PartitionFold(0, 1, CLUSTER)
        batch = await fold_batch(fold, store, log.records[0])
        await store.apply(batch)
        before = await everything(store)
        with pytest.raises(StalePosition):
            await store.apply(batch)
        with pytest.raises(StalePosition):
            await store.apply(replace(batch, start=99))
        assert await everything(store) == before

    async def test_unfinished_runs_are_in_the_snapshot(self, store: Tables) -> None:
        """The snapshot holds each unfinished run of the partition, byte for byte as the fold left it."""
        log = random_log(3)
        folds = [await feed(store, log, partition=n) for n in range(2)]
        for fold in folds:
            snapshot = await store.snapshot(fold.partition)
            assert {run.id: run.dump() for run in snapshot.runs} == {run.id: run.dump() for run in fold.runs.values()}
            assert fold.runs

    async def test_the_fold_goes_on_from_a_snapshot(self, store: Tables) -> None:
        """Loaded anew before every batch, the tables end as if folded at once."""
        log, rng = random_log(4, partitions=1), Random(4)
        for batch in cut(log.records[0], rng, 25):
            await feed(store, log, cuts=[batch])
        position = (await store.positions())["e", 0]
        assert position == len(log.records[0])
        assert {
            run.view["run_id"]: run.view["seq"] for run in await store.runs(RunFilter(), after=None, limit=100)
        } == {run_id: tip.seq for run_id, tip in (await store.tips(0, await ids_of(store, RunFilter())))[1].items()}

    async def test_tips_are_kept_for_ever(self, store: Tables) -> None:
        """A run that had its first event has a tip, finished or not; others and those of other partitions have none."""
        log, (ended, running) = whole_log("SUCCESS", "RUNNING")
        await feed(store, log)
        position, tips = await store.tips(0, [ended.run_id, running.run_id, "nobody"])
        assert position == len(log.records[0])
        assert tips == {
            ended.run_id: Tip(3, ended.tip or "", True),
            running.run_id: Tip(2, running.tip or "", False),
        }
        assert await store.tips(1, [ended.run_id]) == (0, {})

    async def test_tips_of_several_partitions_are_one_question(self, store: Tables) -> None:
        """Each partition answers with its position and the tips of its own runs."""
        log = random_log(2)
        for partition in range(2):
            await feed(store, log, partition=partition)
        ids = await ids_of(store, RunFilter())
        assert len(ids) > 10
        answers = await store.tips_of({0: ids, 1: ids, 5: ["nobody"]})
        assert {n: answer[0] for n, answer in answers.items()} == {0: len(log.records[0]), 1: len(log.records[1]), 5: 0}
        assert dict(answers[5][1]) == {}
        for partition in range(2):
            assert answers[partition] == await store.tips(partition, ids)
        assert len(answers[0][1]) + len(answers[1][1]) == len(ids)

    async def test_a_state_of_another_version_is_folded_from_history(self, store: Tables) -> None:
        """A snapshot that another version of the fold has written gives the same runs."""
        log, (_, story) = whole_log("SUCCESS", "RUNNING")
        fold = PartitionFold(0, 1, CLUSTER)
        batch = await fold_batch(fold, store, log.records[0])
        old = [row._replace(state=b"not ours", state_version=EVOLVE_VERSION + 1) for row in batch.runs if not row.done]
        await store.apply(replace(batch, runs=[row for row in batch.runs if row.done] + old))
        runs = (await store.snapshot(0)).runs
        assert [run.dump() for run in runs] == [fold.runs[story.run_id].dump()]

    async def test_a_set_aside_run_keeps_history_and_chain(self, store: Tables) -> None:
        """After an event that nobody knows, columns stand still; seq, digest and history go on, and the reason is shown."""
        log, (story,) = whole_log("RUNNING")
        log.append(0, story.event(1, "StepTeleported", {"step": "step_0"}))
        log.append(0, story.event(1, "StepSucceeded", {"step": "step_0", "attempt": 1, "output": 5}))
        await feed(store, log)
        run = await store.run(story.run_id)
        assert run is not None
        assert (run.view["seq"], run.view["status"], run.view["results"]) == (4, "RUNNING", {})
        assert "StepTeleported" in (run.view["set_aside"] or "")
        assert (await store.tips(0, [story.run_id]))[1][story.run_id].digest == story.tip
        events = await store.events(story.run_id, order="asc", before_seq=None, after_seq=None, types=[], limit=10)
        assert [event.seq for event in events] == [1, 2, 3, 4]

    async def test_a_run_that_could_never_be_shown_is_listed_with_its_reason(self, store: Tables) -> None:
        """A first event whose data makes no columns still makes a run, set aside, found by id and in lists."""
        log = Log(1)
        epoch = log.take(0)
        story = log.story(0)
        log.append(0, story.event(epoch, "RunRequested", {"workflow_id": 7}))
        await feed(store, log)
        run = await store.run(story.run_id)
        assert run is not None
        assert (run.view["set_aside"] or "").startswith("RunRequested at seq 1 cannot be folded")
        assert await ids_of(store, RunFilter()) == [story.run_id]
        assert await ids_of(store, RunFilter(), after=("", story.run_id)) == []

    async def test_migrating_again_changes_nothing(self, store: Tables) -> None:
        """Every process may bring the tables to its version at its start."""
        log, _ = whole_log("SUCCESS")
        await feed(store, log)
        before = await everything(store)
        await store.migrate()
        assert await everything(store) == before


class ReadContract:
    """What the API shows."""

    async def test_values_come_back_exactly(self, store: Tables) -> None:
        """Payload, results and texts are what was sent: big integers, fractions, control characters, emoji."""
        values: dict[str, Any] = {
            "n": [2**53 + 1, -(2**63), 2**63 - 1, 0.1, 1e300, 1.0],
            "text": "\u0001é😀",
            "none": None,
            "": {},
        }
        log = Log(1)
        epoch = log.take(0)
        story = log.story(0, payload=values)
        for value in story.whole(epoch, values):
            log.append(0, value)
        await feed(store, log)
        run = await store.run(story.run_id)
        assert run is not None
        assert run.view["payload"] == values
        assert [type(number) for number in run.view["payload"]["n"]] == [int, int, int, float, float, float]
        assert run.view["results"] == {"step_0": values, "step_1": values}
        assert (run.view["status"], run.place, run.offset) == ("SUCCESS", ("e", 0), len(log.records[0]))
        assert run.view["steps"][1]["finished_at"] is not None

    async def test_history_is_paged_both_ways(self, store: Tables) -> None:
        """Pages by seq, bounds exclusive, by type, with the bytes of the log."""
        log = Log(1)
        epoch = log.take(0)
        story = log.story(0)
        for value in story.whole(epoch):
            log.append(0, value)
        await feed(store, log)

        async def seqs(
            order: str, before: int | None = None, after: int | None = None, types: tuple[str, ...] = (), limit: int = 9
        ) -> list[int]:
            rows = await store.events(
                story.run_id,
                order="asc" if order == "asc" else "desc",
                before_seq=before,
                after_seq=after,
                types=types,
                limit=limit,
            )
            assert all(row.value == log.records[0][row.offset].value for row in rows)
            assert all(row.at_ms == log.records[0][row.offset].timestamp for row in rows)
            return [row.seq for row in rows]

        assert await seqs("asc") == [1, 2, 3, 4, 5, 6]
        assert await seqs("desc", limit=2) == [6, 5]
        assert await seqs("desc", before=5, limit=2) == [4, 3]
        assert await seqs("asc", after=4) == [5, 6]
        assert await seqs("asc", types=("StepStarted", "RunCompleted")) == [2, 4, 6]
        assert await seqs("asc", after=2, before=6, types=("StepStarted",)) == [4]

    async def test_lists_are_newest_first_and_paged(self, store: Tables) -> None:
        """By creation, then id, both falling; a page goes on below the last one seen, also among equal times."""
        log = Log(1)
        epoch = log.take(0)
        stories = [log.story(0) for _ in range(9)]
        for n, story in enumerate(stories):
            story.clock_s = BASE_S + n // 3
            log.append(0, story.requested(epoch))
        await feed(store, log)
        expected = [s.run_id for s in sorted(stories, key=lambda s: (int(s.clock_s), s.run_id), reverse=True)]
        seen: list[str] = []
        after = None
        while page := await store.runs(RunFilter(), after=after, limit=2):
            seen += [run.view["run_id"] for run in page]
            after = (page[-1].view["created_at"], page[-1].view["run_id"])
        assert seen == expected

    async def test_order_is_that_of_time_not_of_text(self, store: Tables) -> None:
        """Times of foreign commands come with and without fractions; lists order the instants."""
        for n, at in enumerate(["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.250000Z"]):
            await store.apply_pending(0, n, n + 1, [pending(f"r{n}", n, created_at=at)])
        assert await ids_of(store, RunFilter()) == ["r1", "r2", "r0"]
        assert await ids_of(store, RunFilter(created_after="2026-01-01T00:00:00Z")) == ["r1", "r2"]

    async def test_lists_are_filtered(self, store: Tables) -> None:
        """By workflow, by status, by both, and by creation with exclusive bounds."""
        log, stories = whole_log("SUCCESS", "RUNNING", "RUNNING", "SUCCESS", "PENDING")
        await feed(store, log)
        ids = [story.run_id for story in stories]
        assert await ids_of(store, RunFilter(workflow_id="flow-0")) == [ids[4], ids[2], ids[0]]
        assert await ids_of(store, RunFilter(status="RUNNING")) == [ids[2], ids[1]]
        assert await ids_of(store, RunFilter(workflow_id="flow-1", status="SUCCESS")) == [ids[3]]
        times = [run.view["created_at"] for run in await store.runs(RunFilter(), after=None, limit=9)]
        between = RunFilter(created_after=times[4], created_before=times[1])
        assert await ids_of(store, between) == [ids[2], ids[1]]
        assert await ids_of(store, RunFilter(workflow_id="nobody")) == []

    async def test_a_waiting_command_is_shown_until_its_first_event(self, store: Tables) -> None:
        """A command shows as PENDING, found by id and in lists; the run's first event takes its place."""
        log, (story,) = whole_log("RUNNING")
        await store.apply_pending(0, 0, 8, [pending(story.run_id, 7)])
        waiting = await store.run(story.run_id)
        assert waiting is not None
        assert (waiting.view["status"], waiting.view["seq"], waiting.place, waiting.offset) == (
            "PENDING",
            0,
            ("t", 0),
            8,
        )
        assert waiting.view["payload"] == {"n": 2**53 + 1}
        assert await ids_of(store, RunFilter(status="PENDING", workflow_id="greet")) == [story.run_id]
        assert await store.tips(0, [story.run_id]) == (0, {})
        await feed(store, log)
        run = await store.run(story.run_id)
        assert run is not None
        assert (run.view["status"], run.place) == ("RUNNING", ("e", 0))
        assert await ids_of(store, RunFilter()) == [story.run_id]
        assert await store.positions() == {("e", 0): len(log.records[0]), ("t", 0): 8}

    async def test_a_command_of_a_run_is_not_kept(self, store: Tables) -> None:
        """Commands that come after their run leave no row; of two with one id the first stays."""
        log, (story,) = whole_log("SUCCESS")
        await feed(store, log)
        rows = [pending(story.run_id, 0), pending("twice", 1), pending("twice", 2, workflow_id="other")]
        await store.apply_pending(0, 0, 3, rows)
        twice = await store.run("twice")
        assert twice is not None
        assert twice.view["workflow_id"] == "greet"
        assert sorted(await ids_of(store, RunFilter())) == sorted([story.run_id, "twice"])

    async def test_commands_have_a_fence_of_their_own(self, store: Tables) -> None:
        """Commands that start elsewhere are refused, alone and beside a batch of events."""
        log, _ = whole_log("SUCCESS")
        await store.apply_pending(0, 0, 4, [])
        with pytest.raises(StalePosition):
            await store.apply_pending(0, 0, 4, [pending("late")])
        batch = await fold_batch(PartitionFold(0, 1, CLUSTER), store, log.records[0])
        with pytest.raises(StalePosition):
            await store.apply(replace(batch, commands=(3, 5)))
        assert await store.positions() == {("t", 0): 4}
        await store.apply(replace(batch, commands=(4, 6)))
        end = len(log.records[0])
        assert await store.positions() == {("e", 0): end, ("t", 0): 6}
        log.append(0, log.story(0).requested(1))
        fold = PartitionFold(0, 1, CLUSTER, batch.mark)
        more = await fold_batch(fold, store, log.records[0][end:])
        with pytest.raises(StalePosition):
            await store.apply(replace(more, commands=(5, 7)))
        assert await store.positions() == {("e", 0): end, ("t", 0): 6}
        await store.apply(replace(more, commands=(6, 7)))
        assert await store.positions() == {("e", 0): end + 1, ("t", 0): 7}


class TablesContract:
    """What rebuild and verify need."""

    async def test_an_audit_is_one_moment(self, store: Tables) -> None:
        """Rows written after an audit began are not in it."""
        log = random_log(5, partitions=1)
        half = len(log.records[0]) // 2
        await feed(store, log, cuts=[log.records[0][:half]])
        ids = await ids_of(store, RunFilter())
        async with store.audit() as audit:
            before = await audit.runs(ids), await audit.history(ids), await audit.marks()
            await feed(store, log)
            assert (await audit.runs(ids), await audit.history(ids), await audit.marks()) == before
        async with store.audit() as audit:
            assert await audit.runs(ids) != before[0]

    async def test_a_second_set_takes_the_place_of_the_first(self, store: Tables) -> None:
        """It fills beside the first, then serves; who wrote to the first meets the fence."""
        log = random_log(6, partitions=1)
        records = log.records[0]
        fold = await feed(store, log, cuts=[records[:30]])
        slow = await fold_batch(fold, store, records[30:60])
        second = await store.second()
        await second.migrate()
        await feed(second, log)
        expected = await everything(second)
        assert (await store.positions())["e", 0] == 30
        await store.swap(second)
        await second.close()
        assert await everything(store) == expected
        with pytest.raises(StalePosition):
            await store.apply(slow)
        third = await store.second()
        await third.migrate()
        assert await third.positions() == {}
        await third.close()
        assert await everything(store) == expected


class SharedContract:
    """Two processes on the same tables, each with a store of its own."""

    async def test_two_projectors_one_position(self, store: Tables, other: Tables) -> None:
        """Of two projectors with the same batch one writes, the other meets the fence, and both read the same."""
        log = random_log(7, partitions=1)
        first, second = PartitionFold(0, 1, CLUSTER), PartitionFold(0, 1, CLUSTER)
        await store.apply(await fold_batch(first, store, log.records[0][:50]))
        late = await fold_batch(second, other, log.records[0][:40])
        with pytest.raises(StalePosition):
            await other.apply(late)
        await feed(other, log)
        assert await everything(other) == await everything(store)

    async def test_the_other_process_follows_a_swap(self, store: Tables, other: Tables) -> None:
        """A process that did not rebuild reads and writes the new tables without being told."""
        log = random_log(8, partitions=1)
        await feed(other, log, cuts=[log.records[0][:20]])
        second = await store.second()
        await second.migrate()
        await feed(second, log, cuts=[log.records[0][:50]])
        await store.swap(second)
        await second.close()
        assert (await other.positions())["e", 0] == 50
        await feed(other, log)
        assert await everything(other) == await everything(store)


# `definition` is part of the suite's vocabulary for backends' own tests.
__all__ = ["ReadContract", "SharedContract", "TablesContract", "WriteContract", "definition", "pending", "whole_log"]
