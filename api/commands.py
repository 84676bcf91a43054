"""Putting commands on `workflow.trigger`: acknowledged by all replicas, or a clear word on what is known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from api.ports import Outgoing
from schemas.errors import BrokerAway, OutcomeUnknown, WorkflowError
from schemas.identity import home
from schemas.ports import Done
from schemas.position import Position
from schemas.settings import Settings
from streams.producer import LogProducer

log = logging.getLogger(__name__)

CONNECT_WAIT_S: Final = 2.0
"""How long a send waits for a connection before it says that nothing was written."""
STALL_S: Final = 2.0
"""Once the broker has owed an acknowledgement for so long, further sends are refused instead of joining the queue."""
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0)
_DROP_S: Final = 1.0


class KafkaCommandSender:
    """One idempotent producer at a time. At its first trouble it is dropped whole and a new one is made, so that nothing
    is written behind the back of an answer that was given already."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.topics.trigger
        self._producer: LogProducer | None = None
        self._connected = asyncio.Event()
        self._trouble = asyncio.Event()
        self._reason = "not connected yet"
        self._warned = False
        self._keeper: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._owed: dict[int, float] = {}  # sends under way → when each began; in the order in which they began
        self._sends = 0

    def start(self) -> None:
        """Begin to connect; sends that come meanwhile wait for it."""
        self._keeper = asyncio.create_task(self._keep(), name="command producer")

    async def stop(self) -> None:
        """Let sends under way end, within the bound of a send, and close."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._producer is not None:
            await self._producer.flush(self._settings.workflow_send_timeout_s)
            await self._producer.drop(_DROP_S)

    @property
    def away(self) -> str | None:
        """Why sends are refused now, None while they are taken."""
        if not self._connected.is_set():
            return self._reason
        return f"no acknowledgement for {self._owing_s():.1f} s" if self._owing_s() > STALL_S else None

    async def send(self, command: Outgoing) -> Position:
        """See the port."""
        partition = home(command.run_id, self._settings.workflow_partitions)
        offset = await self.append(self._topic, partition, command.run_id.encode(), command.value)
        return {("t", partition): offset + 1}

    async def send_many(self, commands: Sequence[Outgoing]) -> Position:
        """See the port."""
        lanes: dict[int, list[tuple[bytes | None, bytes | None]]] = {}
        for command in commands:
            partition = home(command.run_id, self._settings.workflow_partitions)
            lanes.setdefault(partition, []).append((command.run_id.encode(), command.value))
        producer = await self._ready(lanes)
        begun: dict[int, asyncio.Future[int]] = {}
        refused: WorkflowError | None = None
        for partition, records in lanes.items():
            await producer.room()
            try:
                begun[partition] = self._begin(partial(producer.send_many, self._topic, partition, records))
            except WorkflowError as error:
                refused = error
                break
        outcomes = await asyncio.gather(*begun.values(), return_exceptions=True)
        position: Position = {}
        for partition, outcome in zip(begun, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome if isinstance(outcome, OutcomeUnknown) else OutcomeUnknown(reason=str(outcome))
            position["t", partition] = outcome + 1
        if refused is not None:
            raise OutcomeUnknown(reason=f"a part was refused: {refused.message}") if begun else refused
        return position

    async def append(self, topic: str, partition: int, key: bytes, value: bytes) -> int:
        """Put one record on any topic; its offset. Raises as `send` does."""
        producer = await self._ready([partition], topic)
        return await self._begin(partial(producer.send, topic, partition, key, value))

    def _begin(self, send: Callable[[Done], None]) -> asyncio.Future[int]:
        """Hand records to the producer; the future tells the last one's offset."""
        future: asyncio.Future[int] = self._loop.create_future()
        self._sends = number = self._sends + 1

        def done(offset: int | None, reason: Exception | None) -> None:
            self._owed.pop(number, None)
            if future.done():
                return  # its caller has left
            if offset is not None:
                future.set_result(offset)
            else:
                future.set_exception(
                    reason if isinstance(reason, WorkflowError) else OutcomeUnknown(reason=repr(reason))
                )

        self._owed[number] = self._loop.time()
        try:
            send(done)
        except BaseException:
            del self._owed[number]
            raise
        return future

    async def _ready(self, partitions: Iterable[int], topic: str | None = None) -> LogProducer:
        """A producer that can reach the leaders of these partitions. Raises BrokerAway: nothing was written."""
        if not self._connected.is_set():
            try:
                async with asyncio.timeout(CONNECT_WAIT_S):
                    await self._connected.wait()
            except TimeoutError:
                raise self._away(self._reason) from None
        if self._owing_s() > STALL_S:
            raise self._away(f"no acknowledgement for {self._owing_s():.1f} s; nothing more is sent until there is one")
        producer = self._producer
        assert producer is not None
        for partition in partitions:
            await producer.reach(topic or self._topic, partition, bound_s=CONNECT_WAIT_S)
        if producer.lost:
            raise self._away("the connection was given up a moment ago")
        return producer

    def _owing_s(self) -> float:
        """For how long the broker has owed the oldest acknowledgement."""
        for began in self._owed.values():
            return self._loop.time() - began
        return 0.0

    def _away(self, reason: str) -> BrokerAway:
        return BrokerAway(address=self._settings.kafka_bootstrap_servers, reason=f"{reason}; nothing was written")

    async def _keep(self) -> None:
        """Have a producer at all times: make one, wait for its first trouble, drop it, again."""
        failures = 0
        while True:
            producer = await self._make()
            if producer is None:
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                continue
            failures = 0
            self._producer = producer
            self._connected.set()
            await self._trouble.wait()
            self._connected.clear()
            await producer.drop(_DROP_S)

    async def _make(self) -> LogProducer | None:
        """A producer that is connected; None when there is none to be had now."""
        self._trouble.clear()
        deadline_s = self._settings.workflow_send_timeout_s
        producer = LogProducer(self._settings, deadline_s=deadline_s, on_lost=self._lost)
        try:
            await producer.start(bound_s=deadline_s)
        except WorkflowError as error:
            reason = str(error.fields.get("reason", error.message))
        except Exception as error:
            log.exception("The producer of commands could not be made")
            reason = repr(error)
        else:
            if self._warned:
                log.info("Commands can be sent")
            self._warned = False
            return producer
        self._reason = reason
        if not self._warned:
            log.warning("Commands cannot be sent: %s", reason)
        self._warned = True
        return None

    def _lost(self, reason: Exception) -> None:
        self._reason = str(reason)
        self._connected.clear()
        self._trouble.set()
