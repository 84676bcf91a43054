"""A producer whose outcomes are never guessed: it is used until the first send that fails or is late, then replaced whole."""
# ruff: noqa: SLF001 - to end without sending again what it carried, its requests must be reached inside aiokafka

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from schemas.errors import BrokerAway, OutcomeUnknown, TooLarge
from schemas.ports import TP, Done
from schemas.settings import Settings

from .kafka import Client, answering, client_kwargs
from .lanes import Entry, Lane, Pair

log = logging.getLogger(__name__)

COMPRESSION = "lz4"
BATCH_BYTES = 256 * 1024
"""Bytes of one batch before compression; a larger record makes a batch of its own. Far below any broker's limit."""

BUFFER_BYTES_MAX = 32 * 1024 * 1024
RECORD_OVERHEAD_BYTES = 80

_CHECKS_PER_DEADLINE = 10


class LogProducer:
    """Idempotent, acks=all. At most one batch per partition is under way; what comes meanwhile makes up the next one.

    All methods are called on one event loop. `on_lost` is called once, at the first trouble, after every outstanding
    send was told OutcomeUnknown. From then on nothing is taken; the owner calls `drop` and makes a new producer.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        deadline_s: float,
        on_lost: Callable[[Exception], None],
        buffer_bytes_max: int = BUFFER_BYTES_MAX,
    ) -> None:
        self._settings = settings
        self._address = settings.kafka_bootstrap_servers
        self._deadline_s = deadline_s
        self._on_lost = on_lost
        self._buffer_bytes_max = buffer_bytes_max
        self._buffered = 0
        self._lanes: dict[TP, Lane] = {}
        self._client: Client | None = None
        self._requests: set[asyncio.Task[Any]] = set()  # aiokafka's own, so that `drop` can cut them
        self._changed = asyncio.Event()
        self._clock: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.lost = False

    async def start(self, *, bound_s: float = 10.0) -> None:
        """Connect and get a producer id. Raises BrokerAway."""
        client = self._client = AIOKafkaProducer(
            **client_kwargs(self._settings),
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            compression_type=COMPRESSION,
            max_batch_size=BATCH_BYTES,
            metadata_max_age_ms=10_000,
        )
        client._sender._send_produce_req = self._registered(client._sender._send_produce_req)
        try:
            async with answering(self._settings, bound_s):
                await client.start()
        except BaseException:
            await self.drop(1.0)
            raise

    async def reach(self, topic: str, partition: int, *, bound_s: float) -> None:
        """Return when the partition's leader is connected. Raises BrokerAway within the bound; a send that waited for
        this has not begun."""
        client = self._client
        if client is None or self.lost:
            raise BrokerAway(address=self._address, reason="the connection was given up")
        leader = client.client.cluster.leader_for_partition(TP(topic, partition))
        connection = client.client._conns.get((leader, 0))
        if connection is not None and connection.connected():
            return
        async with answering(self._settings, bound_s):
            await client.partitions_for(topic)
            leader = client.client.cluster.leader_for_partition(TP(topic, partition))
            if leader is None or leader < 0 or not await client.client.ready(leader):
                raise BrokerAway(address=self._address, reason=f"the leader of {topic}/{partition} cannot be reached")

    @property
    def has_room(self) -> bool:
        return self._buffered < self._buffer_bytes_max

    async def room(self) -> None:
        """Wait until less than the bound is buffered, or the producer is lost."""
        while not self.has_room and not self.lost:
            await self._change()

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None, done: Done) -> None:
        """Append one record; see `send_many`."""
        self.send_many(topic, partition, ((key, value),), done)

    def send_many(self, topic: str, partition: int, records: Sequence[Pair], done: Done) -> None:
        """Append records of one partition, in order and after all that was sent to it before; never waits.
        `done` is told the last record's offset, or OutcomeUnknown. Raises before anything is taken: TooLarge for a record
        that no batch can hold, BrokerAway past twice the bound of the buffer, OutcomeUnknown when the producer is lost."""
        size, limit = 0, self._settings.workflow_record_bytes_max
        for key, value in records:
            length = len(key or b"") + len(value or b"")
            if length > limit:
                raise TooLarge(what="The record", found=length, limit=limit, setting="WORKFLOW_RECORD_BYTES_MAX")
            size += length + RECORD_OVERHEAD_BYTES
        if self.lost:
            raise OutcomeUnknown(reason="this producer was given up before; nothing was sent")
        if self._buffered >= 2 * self._buffer_bytes_max:
            raise BrokerAway(address=self._address, reason=f"{self._buffered} bytes wait to be sent")
        self._buffered += size
        tp = TP(topic, partition)
        if (lane := self._lanes.get(tp)) is None:
            lane = self._lanes[tp] = Lane(tp)
        lane.waiting.append(Entry(records, done, self._loop.time() + self._deadline_s, size))
        if lane.pump is None:
            lane.pump = self._loop.create_task(self._pump(lane))
        if self._clock is None:
            self._watch()

    async def flush(self, bound_s: float) -> bool:
        """Wait until nothing is outstanding; False when the bound passed or the producer was lost."""
        try:
            async with asyncio.timeout(bound_s):
                while self._buffered and not self.lost:
                    await self._change()
        except TimeoutError:
            return False
        return not self.lost

    async def drop(self, bound_s: float) -> None:
        """End it within the bound. Nothing that it carried is sent after this returns, whatever happens to the broker."""
        self._lose(OutcomeUnknown(reason="the producer was dropped"), call=False)
        client, self._client = self._client, None
        if client is None:
            return
        client._closed = True
        mine = [*self._requests, *([client._sender.sender_task] if client._sender.sender_task else [])]
        for task in mine:
            task.cancel()
        for connection in client.client._conns.values():
            if connection._writer is not None:
                connection._writer.transport.abort()  # a mere close would still send what is buffered
        closing = self._loop.create_task(client.client.close())
        await asyncio.wait({*mine, closing}, timeout=bound_s)
        for task in (*mine, closing):
            if not task.done():
                task.cancel()
            elif not task.cancelled():
                task.exception()  # it is of no interest any more

    async def _pump(self, lane: Lane) -> None:
        """Send batch after batch while there is something to send. The next one leaves when the last was acknowledged."""
        try:
            while lane.waiting:
                client = self._started()
                batch = self._fill(client, lane)
                sent = await (await client.send_batch(batch, lane.tp.topic, partition=lane.tp.partition))
                self._acknowledge(lane, sent.offset)
        except MessageSizeTooLargeError as exc:
            self._lose(
                OutcomeUnknown(
                    reason=f"topic {lane.tp.topic} refused a batch for its size: raise its max.message.bytes ({exc})"
                )
            )
        except Exception as exc:  # noqa: BLE001 - whatever it was, outcomes are unknown now
            self._lose(exc)
        finally:
            lane.pump = None

    def _started(self) -> Client:
        if self._client is None:
            raise OutcomeUnknown(reason="the producer is not started")
        return self._client

    def _fill(self, client: Client, lane: Lane) -> Client:
        """A batch of as much as waits and fits; entries whose last record is in it move to `flying`."""
        batch = client.create_batch()
        append, place = batch.append, 0
        while lane.waiting:
            entry = lane.waiting[0]
            records = entry.records
            while entry.added < len(records):
                key, value = records[entry.added]
                if append(timestamp=None, key=key, value=value) is None:
                    batch.close()
                    return batch
                entry.added += 1
                place += 1
            lane.flying.append((entry, place - 1))
            lane.waiting.popleft()
        batch.close()
        return batch

    def _acknowledge(self, lane: Lane, base: int) -> None:
        if base < 0:
            raise OutcomeUnknown(reason="the broker holds the batch but no longer knows where")
        while lane.flying:
            entry, place = lane.flying.popleft()
            self._buffered -= entry.bytes
            entry.done(base + place, None)
        self._changed.set()

    def _lose(self, reason: Exception, *, call: bool = True) -> None:
        """Tell every outstanding send that its outcome is unknown, and the owner, once."""
        if self.lost:
            return
        self.lost = True
        if self._clock is not None:
            self._clock.cancel()
        outstanding = []
        for lane in self._lanes.values():
            outstanding += [entry for entry, _ in lane.flying] + list(lane.waiting)
            lane.flying, lane.waiting = deque(), deque()
            if lane.pump is not None and lane.pump is not asyncio.current_task():
                lane.pump.cancel()
        self._buffered = 0
        self._changed.set()
        if call or outstanding:
            log.warning("Producer given up with %d sends outstanding: %s", len(outstanding), reason)
        unknown = reason if isinstance(reason, OutcomeUnknown) else OutcomeUnknown(reason=repr(reason))
        for entry in outstanding:
            try:
                entry.done(None, unknown)
            except Exception:
                log.exception("A callback failed; the others are told all the same")
        if call:
            self._on_lost(reason)

    def _watch(self) -> None:
        """Look for a missed deadline from time to time, while anything is outstanding."""
        now = self._loop.time()
        self._clock = None
        if not self._buffered or self.lost:
            return
        for lane in self._lanes.values():
            oldest = lane.flying[0][0] if lane.flying else lane.waiting[0] if lane.waiting else None
            if oldest is not None and oldest.due < now:
                where = f"{lane.tp.topic}/{lane.tp.partition}"
                self._lose(OutcomeUnknown(reason=f"no answer from {where} within {self._deadline_s:g} s"))
                return
        self._clock = self._loop.call_later(self._deadline_s / _CHECKS_PER_DEADLINE, self._watch)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _registered(self, send: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The client's own sending of one request, with its task kept where `drop` finds it."""

        async def registered(node_id: int, batches: Any) -> None:
            if self.lost:
                return  # the first step of a task that `drop` could not see yet, or a try that would come after it
            task = asyncio.current_task()
            assert task is not None
            self._requests.add(task)
            try:
                await send(node_id, batches)
            finally:
                self._requests.discard(task)

        return registered
