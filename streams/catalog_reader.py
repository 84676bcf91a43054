"""All definitions in one process: read from the start of `workflow.definitions`, followed, and added to."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final

import orjson

from schemas.catalog import Catalog, Defined
from schemas.errors import BrokerAway, LogMismatch, OutcomeUnknown, WorkflowError
from schemas.events import time_text
from schemas.ports import TP, Record
from schemas.settings import Settings
from streams.following import ANSWER_S, TopicFollower

log = logging.getLogger(__name__)

Append = Callable[[str, int, bytes, bytes], Awaitable[int]]
"""(topic, partition, key, value) → offset, once the broker has the record. Raises BrokerAway, OutcomeUnknown."""

_BACKOFF_S: Final = 0.5
_MADE_MAX: Final = 1_000


class CatalogReader:
    """Follows the definitions without a group. `start` it, `await level()` before it is relied on, `stop` it.

    `append` is needed by `define` alone; a process that only reads hands in none.
    """

    def __init__(self, settings: Settings, append: Append | None = None, *, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._append = append
        self._clock = clock
        self._catalog = Catalog()
        self._tp = TP(settings.topics.definitions, 0)
        self._source = TopicFollower(settings)
        self._moved = asyncio.Event()
        self._defining = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._made: OrderedDict[int, Defined] = OrderedDict()  # offset → the version that the record there made
        self._failure: WorkflowError | None = None
        self.away: str | None = "not asked yet"
        """Why the broker does not answer, None while it does."""

    def start(self) -> None:
        """Begin to read."""
        self._following = asyncio.create_task(self._follow(), name="definitions")

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
        await self._source.aclose()

    @property
    def position(self) -> int:
        """Offset of the next record."""
        return self._catalog.position

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        """A version, or the newest one seen so far."""
        return self._catalog.get(workflow_id, version)

    def newest(self) -> list[Defined]:
        """The newest version of every workflow, by id."""
        return self._catalog.newest()

    async def level(self, timeout_s: float = ANSWER_S) -> None:
        """Wait until all that stood in the topic at the call is folded. Raises BrokerAway, or LogMismatch when the topic
        is shorter than what was read of it."""
        read = self.position  # before the question: meanwhile more may come to be read than its answer knows of
        end = (await self._source.end_offsets([self._tp]))[self._tp]
        if end < read:
            reason = f"it ends at {end}, before offset {read}, to which it was read"
            self._fail(LogMismatch(partition=0, topic=self._tp.topic, reason=reason))
        if not await self.reach(end, timeout_s):
            raise self._no_answer(f"{self._tp.topic} is not read to its end {end} within {timeout_s:g} s")

    async def reach(self, position: int, timeout_s: float) -> bool:
        """Wait until this position is folded; False when the time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._catalog.position < position:
                    if self._failure is not None:
                        raise self._failure
                    await self._moved.wait()
        except TimeoutError:
            return False
        if self._failure is not None:
            raise self._failure
        return True

    async def define(self, definition: dict[str, Any]) -> tuple[Defined, bool]:
        """The version that holds `definition` (its plain form), and whether this call made it.

        The newest version with equal content is the answer; else the next one is appended and read back. Lost to another
        writer, it is decided again. Raises BrokerAway (nothing written) or OutcomeUnknown (calling again is safe).
        """
        assert self._append is not None, "this reader was made without a way to append"
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._defining.acquire()
        except TimeoutError:
            raise self._no_answer("definitions posted before this one still wait for it") from None
        try:
            while True:
                await self.level()
                newest = self._catalog.get(definition["id"])
                if newest is not None and _equal(newest.definition, definition):
                    return newest, False
                made = await self._try(definition, self._append)
                if made is not None:
                    return made, True
        finally:
            self._defining.release()

    async def _try(self, definition: dict[str, Any], append: Append) -> Defined | None:
        """Append the next version and read it back; None when somebody else's record stands before it."""
        value = self._catalog.next_record(definition, time_text(self._clock()))
        offset = await append(self._tp.topic, self._tp.partition, definition["id"].encode(), value)
        if not await self.reach(offset + 1, ANSWER_S):
            raise OutcomeUnknown(reason="the definition was written, but could not be read back in time")
        return self._made.get(offset)

    def _no_answer(self, reason: str) -> BrokerAway:
        return BrokerAway(address=self._settings.kafka_bootstrap_servers, reason=reason)

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self._source.follow({self._tp: self.position})) as stream:
                    async for _, records in stream:
                        if self.away is not None:
                            log.info("definitions: Kafka answers")
                        self.away = None
                        self._fold(records)
            except LogMismatch as mismatch:
                self._fail(mismatch)
                return
            except BrokerAway as away:
                if self.away is None:
                    log.warning("definitions: %s", away)
                self.away = away.message
            except Exception:
                log.exception("definitions: the reader failed and is made anew")
            await asyncio.sleep(_BACKOFF_S)

    def _fold(self, records: Sequence[Record]) -> None:
        for record in records:
            made = self._catalog.fold(record.offset, record.value)
            if made is not None:
                self._made[record.offset] = made
                if len(self._made) > _MADE_MAX:
                    self._made.popitem(last=False)
        self._wake()

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def _fail(self, failure: WorkflowError) -> None:
        log.error("%s", failure.message)
        self._failure = failure
        self._wake()


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal as JSON texts: to Python true equals 1, to a receiver of webhooks it does not."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
