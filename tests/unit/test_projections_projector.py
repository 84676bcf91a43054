"""The projector on a log in memory: what it does with gaps, outages, other projectors and foreign logs."""

from __future__ import annotations

import asyncio

import pytest

from projections import projector
from projections.lag import Lag
from projections.lane import STARTED
from projections.memory import MemoryStore
from tests.feeding import everything, feed
from tests.histories import command, random_log
from tests.projecting import World, impatient_lanes, world

pytestmark = pytest.mark.usefixtures("impatient")
__all__ = ["impatient_lanes"]


async def test_the_log_comes_into_the_store() -> None:
    """All partitions, in many batches, give the rows that one fold of the log gives."""
    async with world(random_log(1)) as w:
        await w.until_level()
        assert await everything(w.store) == await w.expected()
        assert sum(w.projector.orphans().values()) > 0
        counts, rows = w.projector.counts, (await everything(w.store))["rows"]
        assert counts[STARTED] == len(rows)
        assert counts.total() - counts[STARTED] == sum(row.chain.done for row in rows.values())


async def test_it_knows_how_far_it_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """In events and in seconds, by partition: as old as the first event is that it lacks, by the log's own time when it was
    there before the process; nothing when it is level."""
    monkeypatch.setattr(projector, "ENDS_S", 0.01)
    async with world(random_log(1)) as w:
        w.store.away = True
        await w.until(lambda: all(s.waits for s in w.projector.status().values()))
        assert {s.lag for s in w.projector.status().values()} == {None}
        w.store.away = False
        await w.until_level()
        await w.until(lambda: all(s.lag == Lag(0, 0.0) for s in w.projector.status().values()))
        w.store.away = True
        w.log.append(1, b"not an event")
        await w.until(lambda: (lag := w.projector.status()[1].lag) and lag.records == 1 and 0 < lag.seconds < 10)
        assert w.projector.status()[0].lag == Lag(0, 0.0)


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


async def test_older_commands_are_noticed_without_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that have seen fewer commands: a reader that waits for one of them is not left alone."""
    monkeypatch.setattr("projections.projector.TABLES_S", 0.01)
    async with world(random_log(15, partitions=1, runs=3)) as w:
        w.topics.put_command(0, command("waits"))
        await w.until_level()
        w.store._data.commands[0] = 0
        del w.store._data.pending["waits"]
        async with asyncio.timeout(10):
            while (await w.store.positions())["t", 0] != 1:
                w.group.pump()
                await asyncio.sleep(0.001)
        assert await w.store.run("waits") is not None


async def test_older_tables_are_noticed_without_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody restores yesterday's tables while nothing happens: what they lack is brought again."""
    monkeypatch.setattr("projections.projector.TABLES_S", 0.01)
    log = random_log(14, partitions=1)
    async with world(log) as w:
        await w.until_level()
        yesterday = MemoryStore()
        await feed(yesterday, log, cuts=[log.records[0][:30]])
        w.store._data = yesterday._data
        async with asyncio.timeout(10):
            while (await w.store.positions())["e", 0] != len(log.records[0]):
                w.group.pump()
                await asyncio.sleep(0.001)
        assert await everything(w.store) == await w.expected()
