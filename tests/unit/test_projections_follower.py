"""The follower: a store in memory that one process fills from the topics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from projections import follower
from projections.follower import Follower
from projections.memory import MemoryStore
from schemas.errors import LogMismatch
from schemas.ports import TP, Record
from schemas.settings import Settings
from tests.fake_log import FakeTopics
from tests.feeding import everything, feed
from tests.histories import Log, command, random_log


class Leaky(FakeTopics):
    """Topics whose first walks pass over some records."""

    leaks = 3

    async def follow(self, positions: Mapping[TP, int]) -> AsyncIterator[tuple[TP, Sequence[Record]]]:
        async for tp, records in super().follow(positions):
            self.leaks -= 1
            yield tp, records[1:] if self.leaks >= 0 and len(records) > 1 else records


@asynccontextmanager
async def following(topics: FakeTopics) -> AsyncIterator[tuple[Follower, MemoryStore]]:
    store = MemoryStore()
    one = Follower(topics.settings, store, topics)
    running = asyncio.ensure_future(one.run())
    try:
        async with asyncio.timeout(10):
            yield one, store
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, LogMismatch):
            await running


async def until(reached: Callable[[], object]) -> None:
    while not reached():  # noqa: ASYNC110 - it is not ours to signal
        await asyncio.sleep(0.001)


def topics_of(log: Log, kind: type[FakeTopics] = FakeTopics) -> FakeTopics:
    return kind(Settings(storage_backend="memory", workflow_partitions=log.partitions), log)


async def same(store: MemoryStore, log: Log) -> bool:
    reference = MemoryStore()
    for partition in range(log.partitions):
        await feed(reference, log, partition=partition)
    rows = (await everything(store))["rows"]
    assert rows == (await everything(reference))["rows"]
    return bool(rows)


async def test_it_is_level_when_all_that_stood_there_is_folded() -> None:
    """What the log held at the call is in the store when the call returns; what comes later follows."""
    log = random_log(61)
    async with following(topics_of(log)) as (one, store):
        await one.level()
        assert await same(store, log)
        log.take(0)
        await one.level()
        assert await same(store, log)


async def test_an_empty_log_is_level_at_once() -> None:
    """Nothing to wait for."""
    async with following(topics_of(Log(2))) as (one, _):
        await one.level()


async def test_waiting_commands_are_shown() -> None:
    """Until their run's first event, as with every other store."""
    log = Log(1)
    epoch = log.take(0)
    story = log.story(0)
    topics = topics_of(log)
    topics.put_command(0, command(story.run_id))
    topics.put_command(0, b"{", hole=2)
    async with following(topics) as (one, store):
        await until(lambda: one.positions()[TP(topics.settings.topics.trigger, 0)] == 4)
        run = await store.run(story.run_id)
        assert run is not None
        assert run.view["status"] == "PENDING"
        log.append(0, story.requested(epoch))
        await one.level()
        run = await store.run(story.run_id)
        assert run is not None
        assert run.place == ("e", 0)


async def test_kafka_that_is_away_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, and goes on where it stood."""
    monkeypatch.setattr(follower, "RETRY_S", 0.001)
    log = random_log(62)
    topics = topics_of(log)
    async with following(topics) as (one, store):
        await one.level()
        topics.away = True
        await until(lambda: one.waits)
        log.take(0)
        log.take(1)
        topics.away = False
        await one.level()
        await until(lambda: one.waits is None)
        assert await same(store, log)


async def test_what_was_passed_over_is_read_again() -> None:
    """Reading goes back to what is missing."""
    log = random_log(63)
    async with following(topics_of(log, Leaky)) as (one, store):
        await one.level()
        assert await same(store, log)


async def test_a_hole_in_the_log_ends_it() -> None:
    """A record that is missing cannot be skipped: whoever runs the follower hears of it."""
    log = random_log(64, partitions=1)
    del log.records[0][7]
    one = Follower(topics_of(log).settings, MemoryStore(), topics_of(log))
    with pytest.raises(LogMismatch, match="offset 7 is missing"):
        async with asyncio.timeout(10):
            await one.run()
