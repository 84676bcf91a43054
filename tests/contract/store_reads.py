"""What the API shows, the same on every store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from projections.fold import PartitionFold
from projections.tables import Tables
from schemas.errors import StalePosition
from schemas.store import RunFilter
from tests.contract.cases import ids_of, pending, whole_log
from tests.feeding import CLUSTER, feed, fold_batch
from tests.histories import BASE_S, Log


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

    async def test_a_run_stands_as_a_worker_would_load_it(self, store: Tables) -> None:
        """Its state, when the log took its last event, and where the tables of its partition stand."""
        log, stories = whole_log("RUNNING", "PENDING")
        await feed(store, log)
        unfinished = {run.id: run for run in (await store.snapshot(0)).runs}
        end = len(log.records[0])
        for story, last in zip(stories, (end - 2, end - 1), strict=True):
            standing = await store.standing(story.run_id)
            assert standing is not None
            assert (standing.run.id, standing.run.dump()) == (story.run_id, unfinished[story.run_id].dump())
            assert standing[1:] == (log.records[0][last].timestamp, last + 1, end)

    async def test_a_finished_run_stands_as_its_end_says(self, store: Tables) -> None:
        """Its state is gone from the row; status, time and error are those of its last event."""
        log, (story,) = whole_log("SUCCESS")
        await feed(store, log)
        standing = await store.standing(story.run_id)
        assert standing is not None
        run, end = standing.run, len(log.records[0])
        assert (run.phase, run.status, run.error, run.finished_at) == ("done", "SUCCESS", None, story.now)
        assert standing[1:] == (log.records[0][-1].timestamp, end, end)

    async def test_a_run_that_is_set_aside_stands_as_its_history_says(self, store: Tables) -> None:
        """Folded anew, as a worker does: this program may know how."""
        log, (story,) = whole_log("RUNNING")
        log.append(0, story.event(log.epochs[0], "StepDreamt", {}))
        await feed(store, log)
        standing = await store.standing(story.run_id)
        assert standing is not None
        assert "'StepDreamt'" in str(standing.run.set_aside)

    async def test_what_has_no_event_does_not_stand(self, store: Tables) -> None:
        """A command that waits, and an id that nobody has."""
        await store.apply_pending(0, 0, 1, [pending("r1")])
        assert [await store.standing(run_id) for run_id in ("r1", "nobody")] == [None, None]

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

    async def test_unfinished_runs_are_counted(self, store: Tables) -> None:
        """Of one workflow, waiting commands among them, up to a limit."""
        log, _ = whole_log("SUCCESS", "RUNNING", "RUNNING", "SUCCESS", "PENDING")
        await feed(store, log)
        await store.apply_pending(0, 0, 2, [pending("r1", 0, workflow_id="flow-0"), pending("r2", 1)])
        assert await store.unfinished("flow-0", limit=9) == 3
        assert await store.unfinished("flow-0", limit=2) == 2
        assert [await store.unfinished(name, limit=9) for name in ("flow-1", "greet", "nobody")] == [1, 1, 0]

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
