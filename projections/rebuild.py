"""Rebuild: fold the topics from their first records into a second set of tables, compare, and let it take over.

Any number of processes do it together. What they agree on stands on the board (projections/board.py); each of them runs
`work` until the rebuild has ended. Nothing is sent to anybody: a rebuild reads topics and writes tables.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from projections import board
from projections.board import Rebuild
from projections.checks import check_log
from projections.compare import Comparison, Difference
from projections.filling import Filling
from projections.progress import Progress, Tell
from projections.rows import PROJECTION_VERSION
from projections.tables import Tables
from schemas.errors import LogMismatch, StalePosition, StoreAway, WorkflowError
from schemas.ports import Reader
from schemas.settings import Settings

log = logging.getLogger(__name__)

AT_ONCE: Final = 2
"""Partitions that one process folds at the same time: one decodes while another's rows are written."""
RENEW_S: Final = 1.0
LOOK_S: Final = 0.2
"""Between two looks at a board where there was nothing to do."""
GIVE_BACK_S: Final = 5.0
LOST_MAX: Final = 3
"""Times in a row that a transaction may be lost while the board can be read."""
T = TypeVar("T")


class RebuildFailed(WorkflowError):
    """The rebuild {id} has failed: {reason} The tables that serve were left as they are."""


class RebuildOfAnother(WorkflowError):
    """The rebuild {id} makes the projection {found} and this program makes the projection {wanted}: another release has begun
    it, and its processes do it. `workflow projections cancel` ends it."""


class RebuildCancelled(WorkflowError):
    """The rebuild {id} was cancelled. The tables that serve were left as they are."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild came to: `folded` events were in the tables after `folded_s` seconds, in `worked_s` of which somebody
    worked on it; all of them after `seconds`."""

    id: str = ""
    events: int = 0
    folded: int = 0
    folded_s: float = 0.0
    worked_s: float = 0.0
    seconds: float = 0.0
    compared: Comparison = field(default_factory=Comparison)

    @property
    def differences(self) -> list[Difference]:
        return list(self.compared.differences)


async def rebuild(settings: Settings, store: Tables, reader: Reader, tell: Tell, *, by: str = "an operator") -> Rebuilt:
    """Make all tables anew, or go on with the rebuild that runs. `store` serves meanwhile, and its projector goes on.

    Raises LogMismatch when the log has lost its beginning, StoreAway and BrokerAway; the old tables then stay, and the
    next call goes on from there. Raises RebuildCancelled and RebuildFailed for what others did with it, and
    RebuildOfAnother while that of a newer release runs.
    """
    began = await request(store, by)
    return outcome(await work(settings, store, reader, tell, began.id))


async def request(store: Tables, by: str, *, helped: bool = True) -> Rebuild:
    """Have the tables rebuilt by whoever works on it; the rebuild that runs, if there is one. Raises RebuildOfAnother.
    `helped` False: the caller works on it, and projectors leave the processors to it."""
    token = secrets.token_hex(4)

    def write(old: Rebuild | None, now_s: float) -> tuple[Rebuild | None, Rebuild]:
        return board.begin(old, Rebuild(token, "preparing", by, PROJECTION_VERSION, now_s, helped=helped))

    return _of_ours(await store.board().change(write))


def _of_ours(rebuild: Rebuild) -> Rebuild:
    """Raises RebuildOfAnother for what this release would fold in another way."""
    if rebuild.version != PROJECTION_VERSION:
        raise RebuildOfAnother(id=rebuild.id, found=rebuild.version, wanted=PROJECTION_VERSION)
    return rebuild


async def cancel(store: Tables) -> Rebuild | None:
    """End the rebuild that runs and throw its tables away; None when there is none."""

    def write(old: Rebuild | None, now_s: float) -> tuple[Rebuild | None, Rebuild | None]:
        if old is None or old.ended:
            return old, None
        over = board.end(old, "cancelled", now_s)
        return over, over

    cancelled = await store.board().change(write)
    if cancelled is not None:
        await _discard(store, cancelled)
    return cancelled


async def _discard(store: Tables, over: Rebuild) -> None:
    """Throw its tables away. Who may not leaves that to the processes that work on it, and to the next rebuild."""
    try:
        await store.discard(over.name)
    except StoreAway as away:
        log.info("the tables of the rebuild %s stay until the next one: %s", over.id, away)


def outcome(over: Rebuild) -> Rebuilt:
    """What an ended rebuild came to. Raises RebuildCancelled, RebuildFailed."""
    if over.phase == "cancelled":
        raise RebuildCancelled(id=over.id)
    if over.phase == "failed":
        raise RebuildFailed(id=over.id, reason=over.error)
    folded_s, ended_s = over.folded_s or over.started_s, over.ended_s or over.started_s
    compared = over.report or Comparison()
    took = folded_s - over.started_s, over.worked_s(folded_s), ended_s - over.started_s
    return Rebuilt(over.id, over.done, over.events, *took, compared)


async def work(
    settings: Settings, store: Tables, reader: Reader, tell: Tell, rebuild_id: str, *, at_once: int = AT_ONCE
) -> Rebuild:
    """Take part in a rebuild until it has ended, and tell how it did. Raises what stops this process; others go on."""
    worker = _Worker(settings, store, reader, tell, rebuild_id, at_once)
    try:
        return await worker.run()
    except LogMismatch as mismatch:
        await worker.fail(mismatch)
        raise
    finally:
        await worker.leave()


class _Gone(Exception):
    """The rebuild has ended, or what this process held is another's: stop and look again."""


class _Worker:
    """One process's part in a rebuild."""

    def __init__(
        self, settings: Settings, store: Tables, reader: Reader, tell: Tell, rebuild_id: str, at_once: int
    ) -> None:
        self._settings, self._store, self._reader, self._tell = settings, store, reader, tell
        self._id, self._at_once = rebuild_id, at_once
        self._name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._board = store.board()
        self._held: dict[int, Filling] = {}
        self._gone = False
        self._lost = 0
        self._second: Tables | None = None

    async def run(self) -> Rebuild:
        while True:
            rebuild = await self._board.read()
            if rebuild is None or rebuild.id != self._id:
                raise RebuildCancelled(id=self._id)
            self._say(_of_ours(rebuild))
            if rebuild.ended:
                if rebuild.phase == "cancelled":
                    await _discard(self._store, rebuild)
                return rebuild
            worked = await self._part(rebuild)
            if worked:
                self._lost = 0
            else:
                await asyncio.sleep(LOOK_S)

    async def _part(self, rebuild: Rebuild) -> bool:
        """Do something of the phase; whether there was anything to do."""
        if self._second is None and await self._store.has(rebuild.name):
            self._second = self._store.opened(rebuild.name)
        try:
            return await (self._share() if rebuild.phase in board.SHARED else self._alone())
        except (_Gone, StalePosition):
            return False
        except StoreAway as away:
            with contextlib.suppress(_Gone):
                if not await self._again(away):
                    raise
            return False

    async def _again(self, away: StoreAway) -> bool:
        """Whether to go on after a transaction was lost: the store ends that of a process that was frozen, for one. Raises
        StoreAway when the board cannot be read either, and _Gone when the rebuild is over, and its tables with it."""
        current = await self._board.read()
        if current is None or current.id != self._id or current.ended:
            raise _Gone from away
        self._lost += 1
        if self._lost > LOST_MAX:
            return False
        log.warning("rebuild %s: a transaction was lost and is done again: %s", self._id, away)
        await asyncio.sleep(LOOK_S)
        return True

    async def fail(self, error: WorkflowError) -> None:
        """Nobody can go on with this."""
        await self._change(lambda now, now_s: (board.end(now, "failed", now_s, error.message), None))
        if (over := await self._board.read()) is not None and over.id == self._id and over.phase == "failed":
            await _discard(self._store, over)

    async def leave(self) -> None:
        """Let others have what this process holds; if the board cannot be reached, they wait for the lease to lapse."""
        with contextlib.suppress(StoreAway):
            await self._change(lambda now, now_s: (board.leave(now, self._name, now_s), None))
        if self._second is not None:
            await self._second.close()

    # shared phases

    async def _share(self) -> bool:
        """Fold what can be claimed, some partitions at a time."""
        async with self._renewing():
            worked = await _all(self._folder() for _ in range(self._at_once))
        await self._change(lambda now, now_s: (board.go_on(now, now_s), None))
        return any(worked)

    async def _folder(self) -> bool:
        worked = False
        while (number := await self._claim()) is not None:
            await self._fold(number)
            worked = True
        return worked

    async def _claim(self) -> int | None:
        return await self._change(lambda now, now_s: board.claim(now, self._name, now_s))

    async def _fold(self, number: int) -> None:
        rebuild = await self._board.read()
        if rebuild is None or self._second is None or rebuild.id != self._id or rebuild.phase not in board.SHARED:
            raise _Gone
        filling = self._held[number] = self._filling()
        loaded = 0
        try:
            await filling.load(number)
            loaded = filling.events
            await filling.fold_to(number, rebuild.parts[number].end)
        except StoreAway as away:
            if filling.events > loaded:
                self._lost = 0
            if not await self._again(away):
                raise
        finally:
            del self._held[number]
            position = filling.events if filling.folds else rebuild.parts[number].position
            await self._give_back(number, position)

    async def _give_back(self, number: int, position: int) -> None:
        """Let others have the partition; if the board does not answer, they wait for the lease to lapse."""
        with contextlib.suppress(StoreAway, RebuildCancelled, TimeoutError):
            async with asyncio.timeout(GIVE_BACK_S):
                await self._change(lambda now, now_s: (board.give_back(now, self._name, number, position, now_s), None))

    def _filling(self) -> Filling:
        assert self._second is not None
        return Filling(self._settings, self._second, self._reader, self._wrote)

    # phases of one process

    async def _alone(self) -> bool:
        if not await self._change(lambda now, now_s: board.claim_phase(now, self._name, now_s)):
            return False
        async with self._renewing(alone=True):
            await self._do_phase()
        return True

    async def _do_phase(self) -> None:
        rebuild = await self._board.read()
        if rebuild is None:
            raise _Gone
        match rebuild.phase:
            case "preparing":
                await self._prepare(rebuild)
            case "comparing":
                await self._compare()
            case "swapping":
                await self._swap(rebuild)
            case _:
                raise _Gone

    async def _still(self, phase: board.Phase) -> None:
        """Raises _Gone unless this process holds the phase at this moment: one that was frozen may have slept through all."""
        now = await self._board.read()
        if now is None or now.id != self._id or now.phase != phase or not board.holds(now, self._name):
            raise _Gone

    async def _prepare(self, rebuild: Rebuild) -> None:
        """An empty second set, and where each partition is to come to be compared with the first."""
        made = replace(rebuild, set=secrets.token_hex(4))
        await self._still("preparing")
        second = await self._store.second(made.name, spare=f"second_{self._id}")
        try:
            await second.migrate()
            await second.begin_filling(self._store)
            filling = Filling(self._settings, second, self._reader, self._wrote)
            cluster_id, ends = await self._reader.cluster_id(), await filling.ends()
            for number in ends:
                await check_log(self._reader, filling.events_of(number), None, cluster_id)
            stands = await self._stands()
        finally:
            await second.close()
        wanted = [min(stands.get(number) or end, end) for number, end in ends.items()]
        await self._next(lambda now, now_s: board.share(replace(now, set=made.set), "folding", wanted, now_s))

    async def _stands(self) -> Mapping[int, int]:
        return {number: at for (topic, number), at in (await self._store.positions()).items() if topic == "e"}

    async def _compare(self) -> None:
        assert self._second is not None
        await self._second.end_filling()
        filling = self._filling()
        await filling.follow(self._stands)
        report = await self._store.compare(self._second, filling.reach)
        ends = await filling.ends()
        await self._next(lambda now, now_s: board.share(now, "levelling", ends.values(), now_s, report=report))

    async def _swap(self, rebuild: Rebuild) -> None:
        if await self._store.has(rebuild.name):
            assert self._second is not None
            filling = self._filling()
            await filling.follow(filling.ends)
            await filling.show_commands()
            await self._wrote()

            async def level(positions: Mapping[int, int]) -> None:
                await filling.reach(positions)
                await filling.show_commands()  # those that came meanwhile, so that no position goes back
                await self._check_level(positions)
                await self._still("swapping")

            await self._store.swap(self._second, level)
            stands = filling.folds
            await self._next(lambda now, _: _standing(now, {n: fold.position for n, fold in stands.items()}))
        await self._change(lambda now, now_s: (board.end(now, "done", now_s), None))

    async def _check_level(self, positions: Mapping[int, int]) -> None:
        """Raises StalePosition for a second set that does not stand where the first does, whoever has touched it. A first set
        that stands beyond the end of its log is another log's, and is not waited for."""
        assert self._second is not None
        stands, ends = await self._second.positions(), await self._filling().ends()
        for number, position in positions.items():
            wanted, found = min(position, ends.get(number, 0)), stands.get(("e", number), 0)
            if found < wanted:
                raise StalePosition(partition=number, found=found, wanted=wanted)

    async def _next(self, step: Callable[[Rebuild, float], Rebuild]) -> None:
        """Go on from a phase that this process still holds."""

        def write(now: Rebuild, now_s: float) -> tuple[Rebuild, bool]:
            held = board.holds(now, self._name)
            return (step(now, now_s) if held else now), held

        if not await self._change(write):
            raise _Gone

    # the board

    async def _change(self, step: Callable[[Rebuild, float], tuple[Rebuild, T]]) -> T:
        def write(now: Rebuild | None, now_s: float) -> tuple[Rebuild | None, T]:
            if now is None or now.id != self._id:
                raise RebuildCancelled(id=self._id)
            return step(now, now_s)

        return await self._board.change(write)

    @asynccontextmanager
    async def _renewing(self, *, alone: bool = False) -> AsyncIterator[None]:
        """What this process holds stays its own meanwhile. `alone`: it holds a phase."""
        self._gone = False
        renewing = asyncio.ensure_future(self._renew_often(alone))
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.wait({renewing})

    async def _renew_often(self, alone: bool) -> None:
        def renew(now: Rebuild, now_s: float) -> tuple[Rebuild, bool]:
            positions = {number: filling.folded for number, filling in self._held.items()}
            return board.renew(now, self._name, positions, now_s, alone=alone)

        while not self._gone:
            await asyncio.sleep(RENEW_S)
            try:
                self._gone = not await self._change(renew)
                rebuild = await self._board.read()
            except RebuildCancelled:
                self._gone = True
            except StoreAway:
                continue  # whoever writes rows will meet it, too
            else:
                if rebuild is not None:
                    self._say(rebuild)

    async def _wrote(self) -> None:
        """Raises _Gone where going on is of no use."""
        if self._gone:
            raise _Gone
        await asyncio.sleep(0)

    def _say(self, rebuild: Rebuild) -> None:
        self._tell(Progress(rebuild.done, rebuild.total, rebuild.worked_s(rebuild.moved_s or 0.0), rebuild.phase))


def _standing(rebuild: Rebuild, positions: Mapping[int, int]) -> Rebuild:
    """Where the second set stood when it took over."""
    parts = [replace(part, position=max(part.position, positions.get(n, 0))) for n, part in enumerate(rebuild.parts)]
    return replace(rebuild, parts=tuple(parts))


async def _all(each: Iterable[Coroutine[None, None, bool]]) -> list[bool]:
    """Run them together; the first error ends all of them and comes out as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in each]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
