"""Batches, the fence and what the engine reads back, the same on every store. A backend's test file subclasses it with a fixture `store`."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from projections.fold import PartitionFold
from projections.memory import MemoryStore
from projections.retry import quarantined, retry
from projections.tables import Tables
from schemas import run as runs
from schemas.errors import StalePosition
from schemas.identity import digest
from schemas.run import EVOLVE_VERSION, Run, evolve
from schemas.store import Mark, RunFilter, Tip
from tests.contract.cases import ids_of, whole_log
from tests.feeding import CLUSTER, everything, feed, fold_batch
from tests.histories import Log, cut, random_log


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

    async def test_a_run_that_was_set_aside_is_folded_again(
        self, store: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By a program that knows how; a projector that still has it set aside meets the fence, and loads it sound."""
        log, (poisoned, other) = whole_log("RUNNING", "RUNNING")

        def ignorant(run: Run, *event: Any) -> None:
            if run.id == poisoned.run_id and event[0] == "StepStarted":
                raise ValueError("it is from the future")
            evolve(run, *event)

        with monkeypatch.context() as before:
            before.setattr(runs, "evolve", ignorant)
            projector = await feed(store, log)
            (found,) = await store.set_aside("", limit=9)
            assert (found[:3], await store.count_set_aside()) == ((poisoned.run_id, 0, poisoned.seq), 1)
            assert "it is from the future" in found.reason
            assert [each async for each in quarantined(store)] == [found]
            still = await retry(store, poisoned.run_id)
            assert still == (poisoned.run_id, found.reason)
        assert await retry(store, poisoned.run_id) == (poisoned.run_id, None)
        assert (await store.set_aside("", limit=9), await store.count_set_aside()) == ([], 0)
        assert await retry(store, poisoned.run_id) is None
        assert await retry(store, other.run_id) is None
        log.append(0, poisoned.event(1, "StepSucceeded", {"step": "step_0", "attempt": 1, "output": 5}))
        with pytest.raises(StalePosition):
            await store.apply(await fold_batch(projector, store, log.records[0][projector.position :]))
        await feed(store, log)
        reference = MemoryStore()
        await feed(reference, log)
        assert await store.run(poisoned.run_id) == await reference.run(poisoned.run_id)
        assert {run.id: run.dump() for run in (await store.snapshot(0)).runs} == {
            run.id: run.dump() for run in (await reference.snapshot(0)).runs
        }

    async def test_a_program_that_knows_how_loads_runs_sound(
        self, store: Tables, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker or projector that starts after a run was set aside folds it from its history."""
        log, (story,) = whole_log("RUNNING")

        def ignorant(_run: Run, *_event: Any) -> None:
            raise ValueError("it is from the future")

        with monkeypatch.context() as before:
            before.setattr(runs, "evolve", ignorant)
            await feed(store, log)
            assert [run.set_aside is None for run in (await store.snapshot(0)).runs] == [False]
        (run,) = (await store.snapshot(0)).runs
        assert (run.id, run.set_aside, run.status) == (story.run_id, None, "RUNNING")

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
