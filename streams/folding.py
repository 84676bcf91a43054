"""A topic of one partition, folded by a process that follows it without a group: what the definitions and the keys share."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

from schemas.errors import BrokerAway, LogMismatch, OutcomeUnknown, WorkflowError
from schemas.ports import TP, Record
from schemas.settings import Settings
from streams.following import ANSWER_S, TopicFollower

log = logging.getLogger(__name__)

Append = Callable[[str, int, bytes, bytes], Awaitable[int]]
"""(topic, partition, key, value) → offset, once the broker has the record. Raises BrokerAway, OutcomeUnknown."""

_BACKOFF_S: Final = 0.5


class FoldedTopic(ABC):
    """`start` it, `await level()` before it is relied on, `stop` it.

    `append` is needed by `write` alone; a process that only reads hands in none.
    """

    def __init__(self, settings: Settings, topic: str, append: Append | None = None) -> None:
        self._settings = settings
        self._append = append
        self._tp = TP(topic, 0)
        self._source = TopicFollower(settings)
        self._moved = asyncio.Event()
        self._writing = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self.position = 0
        """Offset of the next record."""
        self.failure: LogMismatch | None = None
        """Why it is followed no more: it is not the topic that was read before."""
        self.levelled = False
        """Whether all that stood there at some moment after the start was folded."""
        self.away: str | None = "not asked yet"
        """Why the broker does not answer, None while it does."""

    @abstractmethod
    def take(self, records: Sequence[Record]) -> None:
        """Fold records, in order. Any record may come, whoever wrote it."""

    @property
    def topic(self) -> str:
        return self._tp.topic

    def start(self) -> None:
        """Begin to read."""
        self._following = asyncio.create_task(self._follow(), name=self.topic)

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._source.aclose()

    async def level(self, timeout_s: float = ANSWER_S) -> None:
        """Wait until all that stood in the topic at the call is folded. Raises BrokerAway, or LogMismatch when the topic
        is shorter than what was read of it."""
        read = self.position  # before the question: meanwhile more may come to be read than its answer knows of
        end = (await self._source.end_offsets([self._tp]))[self._tp]
        if end < read:
            reason = f"it ends at {end}, before offset {read}, to which it was read"
            self.fail(LogMismatch(partition=0, topic=self.topic, reason=reason))
        if not await self.reach(end, timeout_s):
            raise self.no_answer(f"{self.topic} is not read to its end {end} within {timeout_s:g} s")
        self.levelled = True

    async def reach(self, position: int, timeout_s: float) -> bool:
        """Wait until this position is folded; False when the time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.position < position:
                    if self.failure is not None:
                        raise self.failure
                    await self._moved.wait()
        except TimeoutError:
            return False
        if self.failure is not None:
            raise self.failure
        return True

    async def settle(self) -> None:
        """Return when it was level once, however long the broker is away, or has failed for good."""
        while not self.levelled and self.failure is None:
            try:
                await self.level()
            except WorkflowError:
                await asyncio.sleep(_BACKOFF_S)  # `away` tells
            except Exception:
                log.exception("%s: its end cannot be asked for; it is asked again", self.topic)
                await asyncio.sleep(_BACKOFF_S)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """For one writer of this process at a time: within, it decides and writes. Raises BrokerAway after a bounded wait."""
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._writing.acquire()
        except TimeoutError:
            raise self.no_answer(f"what was written to {self.topic} before still waits for it") from None
        try:
            yield
        finally:
            self._writing.release()

    async def write(self, key: bytes, value: bytes) -> int:
        """Append a record and read it back; its offset. Raises BrokerAway (nothing was written) or OutcomeUnknown."""
        assert self._append is not None, "this reader was made without a way to append"
        offset = await self._append(self.topic, self._tp.partition, key, value)
        if not await self.reach(offset + 1, ANSWER_S):
            raise OutcomeUnknown(reason=f"it was written to {self.topic}, but could not be read back in time")
        return offset

    def no_answer(self, reason: str) -> BrokerAway:
        return BrokerAway(address=self._settings.kafka_bootstrap_servers, reason=reason)

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self._source.follow({self._tp: self.position})) as stream:
                    async for _, records in stream:
                        if self.away is not None:
                            log.info("%s: Kafka answers", self.topic)
                        self.away = None
                        self._fold(records)
            except LogMismatch as mismatch:
                self.fail(mismatch)
                return
            except BrokerAway as away:
                if self.away is None:
                    log.warning("%s: %s", self.topic, away)
                self.away = away.message
            except Exception:
                log.exception("%s: the reader failed and is made anew", self.topic)
            await asyncio.sleep(_BACKOFF_S)

    def _fold(self, records: Sequence[Record]) -> None:
        self.take(records)
        self.position = max(self.position, self._source.at[self._tp])
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def fail(self, failure: LogMismatch) -> None:
        """From now on it is followed no more, and who waits for it is told."""
        log.error("%s", failure.message)
        self.failure = failure
        self._moved.set()
