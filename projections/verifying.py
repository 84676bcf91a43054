"""Verify for ever: whoever projects a partition goes over its runs again and again, so slowly that nobody notices."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from projections.checks import check_log
from projections.compare import Difference
from projections.tables import Audit, Tables
from projections.verify import log_difference
from projections.verifying_pass import Found, Pass, WaitingPass
from schemas.errors import BrokerAway, LogMismatch, StalePosition, StoreAway
from schemas.ports import TP, Reader, Record
from schemas.settings import Settings

log = logging.getLogger(__name__)

SLICE_RECORDS: Final = 200
"""Folded and compared at once: what takes the loop's time is then a few milliseconds."""
SLICE_TIMEOUT_S: Final = 600.0
REST_MAX_S: Final = 600.0
"""A database that stood still for a minute does not end the work for an hour."""
LOOK_S: Final = 0.5
"""Between two looks whether the projection is level enough to go on."""
AWAY_S: Final = 5.0
PAUSE_S: Final = 5.0
"""Between two rounds over all partitions."""
DRIFT_MAX: Final = 10_000
"""Differing runs of a partition that are remembered."""
SAID_MAX: Final = 20
"""Differences that one pass writes to the log of the process."""

T = TypeVar("T")


@dataclass(slots=True)
class Verified:
    """What is known of a partition that this process has had since `began_s`; times are monotonic seconds."""

    began_s: float
    passed_s: float | None = None
    """when the last whole pass ended"""
    events: int = 0
    differing: dict[str, Difference] = field(default_factory=dict)
    """a run, or `partition N`, → its first difference"""

    def age_s(self, now_s: float) -> float:
        """Since the end of the last whole pass, or since this process has had the partition."""
        return now_s - (self.began_s if self.passed_s is None else self.passed_s)


class _Elsewhere(Exception):
    """The partition is another process's now."""


class Verifying:
    """`run` it beside a projector; `status` is what metrics and `/ready` say."""

    def __init__(
        self,
        settings: Settings,
        store: Tables,
        reader: Reader,
        ours: Callable[[], Collection[int]],
        lags: Callable[[], bool],
    ) -> None:
        """`ours`: the partitions to go over; `lags`: whether the projection is behind and everything else has to wait."""
        self._settings, self._store, self._reader = settings, store, reader
        self._ours, self._lags = ours, lags
        self._share = settings.workflow_verify_share
        self._known: dict[int, Verified] = {}
        self._said = 0

    @property
    def on(self) -> bool:
        return self._share > 0

    def status(self) -> dict[int, Verified]:
        """Of each partition that this process has; of none when it is off."""
        ours, now_s = set(self._ours()), time.monotonic()
        self._known = {number: known for number, known in self._known.items() if number in ours}
        if self.on:
            self._known |= {number: Verified(now_s) for number in ours - self._known.keys()}
        return dict(sorted(self._known.items()))

    async def run(self) -> None:
        """Go over all partitions until cancelled; nothing at a share of 0."""
        while self.on:
            for number in sorted(self._ours()):
                try:
                    await self.go_over(number)
                except Exception:
                    log.exception("partition %d cannot be verified; it is tried again", number)
            await asyncio.sleep(PAUSE_S)

    async def go_over(self, number: int) -> None:
        """One pass over a partition; broken off when it goes elsewhere."""
        one: Pass | None = None
        ended = False
        while not ended and number in self._ours():
            try:
                if one is None:
                    one = await self._paced(number, lambda: self._begin(number))
                await self._bring_to_end(number, one)
            except (StoreAway, BrokerAway, TimeoutError) as away:
                log.debug("partition %d is verified later: %s", number, away)
                await asyncio.sleep(AWAY_S)
                continue
            except (StalePosition, _Elsewhere) as moved:
                log.debug("partition %d is verified anew: %s", number, moved)
            except LogMismatch as mismatch:
                found = log_difference(number, 0 if one is None else one.end, mismatch)
                self._note(number, {found.run: [found]}, 0)
            ended = True

    async def _begin(self, number: int) -> Pass:
        """A pass up to where the tables stand. Raises LogMismatch for tables of another log."""
        tp, mark = TP(self._settings.topics.events, number), await self._store.mark(number)
        if mark is not None:
            await check_log(self._reader, tp, mark, await self._reader.cluster_id())
        return Pass(tp, self._settings.workflow_partitions, mark)

    async def _bring_to_end(self, number: int, one: Pass) -> None:
        """From wherever the pass stands."""
        async with aclosing(self._read(number, one.tp, one.position, one.end)) as stream:
            async for records in stream:
                await self._look(number, one, partial(one.take, records))
        while one.unfinished:
            await self._look(number, one, one.settle_unfinished)
        if one.end:
            await self._look(number, one, one.finish)
        await self._go_over_waiting(number, one)
        known = self.status().get(number)
        if known is None:
            raise _Elsewhere
        known.differing = {run: first for run, first in known.differing.items() if run in one.found}
        known.passed_s = time.monotonic()
        self._said = 0

    async def _read(self, number: int, tp: TP, start: int, end: int) -> AsyncGenerator[Sequence[Record], None]:
        """The records of a topic, so many as are looked at together."""
        stream = self._reader.read(tp, start, end)
        try:
            while records := await self._paced(number, lambda: anext(stream, None)):
                for at in range(0, len(records), SLICE_RECORDS):
                    yield records[at : at + SLICE_RECORDS]
        finally:
            if isinstance(stream, AsyncGenerator):  # it holds a connection
                await stream.aclose()

    async def _go_over_waiting(self, number: int, one: Pass) -> None:
        """Compare the commands that wait. Left to the next pass when the topic forgets what is to be read."""
        tp = TP(self._settings.topics.trigger, number)
        begin, end = (await self._reader.begin_offsets([tp]))[tp], (await self._reader.end_offsets([tp]))[tp]
        position = (await self._store.positions()).get(("t", number), 0)
        waiting = WaitingPass(self._settings, tp, begin=begin, position=position)
        try:
            async with aclosing(self._read(number, tp, begin, min(position, end))) as stream:
                async for records in stream:
                    await self._look(number, one, partial(waiting.take, records))
        except LogMismatch as mismatch:
            log.debug("waiting commands of partition %d are verified later: %s", number, mismatch)
        else:
            await self._look(number, one, waiting.finish)

    async def _look(self, number: int, one: Pass, compare: Callable[[Audit], Awaitable[Found]]) -> None:
        """One piece of work on the tables of one moment."""

        async def work() -> Found:
            async with asyncio.timeout(SLICE_TIMEOUT_S), self._store.audit() as audit:
                return await compare(audit)

        before = one.position
        found = await self._paced(number, work)
        one.found |= {run for run, differences in found.items() if differences}
        self._note(number, found, one.position - before)

    async def _paced(self, number: int, work: Callable[[], Awaitable[T]]) -> T:
        """Do it when nothing lags, and then nothing for so long that our share of the time is kept. Raises _Elsewhere."""
        while self._lags() and number in self._ours():  # noqa: ASYNC110 - what makes it level has no event
            await asyncio.sleep(LOOK_S)
        if number not in self._ours():
            raise _Elsewhere
        began = time.monotonic()
        done = await work()
        await asyncio.sleep(min(REST_MAX_S, (time.monotonic() - began) * (1 / self._share - 1)))
        return done

    def _note(self, number: int, found: Found, events: int) -> None:
        known = self.status().get(number)
        if known is None:
            return
        known.events += events
        for run, differences in found.items():
            if not differences:
                known.differing.pop(run, None)
            elif run not in known.differing and len(known.differing) < DRIFT_MAX:
                known.differing[run] = differences[0]
                self._say(differences[0])

    def _say(self, first: Difference) -> None:
        self._said += 1
        if self._said <= SAID_MAX:
            log.error("the tables are not what the log says; `workflow rebuild` mends them: %s", first)
        elif self._said == SAID_MAX + 1:
            log.error("more runs differ; `workflow verify` names them all")


def drift(verified: Mapping[int, Verified]) -> str | None:
    """One line about what differs; None when nothing does."""
    count = sum(len(known.differing) for known in verified.values())
    first = next((each for known in verified.values() for each in known.differing.values()), None)
    return None if first is None else f"{count} differ from the log, `workflow rebuild` mends them. The first: {first}"
