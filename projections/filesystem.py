"""The store in a folder: SQLite in WAL mode, for any number of processes on one host.

The folder holds one file per set of tables; the file `current` names the set that serves. A rebuild fills another file
and then changes that name.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final, Literal, Self

from projections.board import Board
from projections.compare import Comparison, compare_sets
from projections.file_board import FileBoard
from projections.sqlite_thread import SqliteThread, file_of
from projections.tables import Audit, Level, StoredRow, Writing
from schemas.position import Position
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

TIMEOUT_S: Final = 60.0
"""Longest wait for an answer; the snapshot of a large partition is the longest work."""


class FilesystemStore:
    """All tables in a file of `folder`, used by a thread of its own. `file` fixes it to a set that does not serve yet."""

    remembers = True
    batches_together = 1

    def __init__(self, folder: Path, *, file: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self._thread = SqliteThread(folder, file=file, timeout_s=timeout_s)

    async def migrate(self) -> None:
        await self._thread.run(self._thread.create)

    async def close(self) -> None:
        await self._thread.close()

    # the engine's side

    async def snapshot(self, partition: int) -> Snapshot:
        return await self._thread.do(lambda tables: tables.snapshot(partition))

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        return await self._thread.do(lambda tables: tables.tips(partition, run_ids))

    async def tips_of(self, wanted: Mapping[int, Collection[str]]) -> Mapping[int, tuple[int, Mapping[str, Tip]]]:
        return await self._thread.do(
            lambda tables: {partition: tables.tips(partition, run_ids) for partition, run_ids in wanted.items()}
        )

    # the projector's side

    async def clocks(self, partition: int) -> Mapping[str, Clock]:
        return await self._thread.do(lambda tables: tables.clocks(partition))

    async def mark(self, partition: int) -> Mark | None:
        return await self._thread.do(lambda tables: tables.mark(partition))

    async def apply(self, batch: Batch) -> None:
        await self._thread.do(lambda tables: tables.apply(batch))

    async def apply_pending(self, partition: int, start: int, end: int, rows: Sequence[PendingRow]) -> None:
        await self._thread.do(lambda tables: tables.apply_pending(partition, start, end, rows))

    # the API's side

    async def run(self, run_id: str) -> StoredRun | None:
        return await self._thread.do(lambda tables: tables.run(run_id))

    async def runs(self, where: RunFilter, *, after: tuple[str, str] | None, limit: int) -> Sequence[StoredRun]:
        return await self._thread.do(lambda tables: tables.runs(where, after, limit))

    async def runs_then(
        self, where: RunFilter, at_ms: int, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[StoredRun]:
        return await self._thread.do(lambda tables: tables.runs_then(where, at_ms, after, limit))

    async def counts(self, where: RunFilter, at_ms: int | None = None) -> Mapping[Status, int]:
        return await self._thread.do(lambda tables: tables.counts(where, at_ms))

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
        return await self._thread.do(lambda tables: tables.events(run_id, order, before_seq, after_seq, types, limit))

    async def standing(self, run_id: str) -> Standing | None:
        return await self._thread.do(lambda tables: tables.standing(run_id))

    async def unfinished(self, workflow_id: str, *, limit: int) -> int:
        return await self._thread.do(lambda tables: tables.unfinished(workflow_id, limit))

    async def set_aside(self, after: str, *, limit: int) -> Sequence[SetAside]:
        return await self._thread.do(lambda tables: tables.set_aside(after, limit))

    async def count_set_aside(self) -> int:
        return await self._thread.do(lambda tables: tables.count_set_aside())

    async def positions(self) -> Position:
        return await self._thread.do(lambda tables: tables.positions())

    async def now_s(self) -> float:
        return time.time()

    # rebuild and verify

    def audit(self) -> AbstractAsyncContextManager[Audit]:
        return _audit(self._thread)

    def board(self) -> Board:
        return FileBoard(self.folder)

    async def projection_version(self) -> int | None:
        return await self._thread.do(lambda tables: tables.projection_version())

    async def second(self, name: str | None = None, *, spare: str = "") -> Self:
        name = name or f"second_{secrets.token_hex(4)}"
        await self._thread.run(lambda: self._thread.clear(spare))
        return self.opened(name)

    def opened(self, name: str) -> Self:
        return type(self)(self.folder, file=file_of(name), timeout_s=self.timeout_s)

    async def has(self, name: str) -> bool:
        return await self._thread.run(lambda: self._thread.has(file_of(name)))

    async def discard(self, name: str) -> None:
        await self._thread.run(lambda: self._thread.discard(file_of(name)))

    async def begin_filling(self, first: Self) -> None: ...

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        return nullcontext(self)

    async def end_filling(self) -> None: ...

    async def compare(self, second: Self, level: Level) -> Comparison:
        async with self._thread.writers_kept_out() as holder:
            await level(await holder.positions())
            async with _audit(self._thread) as old, _audit(second._thread) as new:
                await holder.let_in()
                return await compare_sets(old, new)

    async def swap(self, second: Self, level: Level) -> None:
        name = await second._thread.run(second._thread.name)
        async with self._thread.writers_kept_out() as holder:
            await level(await holder.positions())
            await second._thread.do(lambda tables: tables.follow(holder.marks))
            await holder.give_way(name)

    async def has_old(self) -> bool:
        return await self._thread.run(self._thread.has_old)

    async def drop_old(self) -> bool:
        return await self._thread.run(self._thread.drop_old)


class _FilesystemAudit:
    """A read transaction on a connection of its own."""

    def __init__(self, thread: SqliteThread) -> None:
        self._thread = thread

    async def marks(self) -> Mapping[int, Mark]:
        return await self._thread.do(lambda tables: tables.marks())

    async def positions(self) -> Position:
        return await self._thread.do(lambda tables: tables.positions())

    async def begun(self, run_ids: Collection[str]) -> Collection[str]:
        return await self._thread.do(lambda tables: tables.begun(run_ids))

    async def pending(self, partition: int) -> Sequence[PendingRow]:
        return await self._thread.do(lambda tables: tables.pending(partition))

    async def runs(self, run_ids: Collection[str]) -> Mapping[str, StoredRow]:
        return await self._thread.do(lambda tables: tables.stored_rows(run_ids))

    async def history(self, run_ids: Collection[str]) -> Mapping[str, Sequence[HistoryRow]]:
        return await self._thread.do(lambda tables: tables.histories(run_ids))

    async def run_ids(self, partition: int) -> AsyncIterator[Sequence[str]]:
        last = ""
        while ids := await self._ids_after(partition, last):
            yield ids
            last = ids[-1]

    async def _ids_after(self, partition: int, last: str) -> list[str]:
        return await self._thread.do(lambda tables: tables.run_ids(partition, last))

    async def rows_below(self, partition: int, offset: int) -> int:
        return await self._thread.do(lambda tables: tables.rows_below(partition, offset))

    async def stray_history(self) -> Sequence[str]:
        return await self._thread.do(lambda tables: tables.stray_history())


@asynccontextmanager
async def _audit(serving: SqliteThread) -> AsyncIterator[Audit]:
    thread = SqliteThread(serving.folder, file=await serving.run(serving.name), timeout_s=serving.timeout_s)
    try:
        await thread.do(lambda tables: tables.hold())
        yield _FilesystemAudit(thread)
    finally:
        await thread.close()
