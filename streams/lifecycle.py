"""Starting, stopping and watching a member of a group. A process that cannot go on ends, so that its supervisor starts another."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka.errors import KafkaError

from schemas.errors import BrokerAway, LogMismatch
from schemas.ports import TP, Group, Reader

log = logging.getLogger(__name__)

EXIT_CRASHED = 1
EXIT_STOP_HUNG = 70
EXIT_STALLED = 71

_RETRY_S = 1.0
_RETRY_S_MAX = 5.0
_JOIN_NOTICE_S = 15.0


class Member(Protocol):
    """What `run_app` runs; `streams.transport.GroupApp` is one."""

    async def reach(self) -> None:
        """Raises BrokerAway, within a few seconds, when there is nobody to join."""

    def make(self) -> Any:
        """A Faust app, good for one start."""

    async def leave(self, life: Any) -> None:
        """Let go of the partitions while they are still ours."""


async def run_app(app: Member, stop: asyncio.Event, *, grace_s: float) -> int:
    """Run until `stop` is set (returns 0) or something escaped (logged, returns 1). While Kafka is away at the start it is
    tried again. A stop that takes longer than `grace_s` ends the process at once with exit code 70."""
    stopping = asyncio.ensure_future(stop.wait())
    retry_s = _RETRY_S
    try:
        while not stopping.done():
            try:
                await app.reach()
                failure = await _live(app, stopping, grace_s)
            except (BrokerAway, KafkaError, OSError) as exc:
                log.warning("Trying again in %g s: %s", retry_s, exc)
                await asyncio.wait({stopping}, timeout=retry_s)
                retry_s = min(2 * retry_s, _RETRY_S_MAX)
                continue
            if failure is not None:
                log.critical(
                    "The member of the group ended: %s", str(failure) or type(failure).__name__, exc_info=failure
                )
                return EXIT_CRASHED
        return 0
    finally:
        stopping.cancel()


async def _live(app: Member, stopping: asyncio.Future[Any], grace_s: float) -> BaseException | None:
    """One life of the app, from its start to its stop. Returns what ended it, None when it was told to stop.
    Raises what the start failed with when the broker went away in the middle of it."""
    life = app.make()
    failure, refused = await _run(life, stopping)
    if failure is None:
        failure = await _leave(app, life)
    await _stop(life, grace_s)
    if refused and isinstance(failure, KafkaError | OSError):
        raise failure
    return failure


async def _run(life: Any, stopping: asyncio.Future[Any]) -> tuple[BaseException | None, bool]:
    """What ended the app, and whether it was its start; None when it was told to stop."""
    starting = asyncio.ensure_future(life.start())
    ended = asyncio.ensure_future(life.wait_until_stopped())
    try:
        while not (starting.done() or ended.done() or stopping.done()):
            await asyncio.wait({starting, ended, stopping}, timeout=_JOIN_NOTICE_S, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                log.info("Still joining the group")
        if starting.done() and (error := starting.exception()) is not None:
            return error, True
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done() and not life.crashed:
            return None, False
        return life.crash_reason or RuntimeError("the app stopped by itself"), False
    finally:
        starting.cancel()  # `ended` ends with the stop; cancelled, it would leave tasks of its own behind


async def _leave(app: Member, life: Any) -> BaseException | None:
    try:
        await app.leave(life)
    except Exception as exc:  # noqa: BLE001 - told by the caller, after the stop
        return exc
    return None


async def _stop(life: Any, grace_s: float) -> None:
    """Stop within the bound, whatever hangs. A wait_for would not do: Faust's stop swallows cancellation."""
    task = asyncio.ensure_future(life.stop())
    await asyncio.wait({task}, timeout=grace_s)
    if not task.done():
        names = sorted(str(other.get_coro()) for other in asyncio.all_tasks())
        log.critical("The stop took longer than %g s; ended at once. Running: %s", grace_s, "; ".join(names)[:4000])
        _end_process(EXIT_STOP_HUNG)
    elif (error := task.exception()) is not None:
        log.debug("The stop of an app that did not run well failed as well: %r", error)


def _end_process(code: int) -> None:
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a partition stands (offset to handle next), where it ends, and whether it may stand still for now: paused, or
    waiting for something that is known to be away. `cut`: it has lost records that were read."""

    position: int
    end: int
    excused: bool = False
    cut: bool = False


class Watchdog:
    """Ends the process when a partition has records, is not excused, and did not move for `stall_s`, or when the main loop
    did nothing at all for so long. It counts its own ticks, so a process that was frozen is not punished for it."""

    def __init__(
        self,
        progress: Callable[[], Mapping[TP, Progress]],
        *,
        stall_s: float,
        tick_s: float = 1.0,
        end: Callable[[int], None] = _end_process,
    ) -> None:
        self._progress = progress
        self._tick_s = tick_s
        self._ticks_max = max(1, round(stall_s / tick_s))
        self._end = end
        self._seen: dict[TP, tuple[int, int]] = {}  # position and the ticks that it has stood there
        self._unanswered = 0
        self._done = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()

    def start(self) -> None:
        """Watch the loop on which this object was made, from a thread of its own."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        self._done.set()

    def _run(self) -> None:
        while not self._done.wait(self._tick_s):
            self.tick()

    def tick(self) -> None:
        """One look, from the watchdog's thread."""
        if self._unanswered >= self._ticks_max:
            self._die(f"The main loop is blocked, {self._where()}, for {self._ticks_max * self._tick_s:g} s")
            return
        if self._unanswered == 0:
            try:
                self._loop.call_soon_threadsafe(self._sample)
            except RuntimeError:  # the loop was closed: nothing is left to watch
                self._done.set()
        self._unanswered += 1

    def _sample(self) -> None:
        """The same look, on the main loop."""
        self._unanswered = 0
        now = self._progress()
        seen = {}
        for tp, at in now.items():
            if at.cut:
                self._die(f"{tp.topic}/{tp.partition} ends at {at.end} and was read further: the log is another one")
                return
            if at.excused or at.position >= at.end:
                continue
            position, ticks = self._seen.get(tp, (at.position, 0))
            ticks = ticks + 1 if position == at.position else 1
            if ticks > self._ticks_max:
                stands = (
                    f"has records up to {at.end} and stands at {at.position}, for {self._ticks_max * self._tick_s:g} s"
                )
                self._die(f"{tp.topic}/{tp.partition} {stands}")
                return
            seen[tp] = (at.position, ticks)
        self._seen = seen

    def _where(self) -> str:
        frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - the one way to see another thread
        stack = traceback.extract_stack(frame)[-3:] if frame is not None else []
        return " < ".join(f"{at.name} ({at.filename}:{at.lineno})" for at in reversed(stack))

    def _die(self, why: str) -> None:
        self._done.set()
        log.critical("%s. The process ends.", why)
        self._end(EXIT_STALLED)


class GroupProgress:
    """What a Watchdog asks, for a group: positions from the group itself, ends from the broker by another connection,
    because a client that stalls does not see the end move. While the broker does not answer nothing is held against it."""

    def __init__(self, group: Group, reader: Reader, excused: Callable[[], Collection[TP]]) -> None:
        self._group = group
        self._reader = reader
        self._excused = excused
        self._ends: dict[TP, int] = {}
        self._cut: frozenset[TP] = frozenset()
        self._before: dict[TP, int | None] = {}

    async def run(self, every_s: float) -> None:
        """Ask for the ends until cancelled."""
        while True:
            try:
                self._ends = await self._ask(self._group.assignment)
            except BrokerAway:
                self._ends = {}
            except Exception:
                log.exception("The ends of the partitions cannot be asked for; the watchdog sees no stalls meanwhile")
                self._ends = {}
            await asyncio.sleep(every_s)

    def __call__(self) -> dict[TP, Progress]:
        excused, assignment = self._excused(), self._group.assignment
        return {
            tp: Progress(-1 if (at := self._group.position(tp)) is None else at, end, tp in excused, tp in self._cut)
            for tp, end in self._ends.items()
            if tp in assignment
        }

    async def _ask(self, assignment: frozenset[TP]) -> dict[TP, int]:
        read = {tp: self._group.position(tp) or 0 for tp in assignment}  # before the question: meanwhile more is read
        ends = await self._reader.end_offsets(assignment) if assignment else {}
        excused = frozenset(self._excused())
        self._cut = frozenset(tp for tp, end in ends.items() if end < read[tp] and tp not in excused)
        positions = {tp: self._group.position(tp) for tp in assignment}
        suspects = [tp for tp in assignment - excused if positions[tp] == self._before.get(tp)]
        for tp in suspects:
            at = positions[tp]
            if at is not None and at < ends[tp] and not await self._holds_records(tp, at, ends[tp]):
                ends[tp] = at
        self._before = positions
        return ends

    async def _holds_records(self, tp: TP, start: int, end: int) -> bool:
        """Markers of transactions and what was aborted have offsets as well, but nothing to hand over."""
        try:
            async for _ in self._reader.read(tp, start, end):
                return True
        except LogMismatch:
            return True
        return False
