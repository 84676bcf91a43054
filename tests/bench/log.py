"""The log and the read tables as the bench sees them: how far they are, and what has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import asyncpg
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.ports import TP, Record
from schemas.settings import Settings
from streams.kafka import LogReader
from tests.bench.errors import ScenarioFailed

POLL_S: Final = 0.02
FETCH_WAIT_MS: Final = 20


@dataclass(frozen=True, slots=True)
class Ends:
    """What stands on `workflow.completed` between two positions: messages, and the runs that they speak of."""

    messages: int
    runs: frozenset[str]
    failed: int


class Watch:
    """Positions of the topics and of the tables, asked of Kafka and PostgreSQL themselves."""

    def __init__(self, settings: Settings, reader: LogReader, connection: asyncpg.Connection) -> None:
        self._settings, self._reader, self._connection = settings, reader, connection

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator[Self]:
        connection = await asyncpg.connect(settings.postgres_dsn, timeout=30)
        try:
            async with LogReader(settings, bound_s=30.0) as reader:
                yield cls(settings, reader, connection)
        finally:
            await connection.close()

    async def ends(self, topic: str) -> dict[int, int]:
        """Offset after the last record of each partition."""
        tps = [TP(topic, number) for number in range(self._settings.workflow_partitions)]
        return {tp.partition: offset for tp, offset in (await self._reader.end_offsets(tps)).items()}

    async def completed(self, since: Mapping[int, int], count: int, bound_s: float) -> float:
        """Wait until `count` more messages stand on `workflow.completed`; when that was seen, seconds since 1970."""
        topic = self._settings.topics.completed

        async def there() -> bool:
            return sum((await self.ends(topic)).values()) - sum(since.values()) >= count

        return await until(there, f"{count} messages on {topic}", bound_s)

    async def level(self, bound_s: float) -> float:
        """Wait until the tables stand at the ends of commands and events; when that was seen, seconds since 1970."""
        topics = self._settings.topics

        async def there() -> bool:
            at = await self._positions()
            wanted = {("t", n): end for n, end in (await self.ends(topics.trigger)).items()}
            wanted |= {("e", n): end for n, end in (await self.ends(topics.events)).items()}
            return all(at.get(place, 0) >= end for place, end in wanted.items())

        return await until(there, "the read tables level with the log", bound_s)

    async def ended(self, since: Mapping[int, int]) -> Ends:
        """What `workflow.completed` holds from there on."""
        topic = self._settings.topics.completed
        messages, runs, failed = 0, set[str](), 0
        for number, end in (await self.ends(topic)).items():
            async for records in self._reader.read(TP(topic, number), since[number], end):
                for event in (orjson.loads(record.value or b"") for record in records):
                    messages += 1
                    runs.add(event["subject"])
                    failed += event["data"]["status"] != "SUCCESS"
        return Ends(messages, frozenset(runs), failed)

    async def runs(self, status: str) -> int:
        """How many runs the tables show with this status."""
        return int(await self._connection.fetchval("select count(*) from workflow.runs where status = $1", status))

    async def settle(self) -> None:
        """Have PostgreSQL write and clean up what a load has left behind, as it would have long after it."""
        await self._connection.execute("vacuum analyze workflow.runs")
        await self._connection.execute("vacuum analyze workflow.history")
        await self._connection.execute("checkpoint")

    async def flushed(self) -> None:
        """Have PostgreSQL write to disk what came before, so that it is no part of what is measured next."""
        await self._connection.execute("checkpoint")

    async def sizes(self) -> tuple[int, int, int]:
        """Runs in the tables; bytes of their rows and of the history on disk, indexes included."""
        row = await self._connection.fetchrow(
            "select (select count(*) from workflow.runs), pg_total_relation_size('workflow.runs'), "
            "pg_total_relation_size('workflow.history')"
        )
        assert row is not None
        return row[0], row[1], row[2]

    async def setting(self, name: str) -> str:
        """A setting of PostgreSQL."""
        return str(await self._connection.fetchval("select current_setting($1)", name))

    async def _positions(self) -> dict[tuple[str, int], int]:
        rows = await self._connection.fetch("select topic, partition, position from workflow.positions")
        return {(row[0], row[1]): row[2] for row in rows}


async def until(there: Callable[[], Any], what: str, bound_s: float) -> float:
    """Ask until it is so; when, seconds since 1970. Raises ScenarioFailed after the bound."""
    deadline = time.monotonic() + bound_s
    while not await there():
        if time.monotonic() > deadline:
            raise ScenarioFailed(f"waited {bound_s:g} s for {what}")
        await asyncio.sleep(POLL_S)
    return time.time()


@asynccontextmanager
async def following(settings: Settings, take: Callable[[Sequence[Record], float], None]) -> AsyncIterator[None]:
    """Read all of `workflow.events` from its end on, without a group; `take(records, perf_counter when they were read)`."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    await consumer.start()

    async def follow() -> None:
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                take(records, time.perf_counter())

    try:
        tps = [TopicPartition(settings.topics.events, number) for number in range(settings.workflow_partitions)]
        consumer.assign(tps)
        for tp, end in (await consumer.end_offsets(tps)).items():
            consumer.seek(tp, end)
        task = asyncio.create_task(follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None:
                raise ScenarioFailed(f"the log could not be followed: {error!r}")
    finally:
        await consumer.stop()
