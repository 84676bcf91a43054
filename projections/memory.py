"""The store in memory: no file, no server, gone with its process. It holds all that the log holds."""

from __future__ import annotations

import time
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Final, Literal, Self, TypeVar

from projections.board import Board, Rebuild
from projections.compare import Comparison, compare_sets
from projections.fold import ending, refold
from projections.past import as_it_was
from projections.rows import PROJECTION_VERSION, Chain, columns, instant_us, stored_pending, stored_run
from projections.tables import Audit, Level, StoredRow, Writing
from schemas.errors import StalePosition
from schemas.position import Position
from schemas.run import EVOLVE_VERSION, Run
from schemas.store import (
    Batch,
    Clock,
    HistoryRow,
    Mark,
    PendingRow,
    RunFilter,
    SetAside,
    Snapshot,
    Standing,
    StoredRun,
    Tip,
)
from schemas.views import Status

_IDS_AT_ONCE: Final = 1_000
_SortKey = tuple[int, str]
T = TypeVar("T")


class _Data:
    """The tables: replaced as a whole by `swap`."""

    def __init__(self) -> None:
        self.marks: dict[int, Mark] = {}
        self.commands: dict[int, int] = {}
        self.runs: dict[str, StoredRow] = {}
        self.aside: dict[str, StoredRow] = {}
        """those of `runs` that are set aside"""
        self.history: dict[str, list[HistoryRow]] = {}
        self.pending: dict[str, PendingRow] = {}
        self.unfinished = Counter[str]()
        """of each workflow: runs that have not ended, and waiting commands"""
        self.keys: dict[str, _SortKey] = {}
        self.order: list[_SortKey] = []
        """the keys of all runs and pending rows, sorted"""

    def place(self, run_id: str, created_us: int) -> None:
        """Keep the order of the list."""
        key, old = (created_us, run_id), self.keys.get(run_id)
        if key == old:
            return
        if old is not None:
            del self.order[bisect_left(self.order, old)]
        insort(self.order, key)
        self.keys[run_id] = key

    def positions(self) -> Position:
        events: Position = {("e", partition): mark.position for partition, mark in self.marks.items()}
        return events | {("t", partition): position for partition, position in self.commands.items()}

    def stored(self, run_id: str) -> StoredRun | None:
        row, pending = self.runs.get(run_id), self.pending.get(run_id)
        if row is not None:
            return stored_run(*row)
        return stored_pending(pending) if pending is not None else None

    def then(self, run_id: str, at_ms: int) -> StoredRun | None:
        """As it was; None before it was asked for and begun."""
        stored, row = self.stored(run_id), self.runs.get(run_id)
        began = row is not None and row.chain.began_ms <= at_ms
        if stored is None or not (began or self.keys[run_id][0] <= at_ms * 1000):
            return None
        if row is None or row.chain.last_ms <= at_ms:
            return stored
        return as_it_was(stored, self.history[run_id], at_ms)

    def matches(self, run_id: str, where: RunFilter) -> bool:
        """Whether the run is of the workflow and has the status that are asked for."""
        row = self.runs.get(run_id)
        workflow_id = self.pending[run_id].workflow_id if row is None else row.shown.workflow_id
        status = "PENDING" if row is None else row.shown.status
        return where.workflow_id in (None, workflow_id) and where.status in (None, status)

    def between(self, where: RunFilter, after: tuple[str, str] | None) -> Iterator[str]:
        """Ids within the bounds of time and below the last one seen, newest first."""
        above = None if where.created_after is None else instant_us(where.created_after)
        ends = [] if where.created_before is None else [bisect_left(self.order, (instant_us(where.created_before), ""))]
        if after is not None:
            ends.append(bisect_left(self.order, (instant_us(after[0]), after[1])))
        for at in range(min(ends, default=len(self.order)) - 1, -1, -1):
            created_us, run_id = self.order[at]
            if above is not None and created_us <= above:
                return
            yield run_id


class MemoryStore:
    """All rows in dictionaries. Every method runs to its end without a break, so each is one transaction."""

    remembers = False
    batches_together = 1

    def __init__(self) -> None:
        self.clock = time.time
        self._data = _Data()
        self._board = _MemoryBoard()
        self._seconds: dict[str, Self] = {}

    async def migrate(self) -> None: ...

    async def close(self) -> None: ...

    # the engine's side

    async def snapshot(self, partition: int) -> Snapshot:
        data = self._data
        runs = [
            self._load(row.chain)
            for row in data.runs.values()
            if row.chain.partition == partition and not row.chain.done
        ]
        return Snapshot(data.marks.get(partition), runs)

    def _load(self, chain: Chain) -> Run:
        if chain.state_version == EVOLVE_VERSION and chain.state is not None and chain.set_aside is None:
            return Run.load(chain.run_id, chain.state)
        return refold(chain.run_id, [row.value for row in self._data.history[chain.run_id]])

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        found = (self._data.runs[run_id].chain for run_id in run_ids if run_id in self._data.runs)
        mark = self._data.marks.get(partition)
        return mark.position if mark else 0, {
            chain.run_id: Tip(chain.seq, chain.digest, chain.done) for chain in found if chain.partition == partition
        }

    async def tips_of(self, wanted: Mapping[int, Collection[str]]) -> Mapping[int, tuple[int, Mapping[str, Tip]]]:
        return {partition: await self.tips(partition, run_ids) for partition, run_ids in wanted.items()}

    # the projector's side

    async def clocks(self, partition: int) -> Mapping[str, Clock]:
        return {
            chain.run_id: Clock(chain.began_ms, chain.started_ms, chain.last_ms)
            for chain, _ in self._data.runs.values()
            if chain.partition == partition and not chain.done
        }

    async def mark(self, partition: int) -> Mark | None:
        return self._data.marks.get(partition)

    async def apply(self, batch: Batch) -> None:
        data = self._data
        mark = data.marks.get(batch.partition)
        _fence(batch.partition, mark.position if mark else 0, batch.start)
        _fence(batch.partition, mark.generation if mark else 0, batch.generation)
        if batch.commands is not None:
            _fence(batch.partition, data.commands.get(batch.partition, 0), batch.commands[0])
            data.commands[batch.partition] = batch.commands[1]
        data.marks[batch.partition] = batch.mark
        for row in batch.runs:
            chain, shown = columns(row)
            old = data.runs.get(row.run_id)
            if old is not None:
                chain = chain._replace(first_offset=old.chain.first_offset)
            new = data.runs[row.run_id] = StoredRow(chain, shown)
            if chain.set_aside is not None:
                data.aside[row.run_id] = new
            else:
                data.aside.pop(row.run_id, None)
            data.place(row.run_id, shown.created_us)
            waiting = data.pending.pop(row.run_id, None)
            data.unfinished[shown.workflow_id] += _unfinished(new) - _unfinished(old)
            if waiting is not None:
                data.unfinished[waiting.workflow_id] -= 1
        for event in batch.history:
            data.history.setdefault(event.run_id, []).append(event)

    async def apply_pending(self, partition: int, start: int, end: int, rows: Sequence[PendingRow]) -> None:
        data = self._data
        _fence(partition, data.commands.get(partition, 0), start)
        data.commands[partition] = end
        for row in rows:
            if row.run_id not in data.runs and row.run_id not in data.pending:
                data.pending[row.run_id] = row
                data.unfinished[row.workflow_id] += 1
                data.place(row.run_id, instant_us(row.created_at))

    # the API's side

    async def run(self, run_id: str) -> StoredRun | None:
        return self._data.stored(run_id)

    async def runs(self, where: RunFilter, *, after: tuple[str, str] | None, limit: int) -> Sequence[StoredRun]:
        data = self._data
        ids = (run_id for run_id in data.between(where, after) if data.matches(run_id, where))
        return [run for run in map(data.stored, islice(ids, limit)) if run is not None]

    async def runs_then(
        self, where: RunFilter, at_ms: int, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[StoredRun]:
        return list(islice(self._then(where, at_ms, after), limit))

    def _then(self, where: RunFilter, at_ms: int, after: tuple[str, str] | None) -> Iterator[StoredRun]:
        data = self._data
        for run_id in data.between(where, after):
            then = data.then(run_id, at_ms)
            if (
                then is not None
                and where.status in (None, then.view["status"])
                and where.workflow_id in (None, then.view["workflow_id"])
            ):
                yield then

    async def counts(self, where: RunFilter, at_ms: int | None = None) -> Mapping[Status, int]:
        data, where = self._data, replace(where, status=None)
        if at_ms is None:
            matching = (run_id for run_id in data.between(where, None) if data.matches(run_id, where))
            return Counter(run.view["status"] for run in map(data.stored, matching) if run is not None)
        return Counter(run.view["status"] for run in self._then(where, at_ms, None))

    async def events(
        self,
        run_id: str,
        *,
        order: Literal["asc", "desc"],
        before_seq: int | None,
        after_seq: int | None,
        types: Collection[str],
        limit: int,
    ) -> Sequence[HistoryRow]:
        rows = self._data.history.get(run_id, [])
        wanted = [
            row
            for row in (rows if order == "asc" else reversed(rows))
            if (before_seq is None or row.seq < before_seq)
            and (after_seq is None or row.seq > after_seq)
            and (not types or row.type in types)
        ]
        return wanted[:limit]

    async def standing(self, run_id: str) -> Standing | None:
        row = self._data.runs.get(run_id)
        if row is None:
            return None
        chain, last = row.chain, self._data.history[run_id][-1]
        run = ending(run_id, last.value) if chain.done else self._load(chain)
        return Standing(run, last.at_ms, last.offset + 1, self._data.marks[chain.partition].position)

    async def unfinished(self, workflow_id: str, *, limit: int) -> int:
        data = self._data
        return min(data.unfinished[workflow_id], limit)

    async def set_aside(self, after: str, *, limit: int) -> Sequence[SetAside]:
        return [each for each in sorted(self._set_aside()) if each.run_id > after][:limit]

    async def count_set_aside(self) -> int:
        return len(self._data.aside)

    def _set_aside(self) -> Iterator[SetAside]:
        for run_id, (chain, _) in self._data.aside.items():
            yield SetAside(run_id, chain.partition, chain.seq, chain.set_aside or "")

    async def positions(self) -> Position:
        return self._data.positions()

    async def now_s(self) -> float:
        return self.clock()

    # rebuild and verify

    def audit(self) -> AbstractAsyncContextManager[Audit]:
        return _audit(self._data)

    def board(self) -> Board:
        return self._board

    async def projection_version(self) -> int | None:
        return PROJECTION_VERSION

    async def second(self, name: str | None = None, *, spare: str = "") -> Self:
        second = type(self)()
        spared = {other: its for other, its in self._seconds.items() if spare and other.startswith(spare)}
        self._seconds = {**spared, name or "second": second}
        return second

    def opened(self, name: str) -> Self:
        return self._seconds[name]

    async def has(self, name: str) -> bool:
        return name in self._seconds

    async def discard(self, name: str) -> None:
        self._seconds.pop(name, None)

    async def begin_filling(self, first: Self) -> None: ...

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        return nullcontext(self)

    async def end_filling(self) -> None: ...

    async def compare(self, second: Self, level: Level) -> Comparison:
        await level({partition: mark.position for partition, mark in self._data.marks.items()})
        async with self.audit() as old, second.audit() as new:
            return await compare_sets(old, new)

    async def swap(self, second: Self, level: Level) -> None:
        old = self._data.marks
        await level({partition: mark.position for partition, mark in old.items()})
        for partition, mark in second._data.marks.items():
            generation = old[partition].generation + 1 if partition in old else 0
            second._data.marks[partition] = replace(mark, generation=generation)
        self._data, self._seconds = second._data, {}

    async def has_old(self) -> bool:
        return False

    async def drop_old(self) -> bool:
        """It is gone with the swap."""
        return False


class _MemoryBoard:
    """Of one process alone."""

    def __init__(self) -> None:
        self._rebuild: Rebuild | None = None

    async def read(self) -> Rebuild | None:
        return self._rebuild

    async def look(self) -> tuple[Rebuild | None, float]:
        return self._rebuild, time.time()

    async def change(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        self._rebuild, answer = work(self._rebuild, time.time())
        return answer


def _unfinished(row: StoredRow | None) -> bool:
    return row is not None and not row.chain.done and row.chain.set_aside is None


def _fence(partition: int, found: int, wanted: int) -> None:
    if found != wanted:
        raise StalePosition(partition=partition, found=found, wanted=wanted)


class _MemoryAudit:
    """A copy of the dictionaries; the rows themselves never change."""

    def __init__(self, data: _Data) -> None:
        self._marks, self._runs = dict(data.marks), dict(data.runs)
        self._positions, self._pending = data.positions(), dict(data.pending)
        self._history = {run_id: list(rows) for run_id, rows in data.history.items()}

    async def marks(self) -> Mapping[int, Mark]:
        return self._marks

    async def positions(self) -> Position:
        return self._positions

    async def begun(self, run_ids: Collection[str]) -> Collection[str]:
        return self._runs.keys() & set(run_ids)

    async def pending(self, partition: int) -> Sequence[PendingRow]:
        return [row for row in self._pending.values() if row.partition == partition]

    async def runs(self, run_ids: Collection[str]) -> Mapping[str, StoredRow]:
        return {run_id: self._runs[run_id] for run_id in run_ids if run_id in self._runs}

    async def history(self, run_ids: Collection[str]) -> Mapping[str, Sequence[HistoryRow]]:
        return {run_id: self._history[run_id] for run_id in run_ids if run_id in self._history}

    async def run_ids(self, partition: int) -> AsyncIterator[Sequence[str]]:
        ids = [run_id for run_id, row in self._runs.items() if row.chain.partition == partition]
        for at in range(0, len(ids), _IDS_AT_ONCE):
            yield ids[at : at + _IDS_AT_ONCE]

    async def rows_below(self, partition: int, offset: int) -> int:
        chains = (row.chain for row in self._runs.values())
        return sum(each.partition == partition and (each.first_offset or 0) < offset for each in chains)

    async def stray_history(self) -> Sequence[str]:
        return [run_id for run_id in self._history if run_id not in self._runs][:10]


@asynccontextmanager
async def _audit(data: _Data) -> AsyncIterator[Audit]:
    yield _MemoryAudit(data)
