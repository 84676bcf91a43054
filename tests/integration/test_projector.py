"""The projector on a real Kafka and a real PostgreSQL: joins, kills, a frozen database, two at once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.embedded.postgres import PostgresServer
from projections import lane
from projections.filesystem import FilesystemStore
from projections.postgres import PostgresStore
from projections.projector import Projector
from projections.rebuild import rebuild
from projections.tables import Tables
from projections.verify import verify
from schemas.errors import StoreAway
from schemas.ports import TP, Reader
from schemas.settings import Settings
from streams.kafka import LogReader
from streams.topics import ensure_topics
from tests.fake_log import FakeGroup, FakeTopics
from tests.feeding import everything, feed
from tests.histories import Log, command, random_log
from tests.members import member, produce, until


async def level(store: Tables, reader: Reader, settings: Settings) -> bool:
    """Whether the tables stand at the end of the log."""
    topics, numbers = settings.topics, range(settings.workflow_partitions)
    ends = await reader.end_offsets([TP(topic, n) for topic in (topics.events, topics.trigger) for n in numbers])
    try:
        at = await store.positions()
    except StoreAway:
        return False
    return all(at.get(("e" if tp.topic == topics.events else "t", tp.partition), 0) == end for tp, end in ends.items())


async def until_level(store: Tables, reader: Reader, settings: Settings) -> None:
    async with asyncio.timeout(60):
        while not await level(store, reader, settings):  # noqa: ASYNC110 - it is not ours to signal
            await asyncio.sleep(0.05)


async def sound(store: Tables, reader: Reader, settings: Settings) -> bool:
    """Whether the tables are what the log says."""
    found = [str(each) async for each in verify(settings, store, reader, lambda _: None)]
    assert found == []
    return True


async def append(settings: Settings, log: Log, part: slice = slice(None)) -> None:
    """Put a part of each partition of the log on the real one."""
    for partition, records in enumerate(log.records):
        values = [record.value or b"" for record in records[part]]
        if values:
            await produce(settings, settings.topics.events, partition, values)


@asynccontextmanager
async def projecting(settings: Settings, store: Tables, reader: Reader) -> AsyncIterator[Projector]:
    """A projector that is a member of its group until the end of the block."""
    projector = Projector(settings, store, reader)
    async with member(settings, projector) as group:
        projector.connect(group)
        projector.start()
        try:
            yield projector
        finally:
            await projector.close()


class TestOnKafka:
    """Real topics, the real group."""

    @pytest.fixture
    async def settings(self, settings: Settings) -> Settings:
        settings = settings.model_copy(update={"workflow_partitions": 3})
        await ensure_topics(settings)
        return settings

    @pytest.fixture
    async def store(self, settings: Settings) -> AsyncIterator[PostgresStore]:
        store = PostgresStore(settings.postgres_dsn)
        await store.migrate()
        yield store
        await store.close()

    async def test_it_brings_the_log_and_goes_on_after_a_restart(
        self, settings: Settings, store: PostgresStore
    ) -> None:
        """Events and commands come into the tables; the next projector goes on where they stand, not where the group does."""
        log = random_log(51, partitions=3, runs=30)
        async with LogReader(settings) as reader:
            await append(settings, log, slice(60))
            await produce(settings, settings.topics.trigger, 0, [command("waits"), b"{", command("waits")])
            async with projecting(settings, store, reader):
                await until_level(store, reader, settings)
            assert await sound(store, reader, settings)
            await append(settings, log, slice(60, None))
            async with projecting(settings, store, reader) as projector:
                await until_level(store, reader, settings)
                statuses = projector.status().values()
                assert (sorted(projector.status()), {s.stopped or s.waits for s in statuses}) == ([0, 1, 2], {None})
            assert await sound(store, reader, settings)

    async def test_partitions_move_between_projectors(self, settings: Settings, store: PostgresStore) -> None:
        """A second one joins and leaves while events come: each event is brought once."""
        log = random_log(52, partitions=3, runs=60)
        other = PostgresStore(settings.postgres_dsn)
        async with LogReader(settings) as reader, projecting(settings, store, reader) as first:
            await append(settings, log, slice(50))
            async with projecting(settings, other, reader) as second:
                await until(second.status, "a partition of the second projector")
                await append(settings, log, slice(50, 150))
                await until_level(store, reader, settings)
                assert len(first.status()) + len(second.status()) == 3
            await append(settings, log, slice(150, None))
            await until_level(store, reader, settings)
            assert await sound(store, reader, settings)
        await other.close()

    async def test_rebuild_and_verify_read_the_real_log(self, settings: Settings, store: PostgresStore) -> None:
        """The tables are made anew under a projector that goes on."""
        log = random_log(53, partitions=3, runs=40)
        async with LogReader(settings) as reader, projecting(settings, store, reader):
            await append(settings, log, slice(100))
            await until_level(store, reader, settings)
            rebuilt = await rebuild(settings, store, reader, lambda _: None)
            assert (rebuilt.differences, rebuilt.events) == ([], sum(len(records[:100]) for records in log.records))
            await append(settings, log, slice(100, None))
            await until_level(store, reader, settings)
            assert await sound(store, reader, settings)


class Growing:
    """A log in memory that grows while projectors read it."""

    def __init__(self, seed: int, *, runs: int = 60) -> None:
        self.whole, self.log = random_log(seed, runs=runs), Log(2)
        self.settings = Settings(workflow_partitions=2, workflow_projector_batch_max=50)
        self.topics = FakeTopics(self.settings, self.log)
        self.groups: list[FakeGroup] = []

    async def join(self, store: Tables) -> Projector:
        projector = Projector(self.settings, store, self.topics)
        group = FakeGroup(self.topics, projector)
        projector.connect(group)
        await group.join()
        self.groups.append(group)
        return projector

    async def grow(self, every: int = 0, then: Callable[[], Any] = lambda: None) -> None:
        """Hand over the whole log bit by bit; `then` is called in between."""
        longest = max(map(len, self.whole.records))
        for n in range(longest):
            for partition in range(2):
                self.log.records[partition] += self.whole.records[partition][n : n + 1]
            if every and n % every == every - 1:
                then()
            self.pump()
            await asyncio.sleep(0.002)

    def pump(self) -> None:
        for group in self.groups:
            group.pump()

    async def until_level(self, store: Tables) -> None:
        async with asyncio.timeout(150):  # one write that nobody answers takes 60 s
            while not await level(store, self.topics, self.settings):
                self.pump()
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "RETRY_S", 0.05)


@pytest.mark.timeout(200)
async def test_postgres_is_killed_while_batches_are_written(own_postgres: PostgresServer) -> None:
    """Kill -9 and a new start, three times in the middle of it: nothing is lost, nothing is there twice."""
    store = PostgresStore(own_postgres.dsn)
    await store.migrate()
    growing = Growing(54)
    projector = await growing.join(store)

    def crash() -> None:
        own_postgres.kill()
        own_postgres.start()

    longest = max(map(len, growing.whole.records))
    await growing.grow(longest // 4, crash)
    await growing.until_level(store)
    assert await sound(store, growing.topics, growing.settings)
    await projector.close()
    await store.close()


async def test_a_frozen_postgres_is_waited_for(own_postgres: PostgresServer) -> None:
    """Connections stay open and nothing answers: every call ends in bounded time, and the lanes go on when it thaws."""
    store = PostgresStore(own_postgres.dsn, timeout_s=1.0)
    await store.migrate()
    growing = Growing(55, runs=20)
    projector = await growing.join(store)
    await growing.grow(40, own_postgres.freeze)
    await until(lambda: any(status.waits for status in projector.status().values()), "a lane that waits")
    with pytest.raises(StoreAway):
        await store.tips(0, ["some run"])
    own_postgres.thaw()
    await growing.until_level(store)
    assert {status.waits for status in projector.status().values()} == {None}
    assert await sound(store, growing.topics, growing.settings)
    await projector.close()
    await store.close()


@pytest.mark.parametrize("backend", ["filesystem", "postgres"])
async def test_two_projectors_have_the_same_partitions(backend: str, postgres_dsn: str, tmp_path: Path) -> None:
    """A zombie and its successor write at the same time: the fence lets each batch in once, and both end level."""

    def opened() -> Tables:
        return FilesystemStore(tmp_path / "store") if backend == "filesystem" else PostgresStore(postgres_dsn)

    stores = [opened(), opened()]
    await stores[0].migrate()
    growing = Growing(56)
    projectors = [await growing.join(store) for store in stores]
    await growing.grow()
    await growing.until_level(stores[0])
    assert await sound(stores[0], growing.topics, growing.settings)
    assert await everything(stores[1]) == await everything(stores[0])
    for projector, store in zip(projectors, stores, strict=True):
        await projector.close()
        await store.close()


async def test_a_large_snapshot_does_not_block_the_loop(postgres_dsn: str) -> None:
    """While thousands of sleeping runs are loaded, the loop gets its turn many times."""
    store = PostgresStore(postgres_dsn)
    await store.migrate()
    log = Log(1, 57)
    epoch = log.take(0)
    for _ in range(int(os.environ.get("WORKFLOW_TEST_SLEEPING_RUNS", "5000"))):
        story = log.story(0)
        log.append(0, story.requested(epoch))
    await feed(store, log)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    snapshot = await store.snapshot(0)
    counting.cancel()
    assert len(snapshot.runs) == len(log.records[0]) - 1
    assert turns > len(snapshot.runs) / 1000
    await store.close()
