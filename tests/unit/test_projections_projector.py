"""The projector on a log in memory: what it does with gaps, outages, other projectors and foreign logs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from projections import lane
from projections.memory import MemoryStore
from projections.projector import Projector
from schemas.errors import StoreAway
from schemas.ports import TP
from schemas.settings import Settings
from schemas.store import Batch, PendingRow, RunFilter, Snapshot, Tip
from tests.fake_log import FakeGroup, FakeTopics
from tests.feeding import everything, feed
from tests.histories import Log, command, id_at, random_log, reencoded


class TestStore(MemoryStore):
    """A store in memory that notes what it is asked and fails when told to."""

    __test__ = False

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.lose_answers = 0
        self.batches: list[Batch] = []
        self.pending: list[PendingRow] = []
        self.snapshots = 0

    def _answer(self) -> None:
        if self.away:
            raise StoreAway(reason="the test says so")

    async def snapshot(self, partition: int) -> Snapshot:
        self._answer()
        self.snapshots += 1
        return await super().snapshot(partition)

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        self._answer()
        return await super().tips(partition, run_ids)

    async def apply(self, batch: Batch) -> None:
        self._answer()
        await super().apply(batch)
        self.batches.append(batch)
        if self.lose_answers:
            self.lose_answers -= 1
            raise StoreAway(reason="the answer was lost")

    async def apply_pending(self, partition: int, start: int, end: int, rows: Sequence[PendingRow]) -> None:
        self._answer()
        self.pending += rows
        await super().apply_pending(partition, start, end, rows)


class World:
    """A projector with all that it needs, started and assigned."""

    def __init__(self, log: Log, **settings: Any) -> None:
        self.settings = Settings(workflow_partitions=log.partitions, **settings)
        self.log, self.topics, self.store = log, FakeTopics(self.settings, log), TestStore()
        self.projector = Projector(self.settings, self.store, self.topics)
        self.group = FakeGroup(self.topics, self.projector)
        self.events, self.commands = TP(self.settings.topics.events, 0), TP(self.settings.topics.trigger, 0)

    async def until(self, reached: Callable[[], object]) -> None:
        """Hand over records until this is so."""
        async with asyncio.timeout(10):
            while not reached():
                self.group.pump()
                await asyncio.sleep(0.001)

    async def until_level(self) -> None:
        ends = await self.topics.end_offsets(self.topics.tps)
        await self.until(
            lambda: all(
                (status.position, status.commands) == (ends[TP(self.events.topic, n)], ends[TP(self.commands.topic, n)])
                for n, status in self.projector.status().items()
            )
        )

    async def expected(self) -> dict[str, Any]:
        """What a store holds into which the log was folded at once."""
        reference = MemoryStore()
        for partition in range(self.log.partitions):
            await feed(reference, self.log, partition=partition)
        return await everything(reference)


@asynccontextmanager
async def world(log: Log, **settings: Any) -> AsyncIterator[World]:
    world = World(log, **settings)
    world.projector.connect(world.group)
    world.projector.start()
    await world.group.join()
    try:
        yield world
    finally:
        await world.projector.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "RETRY_S", 0.01)
    monkeypatch.setattr(lane, "RECHECK_S", 0.01)
    monkeypatch.setattr(lane, "LINGER_S", 0.0)


async def test_the_log_comes_into_the_store() -> None:
    """All partitions, in many batches, give the rows that one fold of the log gives."""
    async with world(random_log(1)) as w:
        await w.until_level()
        assert await everything(w.store) == await w.expected()
        assert sum(w.projector.orphans().values()) > 0
        assert {s.lag for s in w.projector.status().values()} == {0}


async def test_what_waits_is_written_as_one_batch() -> None:
    """Under load batches grow up to their bound: what came while another was written goes together."""
    async with world(random_log(2, partitions=1, runs=60), workflow_projector_batch_max=200) as w:
        w.group.batch_records = 10
        await w.until_level()
        sizes = [batch.mark.position - batch.start for batch in w.store.batches]
        assert max(sizes) <= 210
        w.store.away = True
        tail = random_log(2, partitions=1, runs=60)
        w.log.take(0)
        for _ in range(300):
            w.log.append(0, tail.records[0][3].value)
        await w.until(lambda: w.projector.status()[0].waits)
        assert w.group.paused >= {w.events, w.commands}
        w.store.away = False
        await w.until_level()


async def test_intake_pauses_when_too_much_waits() -> None:
    """More than two batches waiting stop the intake; it goes on when they are written."""
    log = random_log(3, partitions=1, runs=40)
    async with world(log, workflow_projector_batch_max=20) as w:
        await w.until(lambda: w.projector.status()[0].loaded)
        for _ in range(10):
            w.group.pump()
        assert w.events in w.group.paused
        assert w.projector.status()[0].position == 0
        await w.until_level()
        assert w.events not in w.group.paused


async def test_a_store_that_is_away_is_waited_for() -> None:
    """Nothing is lost or written twice; meanwhile the lane says what it waits for and may stand still."""
    async with world(random_log(4, partitions=1)) as w:
        w.store.away = True
        await w.until(lambda: w.projector.status()[0].waits)
        assert "the test says so" in (w.projector.status()[0].waits or "")
        assert set(w.projector.excused()) == {w.events, w.commands}
        w.store.away = False
        await w.until_level()
        assert w.projector.status()[0].waits is None
        assert set(w.projector.excused()) == set()
        assert await everything(w.store) == await w.expected()


async def test_a_commit_whose_answer_was_lost_is_found_by_its_mark() -> None:
    """The batch was written, the answer did not come: it is not written again and nothing is loaded anew."""
    async with world(random_log(5, partitions=1), workflow_projector_batch_max=20) as w:
        w.group.batch_records, w.store.lose_answers = 10, 3
        await w.until_level()
        assert w.store.lose_answers == 0
        assert w.store.snapshots == 1
        assert await everything(w.store) == await w.expected()


async def test_kafka_that_is_away_is_waited_for() -> None:
    """A partition whose log cannot be asked about is not read, and says so."""
    log = random_log(6, partitions=1)
    w = World(log)
    w.projector.connect(w.group)
    w.topics.away = True
    await w.group.join()
    await w.until(lambda: w.projector.status()[0].waits)
    assert w.group.paused == {w.events, w.commands}
    w.topics.away = False
    await w.until_level()
    await w.projector.close()


async def test_another_projector_was_faster() -> None:
    """Who meets the fence loads again from the store and goes on behind the other."""
    log = random_log(7, partitions=1)
    async with world(log) as w:
        await w.until(lambda: w.store.batches)
        await feed(w.store, log)
        loaded = w.store.snapshots
        log.take(0)
        story = log.story(0)
        log.append(0, story.requested(log.epochs[0]))
        await w.until_level()
        assert w.store.snapshots == loaded + 1
        assert await everything(w.store) == await w.expected()


async def test_a_record_that_was_passed_over_is_read_again() -> None:
    """Whatever the transport loses, between or inside batches, the fold takes every offset once."""
    log = random_log(8, partitions=1)
    async with world(log) as w:
        w.group.batch_records = 7
        w.group.lose = {(w.events, offset) for offset in range(3, 60, 9)}
        await w.until_level()
        assert len(w.group.seeks) > 3
        assert await everything(w.store) == await w.expected()


async def test_a_hole_in_the_events_stops_the_partition() -> None:
    """A record that is really missing cannot be skipped: the partition stands still and names the offset."""
    log = random_log(9, partitions=1)
    del log.records[0][20]
    async with world(log) as w:
        await w.until(lambda: w.projector.status()[0].stopped)
        assert "offset 20 is missing" in (w.projector.status()[0].stopped or "")
        assert w.projector.status()[0].position <= 20


def _other_cluster(w: World) -> None:
    w.topics.cluster = "cluster-2"


def _cut_short(w: World) -> None:
    del w.log.records[0][-1]


def _other_bytes(w: World) -> None:
    last = w.log.records[0][-1]
    w.log.records[0][-1] = replace(last, value=reencoded(last.value or b"{}", cause="another"))


def _beginning_lost(w: World) -> None:
    w.topics.begins[w.events] = len(w.log.records[0])


def _commands_cut_short(w: World) -> None:
    w.topics.commands[0].clear()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_cluster, "cluster-2"),
        (_cut_short, "stand at"),
        (_other_bytes, "digest"),
        (_beginning_lost, "stand at"),
        (_commands_cut_short, "workflow.trigger"),
    ],
)
async def test_a_log_that_is_not_ours_is_not_read(change: Callable[[World], None], words: str) -> None:
    """Another cluster, a log that was cut, rewritten or lost its beginning: the partition stops with words, nothing changes."""
    log, _ = Log(1), None
    epoch = log.take(0)
    for value in log.story(0).whole(epoch):
        log.append(0, value)
    async with world(log) as w:
        w.topics.put_command(0, command("some-run"))
        await w.until_level()
        before = await everything(w.store)
        kept = list(log.records[0]), list(w.topics.commands[0])
        await w.group.leave()
        change(w)
        await w.group.join()
        await w.until(lambda: w.projector.status()[0].stopped)
        stopped = w.projector.status()[0].stopped or ""
        assert words in stopped
        assert "workflow rebuild" in stopped
        assert set(w.projector.excused()) == {w.events, w.commands}
        assert await everything(w.store) == before
        log.records[0][:], w.topics.commands[0][:] = kept
        w.topics.cluster = "cluster-1"
        w.topics.begins.clear()
        await w.until(lambda: w.projector.status()[0].loaded)


async def test_an_empty_store_refuses_a_log_without_its_beginning() -> None:
    """Tables that were made from half a log would be wrong without a word."""
    log = random_log(10, partitions=1)
    w = World(log)
    w.projector.connect(w.group)
    w.topics.begins[w.events] = 5
    await w.group.join()
    await w.until(lambda: w.projector.status()[0].stopped)
    assert "first 5 records are gone" in (w.projector.status()[0].stopped or "")
    await w.projector.close()


async def test_a_command_that_becomes_a_run_leaves_no_trace() -> None:
    """Its position moves in the transaction of its run; no row is written for it."""
    log = Log(1)
    epoch = log.take(0)
    story = log.story(0)
    async with world(log) as w:
        w.topics.put_command(0, command(story.run_id))
        await w.until(lambda: w.projector._lanes[0].held)
        log.append(0, story.requested(epoch))
        await w.until_level()
        assert w.store.pending == []
        assert [batch.commands for batch in w.store.batches if batch.commands] == [(0, 1)]


async def test_a_command_that_waits_is_shown() -> None:
    """After a moment it shows as PENDING; its run's first event takes the row away."""
    log = Log(1)
    epoch = log.take(0)
    story = log.story(0)
    async with world(log) as w:
        w.topics.put_command(0, command(story.run_id, payload={"n": 1}))
        await w.until(lambda: w.store.pending)
        run = await w.store.run(story.run_id)
        assert run is not None
        assert (run.view["status"], run.view["payload"], run.place) == ("PENDING", {"n": 1}, ("t", 0))
        log.append(0, story.requested(epoch))
        await w.until_level()
        assert [run.place for run in await w.store.runs(RunFilter(), after=None, limit=9)] == [("e", 0)]


async def test_commands_that_are_none_are_passed_by() -> None:
    """What cannot be read, is not at home here or starts nothing makes no row; the position moves over it."""
    log = Log(2)
    log.take(0)
    log.take(1)
    async with world(log) as w:
        stray = id_at(log.rng, 1, 2)
        foreign = b'{"workflow_id": "greet", "payload": {}}'
        for value in (b"{", b'{"workflow_id": 5}', command(stray), b'{"type":"CancelRun","run_id":"x"}', foreign):
            w.topics.put_command(0, value)
        await w.until_level()
        assert [row.offset for row in w.store.pending] == [4]
        assert (await w.store.positions())["t", 0] == 5


async def test_a_hole_in_the_commands_is_passed_after_one_look_back() -> None:
    """That topic may have holes: one seek back, then reading goes on."""
    async with world(Log(1)) as w:
        w.topics.put_command(0, command("one"))
        await w.until_level()
        w.topics.put_command(0, command("two"), hole=3)
        await w.until_level()
        assert sorted(row.run_id for row in w.store.pending) == ["one", "two"]
        assert [seek for seek in w.group.seeks if seek == {w.commands: 1}] == [{w.commands: 1}]


async def test_commands_deleted_long_ago_are_not_missed() -> None:
    """The platform deletes commands that were decided: reading goes on at the first that is kept."""
    async with world(Log(1)) as w:
        w.topics.put_command(0, command("late"), hole=7)
        await w.group.leave()
        w.topics.begins[w.commands] = 7
        await w.group.join()
        await w.until_level()
        assert [row.run_id for row in w.store.pending] == ["late"]


async def test_a_partition_that_comes_back_goes_on_from_memory() -> None:
    """A rebalance that changes nothing costs one look at the mark, not a snapshot."""
    log = random_log(11, partitions=1)
    async with world(log) as w:
        await w.until_level()
        await w.group.leave()
        log.take(0)
        await w.group.join()
        await w.until_level()
        assert w.store.snapshots == 1
        await w.group.leave()
        log.take(0)
        await feed(w.store, log)
        loaded = w.store.snapshots
        await w.group.join()
        await w.until_level()
        assert w.store.snapshots == loaded + 1


async def test_what_nobody_handles_ends_the_process() -> None:
    """An error of ours is told to whoever runs the process; it is never retried in silence."""
    log = random_log(12, partitions=1)
    told: list[BaseException] = []
    async with world(log) as w:
        w.projector.on_failure = told.append
        w.store.apply = None  # type: ignore[method-assign,assignment]
        await w.until(lambda: told)
        assert isinstance(told[0], TypeError)


async def test_group_offsets_follow_lazily(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are for people who look at the group: what was written, and nothing depends on them."""
    monkeypatch.setattr("projections.projector.COMMIT_S", 0.01)
    async with world(random_log(13, partitions=1)) as w:
        await w.until_level()
        end = len(w.log.records[0])
        await w.until(lambda: w.group.commits and w.group.commits[-1] == {w.events: end, w.commands: 0})
