"""Connections to Kafka: the one place that knows how clients reach the brokers, and reading without a group."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeAlias

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)

from schemas.errors import BrokerAway, LogMismatch
from schemas.ports import TP, Record
from schemas.settings import Settings

from .connections import Consumer
from .security import last_refusal, security, servers

Client: TypeAlias = Any  # aiokafka and Faust ship no types

FETCH_WAIT_MS = 100
"""How long a broker may hold back an empty answer. A seek or a resumed partition waits for a running fetch, so keep it low."""

ISOLATION = "read_committed"
"""What other people's producers take back by an aborted transaction was never said. Our own use none."""

_POLL_MS = 200
_STOP_S = 5.0

FORBIDDEN = (ClusterAuthorizationFailedError, GroupAuthorizationFailedError, TopicAuthorizationFailedError)
"""Rights can be granted while we wait for them."""


def client_kwargs(settings: Settings) -> dict[str, Any]:
    """How every client reaches the brokers, TLS and login included: all of them take these arguments."""
    return {"bootstrap_servers": servers(settings), **security(settings)}


def fetch_bytes(settings: Settings) -> int:
    """Bytes asked of one partition per fetch: at least one whole record of the largest size."""
    return max(1024 * 1024, settings.workflow_record_bytes_max + 16 * 1024)


def reader_consumer(settings: Settings, **more: Any) -> Client:
    """A consumer without a group, not started. A position outside the log raises instead of moving to one of its ends."""
    return Consumer(
        **client_kwargs(settings),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=ISOLATION,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        max_partition_fetch_bytes=fetch_bytes(settings),
        metadata_max_age_ms=10_000,
        **more,
    )


@asynccontextmanager
async def answering(settings: Settings, bound_s: float) -> AsyncIterator[None]:
    """Raises BrokerAway when the body takes longer, or fails in a way that a broker's return would mend."""
    address, began = settings.kafka_bootstrap_servers, time.monotonic()
    try:
        async with asyncio.timeout(bound_s):
            yield
    except TimeoutError as exc:
        reason = last_refusal(began) or f"no answer within {bound_s:g} s"
        raise BrokerAway(address=address, reason=reason) from exc
    except OSError as exc:
        raise BrokerAway(address=address, reason=str(exc)) from exc
    except KafkaError as exc:
        if isinstance(exc, FORBIDDEN):
            raise BrokerAway(address=address, reason=f"it does not allow this: {exc}") from exc
        if exc.retriable:
            raise BrokerAway(address=address, reason=last_refusal(began) or str(exc) or type(exc).__name__) from exc
        raise


@asynccontextmanager
async def admin(settings: Settings, bound_s: float) -> AsyncIterator[Client]:
    """An admin client for the length of the block, all of it within the bound."""
    async with answering(settings, bound_s):
        client = AIOKafkaAdminClient(**client_kwargs(settings), request_timeout_ms=int(bound_s * 1000))
        try:
            await client.start()
            yield client
        finally:
            await client.close()


async def stop_client(client: Client) -> None:
    """Stop a consumer in bounded time."""
    stop = asyncio.ensure_future(client.stop())
    await asyncio.wait({stop}, timeout=_STOP_S)
    if not stop.done():
        stop.cancel()
        await asyncio.wait({stop}, timeout=1)
    elif not stop.cancelled() and (error := stop.exception()) is not None:
        raise error


class LogReader:
    """Reads topics without a group. Connects at the first call and again after an outage; every call is bounded."""

    def __init__(self, settings: Settings, *, bound_s: float = 10.0) -> None:
        self._settings = settings
        self._bound_s = bound_s
        self._asking: Client | None = None  # for offsets; what reads records is made anew for each call
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        consumer, self._asking = self._asking, None
        if consumer is not None:
            await stop_client(consumer)

    async def cluster_id(self) -> str:
        async with admin(self._settings, self._bound_s) as client:
            return str((await client.describe_cluster())["cluster_id"])

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Offset of the first record kept."""
        async with answering(self._settings, self._bound_s):
            consumer = await self._started()
            return {TP(*tp): offset for tp, offset in (await consumer.beginning_offsets(list(tps))).items()}

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Offset after the last record."""
        async with answering(self._settings, self._bound_s):
            consumer = await self._started()
            return {TP(*tp): offset for tp, offset in (await consumer.end_offsets(list(tps))).items()}

    async def read_record(self, tp: TP, offset: int) -> Record | None:
        """The record at exactly this offset; None when there is none (outside the partition, or a hole)."""
        begin, end = (await self.begin_offsets([tp]))[tp], (await self.end_offsets([tp]))[tp]
        if not begin <= offset < end:
            return None
        async for records in self.read(tp, offset, offset + 1, fetch_bytes_max=64 * 1024):
            return records[0]
        return None

    async def read(
        self, tp: TP, start: int, end: int, *, fetch_bytes_max: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """All records with start <= offset < end, in order, in batches; each fetch within the bound.
        Raises LogMismatch when the log does not hold `start`."""
        if start >= end:
            return
        consumer = reader_consumer(self._settings, fetch_max_bytes=fetch_bytes_max or 50 * 1024 * 1024)
        try:
            async with answering(self._settings, self._bound_s):
                await consumer.start()
                consumer.assign([TopicPartition(*tp)])
                consumer.seek(TopicPartition(*tp), start)
            position = start
            while position < end:
                records, position = await self._fetch(consumer, TopicPartition(*tp), position, end)
                if records:
                    yield records
        finally:
            await stop_client(consumer)

    async def _fetch(
        self, consumer: Client, tp: TopicPartition, position: int, end: int
    ) -> tuple[Sequence[Record], int]:
        """The next records below `end` and the position after them."""
        async with answering(self._settings, self._bound_s):
            try:
                while position < end:
                    fetched = (await consumer.getmany(tp, timeout_ms=_POLL_MS)).get(tp, [])
                    position = await consumer.position(tp)  # passes over what holds no records, such as markers
                    if fetched:
                        return [record for record in fetched if record.offset < end], position
            except OffsetOutOfRangeError as exc:
                raise LogMismatch(
                    partition=tp.partition, topic=tp.topic, reason=f"it holds no offset {position}"
                ) from exc
        return [], position

    async def _started(self) -> Client:
        async with self._starting:
            if self._asking is None:
                consumer = reader_consumer(self._settings)
                try:
                    await consumer.start()
                except BaseException:
                    await stop_client(consumer)
                    raise
                self._asking = consumer
            return self._asking
