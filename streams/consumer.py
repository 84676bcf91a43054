"""The thread on which Kafka's consumer lives, and what the main loop may ask of it."""
# mypy: disable-error-code="misc"
# ruff: noqa: SLF001
# Faust and aiokafka ship no types and have no public way to do what is done here; both are pinned to one version.

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import (
    ConsumerStoppedError,
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver

from schemas.ports import TP, Record

from .connections import Consumer
from .group import ConsumerGroup
from .kafka import FETCH_WAIT_MS, ISOLATION, Client, client_kwargs, fetch_bytes

T = TypeVar("T")

_FETCH_S = 1.0
_RETRY_S = 0.1
_GONE = (IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError)


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """Records of one partition and the number of the seek after which they were fetched."""

    serial: int
    records: Sequence[Record]


class Thread(driver.AIOKafkaConsumerThread):
    """The thread of Kafka's consumer. Its heartbeats go on whatever the main loop does. Implements `group.Link`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._group: ConsumerGroup = self.app.group
        self._serials: dict[TP, int] = {}
        self._calls: set[Any] = set()

    def _create_worker_consumer(self, transport: Any) -> Client:  # noqa: ARG002
        conf, settings = self.app.conf, self.app.settings
        self._assignor = self.app.assignor
        return Consumer(
            **client_kwargs(settings),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=ISOLATION,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=fetch_bytes(settings),
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
        )

    async def stop(self) -> None:
        await super().stop()
        for call in list(self._calls):  # what the stopped loop will never answer
            call.cancel()

    # Called on the main loop.

    async def fetch(self) -> Mapping[TP, Fetched]:
        return await self._run(self._fetch())

    async def check(self) -> None:
        """Raise what has ended the client's part in the group; `fetch` does so, too, but not while nothing may flow."""
        await self._run(self._check())

    async def commit(self, offsets: Mapping[TP, int], generation: int) -> bool:
        try:
            return await self._run(self._commit_until_answered(offsets, generation))
        except ConsumerStoppedError:
            return False

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        return await self._run(self._committed([TopicPartition(*tp) for tp in tps]))

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return await self._run(self._offsets("beginning_offsets", [TopicPartition(*tp) for tp in tps]))

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return await self._run(self._offsets("end_offsets", [TopicPartition(*tp) for tp in tps]))

    def seek(self, positions: Mapping[TP, tuple[int, int]]) -> None:
        self._post(self._seek_all, positions)

    def wake(self) -> None:
        self._post(self._wake)

    def _post(self, call: Callable[..., None], *args: Any) -> None:
        try:
            self.thread_loop.call_soon_threadsafe(call, *args)
        except RuntimeError:
            assert self.thread_loop.is_closed()  # the app was stopped: nothing is left to move

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run on the thread. Not through Faust's queue of calls: two commits that wait for a broker would block it."""
        if self.thread_loop.is_closed():
            work.close()
            raise ConsumerStoppedError
        call = asyncio.run_coroutine_threadsafe(work, self.thread_loop)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise ConsumerStoppedError from None  # the thread ended, not we

    # Run on the thread.

    async def _fetch(self) -> Mapping[TP, Fetched]:
        """What has come for the active partitions; empty after a second without anything."""
        consumer = self._ensure_consumer()
        fetcher, ends = consumer._fetcher, time.monotonic() + _FETCH_S
        with fetcher._subscriptions.fetch_context():
            while True:
                if consumer._closed or fetcher._closed:
                    raise ConsumerStoppedError
                consumer._coordinator.check_errors()
                active = self._group.active
                drained = await fetcher.fetched_records(active, timeout=0) if active else {}
                if drained:
                    return {TP(*tp): Fetched(self._serials.get(tp, 0), records) for tp, records in drained.items()}
                remaining = ends - time.monotonic()
                if remaining <= 0:
                    return {}
                waiter = fetcher._create_fetch_waiter()
                await asyncio.wait({waiter}, timeout=remaining)
                if not waiter.cancel():
                    waiter.result()

    async def _check(self) -> None:
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator.check_errors()

    def _wake(self) -> None:
        fetcher = self._ensure_consumer()._fetcher
        for waiter in list(fetcher._fetch_waiters):
            fetcher._notify(waiter)

    def _seek_all(self, positions: Mapping[TP, tuple[int, int]]) -> None:
        consumer = self._ensure_consumer()
        for tp, (offset, serial) in positions.items():
            try:
                consumer.seek(TopicPartition(*tp), offset)
            except IllegalStateError:  # taken from us meanwhile
                continue
            self._serials[tp] = serial

    async def _commit_until_answered(self, offsets: Mapping[TP, int], generation: int) -> bool:
        """Commit, waiting for a broker that is away. Each try is bound to the generation: a partition that moved while
        we waited has another owner, whose offset must not go back."""
        consumer = self._ensure_consumer()
        coordinator = consumer._coordinator
        wanted = {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
        while not consumer._closed:
            await coordinator.ensure_coordinator_known()
            async with coordinator._commit_lock:
                subscription = consumer._subscription.subscription
                assignment = subscription.assignment if subscription is not None else None
                if assignment is None or coordinator.generation != generation:
                    return False
                try:
                    await asyncio.shield(coordinator._do_commit_offsets(assignment, wanted))
                except _GONE:
                    return False
                except KafkaError as exc:
                    if not exc.retriable:
                        raise
                else:
                    return True
            await asyncio.sleep(_RETRY_S)
        return False

    async def _committed(self, tps: list[TopicPartition]) -> dict[TP, int | None]:
        found = await self._ensure_consumer()._coordinator.fetch_committed_offsets(tps)
        return {TP(*tp): found[tp].offset if tp in found and found[tp].offset >= 0 else None for tp in tps}

    async def _offsets(self, which: str, tps: list[TopicPartition]) -> dict[TP, int]:
        found = await getattr(self._ensure_consumer()._fetcher, which)(tps, None)  # bounded by who asks
        return {TP(*tp): offset for tp, offset in found.items()}
