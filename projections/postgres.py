"""The store in PostgreSQL: rows and position in one transaction, reads beside it, any number of processes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from projections import postgres_admin
from projections.board import Board
from projections.collector import collector_paused
from projections.compare import Comparison
from projections.database import POISON, READ_TIMEOUT_S, Database
from projections.fold import ending, refold
from projections.lists import counts_query, list_query, list_then_query, seq_bounds
from projections.past import moved_since, page_then
from projections.postgres_board import PostgresBoard
from projections.postgres_compare import compare
from projections.postgres_write import Rows, is_small, write, write_around_poison, write_pending, write_small
from projections.rows import by_run, instant_us, stored_view
from projections.sql import queries
from projections.tables import Audit, Level, Writing
from schemas.errors import StoreRefused
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

if TYPE_CHECKING:
    from projections.database import Connection

SQL: Final = queries("postgres")
SETS: Final = queries("postgres_sets")
SCHEMA: Final = "workflow"
READ: Final = "begin isolation level repeatable read, read only"
TIMEOUT_S: Final = 60.0
SMALL_EVENTS: Final = 500
SNAPSHOT_TIMEOUT_S: Final = 300.0
_RUNS_AT_ONCE: Final = 1_000


class PostgresStore:
    """All tables in one schema of a database; another schema holds the second set during a rebuild."""

    remembers = True
    batches_together = 8

    def __init__(
        self, dsn: str, *, schema: str = SCHEMA, timeout_s: float = TIMEOUT_S, small_events: int = SMALL_EVENTS
    ) -> None:
        """`timeout_s` bounds each write, `small_events` the batches that are written in one statement."""
        self._db = Database(dsn, schema, timeout_s=timeout_s)
        self._small_events = small_events
        self._refused: dict[str, str] = {}

    async def migrate(self) -> None:
        await postgres_admin.migrate(self._db)

    async def close(self) -> None:
        await self._db.close()

    # the engine's side

    async def snapshot(self, partition: int) -> Snapshot:
        self._refused.clear()  # whoever loads again may find them mended
        async with self._db.transaction(READ, SNAPSHOT_TIMEOUT_S) as connection:
            mark = await _mark(connection, partition)
            with collector_paused():
                return Snapshot(mark, await _unfinished(connection, partition))

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        return (await self.tips_of({partition: run_ids}))[partition]

    async def tips_of(self, wanted: Mapping[int, Collection[str]]) -> Mapping[int, tuple[int, Mapping[str, Tip]]]:
        return await _tips(self._db, wanted)

    # the projector's side

    async def clocks(self, partition: int) -> Mapping[str, Clock]:
        return {run_id: Clock(*times) for run_id, *times in await self._db.fetch(SQL["clocks"], partition)}

    async def mark(self, partition: int) -> Mark | None:
        rows = await self._db.fetch(SQL["mark"], partition)
        return Mark(*rows[0]) if rows else None

    async def apply(self, batch: Batch) -> None:
        rows = Rows(batch, self._refused)
        try:
            if is_small(rows, self._small_events):
                async with self._db.connection(self._db.timeout_s) as connection:
                    await write_small(connection, rows)
            else:
                async with self._db.transaction() as connection:
                    await write(connection, rows)
        except POISON:
            await self._apply_around_poison(rows)

    async def _apply_around_poison(self, rows: Rows) -> None:
        with _refusing(f"a record of partition {rows.batch.partition}"):
            async with self._db.transaction() as connection:
                await write_around_poison(connection, rows, self._refused)

    async def apply_pending(self, partition: int, start: int, end: int, rows: Sequence[PendingRow]) -> None:
        values = [
            (
                row.run_id,
                row.partition,
                row.offset,
                row.workflow_id,
                row.version,
                row.payload.decode(),
                row.created_at,
                instant_us(row.created_at),
            )
            for row in rows
        ]
        with _refusing(f"a command of partition {partition}"):
            async with self._db.transaction() as connection:
                await write_pending(connection, partition, start, end, values)

    # the API's side

    async def run(self, run_id: str) -> StoredRun | None:
        rows = await self._db.fetch(SQL["run"], run_id)
        return stored_view(rows[0]) if rows else None

    async def runs(self, where: RunFilter, *, after: tuple[str, str] | None, limit: int) -> Sequence[StoredRun]:
        query, args = list_query(where, after, limit)
        rows = await self._db.fetch(SQL[query], *args)
        return [stored_view(row) for row in rows]

    async def runs_then(
        self, where: RunFilter, at_ms: int, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[StoredRun]:
        query, args = list_then_query(where, at_ms, after, limit)
        async with self._db.transaction(READ) as connection:
            rows = [tuple(row)[:-1] for row in await connection.fetch(SQL[query], *args)]
            moved = [row[0] for row in rows if moved_since(row, at_ms)]
            histories = await _histories(connection, moved) if moved else {}
        return page_then(rows, histories, at_ms)

    async def counts(self, where: RunFilter, at_ms: int | None = None) -> Mapping[Status, int]:
        query, args = counts_query(where, at_ms)
        return {status: count for status, count in await self._db.fetch(SQL[query], *args)}  # noqa: C416 - records

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
        bounds = seq_bounds(after_seq, before_seq)
        rows = await self._db.fetch(SQL[f"events_{order}"], run_id, *bounds, list(types), limit)
        return [HistoryRow(*row) for row in rows]

    async def standing(self, run_id: str) -> Standing | None:
        async with self._db.transaction(READ, READ_TIMEOUT_S) as connection:
            row = await connection.fetchrow(SQL["standing"], run_id)
            if row is None:
                return None
            done, state, version, value, *stands = row
            run = ending(run_id, value) if done else (await _load(connection, [(run_id, state, version)]))[0]
        return Standing(run, *stands)

    async def unfinished(self, workflow_id: str, *, limit: int) -> int:
        rows = await self._db.fetch(SQL["unfinished_of"], workflow_id, limit)
        return min(int(rows[0][0]), limit)

    async def set_aside(self, after: str, *, limit: int) -> Sequence[SetAside]:
        return [SetAside(*row) for row in await self._db.fetch(SQL["set_aside"], after, limit)]

    async def count_set_aside(self) -> int:
        return int((await self._db.fetch(SQL["count_set_aside"]))[0][0])

    async def positions(self) -> Position:
        rows = await self._db.fetch(SQL["positions"])
        return {(topic, partition): position for topic, partition, position in rows}

    async def now_s(self) -> float:
        return float((await self._db.fetch(SETS["time"]))[0][0])

    # rebuild and verify

    def audit(self) -> AbstractAsyncContextManager[Audit]:
        return postgres_admin.audit(self._db)

    def board(self) -> Board:
        return PostgresBoard(self._db)

    async def projection_version(self) -> int | None:
        version: int | None = (await self._db.fetch(SQL["projection"]))[0][0]
        return version

    async def second(self, name: str | None = None, *, spare: str = "") -> Self:
        name = name or f"second_{secrets.token_hex(4)}"
        await postgres_admin.empty_second(self._db, name, spare)
        return self.opened(name)

    def opened(self, name: str) -> Self:
        schema = postgres_admin.second_schema(self._db, name)
        return type(self)(self._db.dsn, schema=schema, timeout_s=self._db.timeout_s)

    async def has(self, name: str) -> bool:
        rows = await self._db.fetch(SETS["has"], postgres_admin.second_schema(self._db, name))
        return bool(rows[0][0])

    async def discard(self, name: str) -> None:
        await postgres_admin.drop(self._db, postgres_admin.second_schema(self._db, name))

    async def begin_filling(self, first: Self) -> None:
        await postgres_admin.begin_filling(self._db, first._db.schema)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Writing]:
        async with self._db.transaction(timeout_s=self._db.timeout_s * self.batches_together) as connection:
            yield _Transaction(connection, self._refused)

    async def end_filling(self) -> None:
        await postgres_admin.end_filling(self._db)

    async def compare(self, second: Self, level: Level) -> Comparison:
        return await compare(self._db, second._db.schema, level)

    async def swap(self, second: Self, level: Level) -> None:
        await postgres_admin.swap(self._db, second._db.schema, level)

    async def has_old(self) -> bool:
        return await self.has(postgres_admin.OLD)

    async def drop_old(self) -> bool:
        return await postgres_admin.drop(self._db, postgres_admin.second_schema(self._db, postgres_admin.OLD))


class _Transaction:
    """An open transaction that takes batches. Looks go through it, too: whoever drops the tables waits for its end, and a look
    from beside it would wait for the drop."""

    def __init__(self, connection: Connection, refused: dict[str, str]) -> None:
        self._connection, self._refused = connection, refused

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        return (await _tips(self._connection, {partition: run_ids}))[partition]

    async def apply(self, batch: Batch) -> None:
        with _refusing(f"a record of partition {batch.partition}"):
            await write_around_poison(self._connection, Rows(batch, self._refused), self._refused)


async def _tips(
    where: Database | Connection, wanted: Mapping[int, Collection[str]]
) -> Mapping[int, tuple[int, Mapping[str, Tip]]]:
    run_ids = [run_id for ids in wanted.values() for run_id in ids]
    positions: dict[int, int] = dict.fromkeys(wanted, 0)
    tips: dict[int, dict[str, Tip]] = {partition: {} for partition in wanted}
    for partition, position, run_id, *tip in await where.fetch(SQL["tips"], list(wanted), run_ids):
        if run_id is None:
            positions[partition] = position
        elif partition in tips:
            tips[partition][run_id] = Tip(*tip)
    return {partition: (positions[partition], tips[partition]) for partition in wanted}


@contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Name what holds a row that PostgreSQL will never take."""
    try:
        yield
    except POISON as poison:
        raise StoreRefused(what=f"{what}: {poison}") from poison


async def _histories(connection: Connection, run_ids: Sequence[str]) -> Mapping[str, Sequence[HistoryRow]]:
    rows = await connection.fetch(SQL["histories"], run_ids)
    return by_run(rows)


async def _mark(connection: Connection, partition: int) -> Mark | None:
    row = await connection.fetchrow(SQL["mark"], partition)
    return None if row is None else Mark(*row)


async def _unfinished(connection: Connection, partition: int) -> list[Run]:
    runs: list[Run] = []
    rows: list[Any] = []
    async for row in connection.cursor(SQL["unfinished"], partition, prefetch=_RUNS_AT_ONCE):
        rows.append(row)
        if len(rows) == _RUNS_AT_ONCE:
            runs += await _load(connection, rows)
            rows = []
    return runs + await _load(connection, rows)


async def _load(connection: Connection, rows: Sequence[Any]) -> list[Run]:
    """Runs from their rows, a slice of time; those saved by another version of the fold from their history."""
    foreign = [run_id for run_id, _, version in rows if version != EVOLVE_VERSION]
    values: dict[str, list[bytes]] = {run_id: [] for run_id in foreign}
    if foreign:
        for row in await connection.fetch(SQL["histories"], foreign):
            values[row[0]].append(row[5])
    await asyncio.sleep(0)
    return [
        Run.load(run_id, state) if version == EVOLVE_VERSION else refold(run_id, values[run_id])
        for run_id, state, version in rows
    ]
