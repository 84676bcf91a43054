"""The projector: a member of its own consumer group that brings events and waiting commands into the store.

It knows neither Faust nor Kafka: the group hands over records, `Reader` answers questions about the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from projections.lag import Lag, LagWatch, look_up_age
from projections.lane import Lane, Parts
from schemas.errors import BrokerAway, OtherProjection, StoreAway
from schemas.ports import TP, Assignment, Group, Reader, Record
from schemas.settings import Settings
from schemas.store import Store

log = logging.getLogger(__name__)

COMMIT_S: Final = 5.0
"""Between two commits to the group. They are for people who look at its lag: the store alone says where to go on."""
ENDS_S: Final = 2.0
TABLES_S: Final = 5.0
LAGS_S: Final = 1.0
"""A batch is written in less; so it is behind, and not just at work."""
LET_GO_S: Final = 1.5
"""How long a revoked partition's transaction is waited for; the fence makes a later one harmless."""


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """A partition as `/ready`, the watchdog and metrics show it. Ends are None until the broker has told them, `lag` until it
    is known where the tables stand, too.

    `waits`: the store or Kafka is away, and says why. `stopped`: it stands still until somebody mends what this says.
    """

    position: int
    end: int | None
    commands: int
    commands_end: int | None
    loaded: bool
    waits: str | None
    stopped: str | None
    orphans: Mapping[str, int]
    lag: Lag | None


class Projector:
    """A handler for the group (`schemas.ports.BatchHandler`). `connect` it, `start` it, and `close` it at the end."""

    def __init__(self, settings: Settings, store: Store, reader: Reader) -> None:
        self._settings, self._store, self._reader = settings, store, reader
        self._group: Group | None = None
        self._lanes: dict[int, Lane] = {}
        self._running: dict[int, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[None]] = []
        self._ends: dict[TP, int] = {}
        self._watch = LagWatch()
        self.counts = Counter[str]()
        """runs that this process brought into the tables: `STARTED`, and by the status with which they ended"""
        self.quarantined: int | None = None
        """runs of all partitions that are set aside; None until the store has told"""
        self.on_failure: Callable[[BaseException], None] = _raise
        """told of an error that nobody handles: the process has to end"""

    def connect(self, group: Group) -> None:
        """The membership that this handler steers."""
        self._group = group

    @property
    def group(self) -> Group:
        assert self._group is not None, "connect the projector to its group first"
        return self._group

    def start(self) -> None:
        """Begin to commit, and to watch the ends of the partitions and the tables."""
        work = (self._commit_often(), self._watch_ends(), self._watch_tables())
        self._background = [self._spawn(each) for each in work]

    async def close(self) -> None:
        """Stop everything. The store stays open."""
        tasks = [*self._background, *self._running.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LET_GO_S)

    # what the group calls

    async def assigned(self, assignment: frozenset[TP], generation: int) -> Assignment:  # noqa: ARG002
        numbers = sorted({tp.partition for tp in assignment})
        self._lanes = {number: self._lane(number) for number in numbers}
        before, self._running = self._running, {}
        for number, lane in self._lanes.items():
            self._running[number] = self._spawn(self._run(lane, before.get(number)))
        return Assignment(paused=assignment)

    def _lane(self, number: int) -> Lane:
        parts = Parts(self._settings, self._store, self._reader, self.group, self.counts)
        return self._lanes.get(number) or Lane(number, parts)

    async def _run(self, lane: Lane, before: asyncio.Task[None] | None) -> None:
        """Run the lane once its run of the last assignment has ended."""
        if before is not None:
            before.cancel()
            await asyncio.wait({before})
        await lane.run()

    async def revoked(self) -> None:
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LET_GO_S)

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        lane = self._lanes.get(tp.partition)
        if lane is None:
            return
        if tp == lane.events:
            lane.receive(records)
        elif tp == lane.commands:
            lane.receive_commands(records)

    # what others look at

    def status(self) -> dict[int, LaneStatus]:
        """Every partition that is assigned."""
        self._watch.tables({("e", number): lane.position for number, lane in self._lanes.items() if lane.known})
        lags = self._watch.lags(time.monotonic())
        return {
            number: LaneStatus(
                lane.position,
                self._ends.get(lane.events),
                lane.held.position,
                self._ends.get(lane.commands),
                lane.loaded,
                lane.waits,
                lane.stopped,
                lane.orphans,
                lags.get(("e", number)),
            )
            for number, lane in self._lanes.items()
        }

    def lags(self) -> bool:
        """Whether a partition that could move is behind: what this process does beside has to wait then."""
        moving = [lane for lane in self.status().values() if lane.stopped is None]
        return any(lane.waits or lane.lag is None or lane.lag.seconds > LAGS_S for lane in moving)

    def excused(self) -> Collection[TP]:
        """Partitions that may stand still: loading, waiting for store or Kafka, or stopped with a reason."""
        return {
            tp
            for lane in self._lanes.values()
            if not lane.loaded or lane.waits or lane.stopped
            for tp in (lane.events, lane.commands)
        }

    def orphans(self) -> Counter[str]:
        """Records that were no facts, by reason, since this process has had their partitions."""
        return sum((lane.orphans for lane in self._lanes.values()), Counter())

    # in the background

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if isinstance(error, OtherProjection):
                log.warning("it ends, so that others have its partitions: %s", error)
            else:
                log.critical("a task of the projector failed", exc_info=error)
            self.on_failure(error)

    async def _commit_often(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit()

    async def _commit(self) -> None:
        offsets: dict[TP, int] = {}
        for lane in self._lanes.values():
            if lane.loaded:
                offsets |= {lane.events: lane.position, lane.commands: lane.held.position}
        if offsets:
            await self.group.commit(offsets)

    async def _watch_ends(self) -> None:
        """Ask from a connection of its own: a client that stalls does not see the end move."""
        while True:
            lanes = dict(self._lanes)
            try:
                tps = [tp for lane in lanes.values() for tp in (lane.events, lane.commands)]
                self._ends = await self._reader.end_offsets(tps) if tps else {}
            except BrokerAway:
                self._ends = {}
            await self._note_lag(lanes)
            await asyncio.sleep(ENDS_S)

    async def _note_lag(self, lanes: Mapping[int, Lane]) -> None:
        ends = {("e", number): self._ends[lane.events] for number, lane in lanes.items() if lane.events in self._ends}
        self._watch.keep(lanes)
        self._watch.ends(ends, time.monotonic())
        self._watch.tables({("e", number): lane.position for number, lane in lanes.items() if lane.known})
        await look_up_age(self._watch, self._reader, self._settings.topics.events)

    async def _watch_tables(self) -> None:
        """Notice older tables that somebody has restored also where no event comes to meet the fence."""
        while True:
            await asyncio.sleep(TABLES_S)
            written = {
                number: (lane.position, lane.held.position) for number, lane in self._lanes.items() if lane.loaded
            }
            try:
                at = await self._store.positions() if written else {}
                self.quarantined = await self._store.count_set_aside() if written else None
            except StoreAway:
                continue
            for number, (events, commands) in written.items():
                lane, stand = self._lanes.get(number), at.get(("e", number), 0)
                if lane is not None and (stand < events or at.get(("t", number), 0) < commands):
                    lane.found(stand)


def _raise(error: BaseException) -> None:
    raise error
