"""The engine's way out: its producer, replaced whole when it is lost, and what must be sent until the broker has it."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson

from schemas.errors import BrokerAway, OutcomeUnknown, WorkflowError
from schemas.events import SOURCE, time_text
from schemas.ports import Done, Producer

log = logging.getLogger(__name__)

DROP_S: Final = 5.0
RETRY_S: Final = 0.5
REJECTED_VALUE_BYTES_MAX: Final = 256 * 1024

MakeProducer = Callable[[Callable[[Exception], None]], Awaitable[Producer]]


class Outlet:
    """One producer at a time. What is sent while there is none waits for the next one, in order."""

    def __init__(self, make: MakeProducer, on_lost: Callable[[], None]) -> None:
        self._make, self._on_lost = make, on_lost
        self._producer: Producer | None = None
        self._queued: list[tuple[str, int, Sequence[tuple[bytes, bytes]], Done]] = []
        self._ready = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._starting = asyncio.Lock()
        self._closed = False

    async def start(self) -> None:
        """Connect; tries until the broker answers. Two losses close together make one new producer."""
        async with self._starting:
            if self._producer is None and not self._closed:
                self._producer = await self._connected()
                self._ready.set()
                queued, self._queued = self._queued, []
                for entry in queued:
                    self.send(*entry)

    async def _connected(self) -> Producer:
        said = None
        while True:
            try:
                return await self._make(lambda _error: self._on_lost())
            except (BrokerAway, OSError) as away:
                if said is None:
                    log.warning("no producer yet: %s", away)
                said = away
            except Exception:
                log.exception("the producer cannot be made; it is tried again")
            await asyncio.sleep(RETRY_S)

    async def ready(self) -> None:
        await self._ready.wait()

    @property
    def up(self) -> bool:
        return self._ready.is_set()

    def send(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]], done: Done) -> None:
        """Append records of one partition in order; `done` as in `schemas.ports.Producer.send_many`."""
        if self._producer is None:
            self._queued.append((topic, partition, records, done))
            return
        try:
            self._producer.send_many(topic, partition, records, done)
        except OutcomeUnknown as error:
            done(None, error)
        except (
            WorkflowError
        ) as error:  # nothing was taken, but order within the partition is lost: as bad as a lost send
            log.warning("a send was not taken: %s", error)
            done(None, error)
            asyncio.get_running_loop().call_soon(self._on_lost)

    def send_until_acknowledged(
        self, topic: str, partition: int, key: bytes, value: bytes, then: Callable[[], None]
    ) -> None:
        """Send a record again and again until the broker has it; for what may stand twice."""

        def done(_offset: int | None, error: Exception | None) -> None:
            if error is None:
                then()
            elif not self._closed:
                asyncio.get_running_loop().call_later(
                    RETRY_S, self.send_until_acknowledged, topic, partition, key, value, then
                )

        self.send(topic, partition, ((key, value),), done)

    def replace(self) -> None:
        """Drop the producer whole and make a new one."""
        old, self._producer = self._producer, None
        self._ready.clear()
        task = asyncio.ensure_future(self._swap(old))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _swap(self, old: Producer | None) -> None:
        if old is not None:
            await old.drop(DROP_S)
        await self.start()

    async def flush(self, bound_s: float) -> None:
        """Wait until the broker has what was sent, no longer than the bound."""
        if self._producer is not None:
            await self._producer.flush(bound_s)

    async def close(self, bound_s: float) -> None:
        """Send what is left within the bound, then end."""
        self._closed = True
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.flush(bound_s)
            await producer.drop(DROP_S)
        for task in self._tasks:
            task.cancel()


def rejection(topic: str, partition: int, offset: int, value: bytes | None, reason: str, at_s: float) -> bytes:
    """The record that tells of a command that was set aside: where it stood, its bytes (cut at 256 KiB) and why."""
    raw = value or b""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"{topic}/{partition}/{offset}",
            "source": SOURCE,
            "type": "CommandRejected",
            "subject": f"{topic}/{partition}/{offset}",
            "time": time_text(at_s),
            "datacontenttype": "application/json",
            "data": {
                "topic": topic,
                "partition": partition,
                "offset": offset,
                "reason": reason,
                "bytes": len(raw),
                "value_base64": base64.b64encode(raw[:REJECTED_VALUE_BYTES_MAX]).decode(),
            },
        }
    )
