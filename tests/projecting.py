"""A projector on a log in memory, with all that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from projections import lane
from projections.memory import MemoryStore
from projections.projector import Projector
from schemas.errors import StoreAway
from schemas.ports import TP
from schemas.settings import Settings
from schemas.store import Batch, PendingRow, Snapshot, Tip
from tests.fake_log import FakeGroup, FakeTopics
from tests.feeding import everything, feed
from tests.histories import Log


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


@pytest.fixture(name="impatient")
def impatient_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes that do not wait long before they try again."""
    monkeypatch.setattr(lane, "RETRY_S", 0.01)
    monkeypatch.setattr(lane, "RECHECK_S", 0.01)
    monkeypatch.setattr(lane, "LINGER_S", 0.0)
    monkeypatch.setattr(lane, "BUSY_HOLD_S", 0.0)
