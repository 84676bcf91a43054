"""What is done with PostgreSQL's tables as a whole: migrate, audit, a second set, and the swap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from asyncpg.exceptions import InsufficientPrivilegeError, UndefinedTableError

from projections.rows import CHAIN, Chain, Shown, by_run, waiting_row
from projections.sql import queries
from projections.tables import Audit, Level, StoredRow
from schemas.errors import StoreAway, StoreRefused
from schemas.position import Position
from schemas.store import HistoryRow, Mark, PendingRow

if TYPE_CHECKING:
    from asyncpg import Record

    from projections.database import Connection, Database

SQL: Final = queries("postgres")
SETS: Final = queries("postgres_sets")
MIGRATIONS: Final = Path(__file__).parent / "migrations"
AUDIT_TIMEOUT_S: Final = 24 * 3_600.0
SWAP_TIMEOUT_S: Final = 600.0
OLD: Final = "old"
"""Name of the set that the last swap replaced."""
READABLE_FROM: Final = 1
"""The oldest version of the tables whose programs can read those of the newest: raised when a migration takes away what
they ask for."""
_IDS_AT_ONCE: Final = 1_000


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, in order."""
    files = sorted(MIGRATIONS.glob("*.sql"))
    return [(int(file.name.partition("_")[0]), file.read_text()) for file in files]


async def version(db: Database) -> tuple[int, int] | None:
    """The version of the tables, and the oldest one whose programs can read them; None where there are none. Raises
    StoreAway when they may not be looked at."""
    try:
        rows = await db.fetch(SQL["version"].replace("migrations", f'"{db.schema}".migrations'))
    except StoreAway as away:
        if isinstance(away.__cause__, UndefinedTableError):
            return None
        raise
    return rows[0][0] or 0, rows[0][1] or 0


async def migrate(db: Database) -> None:
    """Bring the schema to this version; other processes that do the same wait.

    Tables of this version are not touched, so a user that may not change them is served as well; nor are newer ones that
    say that this program can read them. Raises StoreAway for a user that would have to change them and may not: somebody
    else can do it meanwhile.
    """
    stands, newest = await version(db), migrations()[-1][0]
    found, readable_from = stands or (None, 0)
    if found is not None and found > newest and not 0 < readable_from <= newest:
        raise StoreRefused(what=f"its tables are of version {found}, this program knows version {newest} and older")
    if found is not None and found >= newest:
        return
    try:
        await _apply_missing(db)
    except StoreAway as away:
        if isinstance(away.__cause__, InsufficientPrivilegeError):
            there = "not there" if found is None else f"of version {found}, and this program needs {newest}"
            reason = f"its tables are {there}; `workflow migrate` makes them, as their owner ({away.__cause__})"
            raise StoreAway(reason=reason) from away.__cause__
        raise


async def _apply_missing(db: Database) -> None:
    async with db.transaction() as connection:
        await connection.execute(SQL["lock_migrations"])
        if not await connection.fetchval("select to_regnamespace($1) is not null", db.schema):
            await connection.execute(
                f'create schema "{db.schema}"'
            )  # `if not exists` asks for the right to all the same
        await connection.execute(SQL["migrations_table"])
        done = await connection.fetchval(SQL["migrated"]) or 0
        for number, sql in migrations():
            if number > done:
                await connection.execute(sql)
                await connection.execute(SQL["set_migrated"], number)
        await connection.execute(SQL["set_readable_from"], READABLE_FROM)


class SchemaAudit:
    """The tables of one schema as a transaction sees them, which may look at several. `schema` is its number: a swap takes the
    name away from the tables that the transaction sees, and gives it to others, which are empty to it."""

    def __init__(self, connection: Connection, schema: int) -> None:
        self._connection, self._schema = connection, schema

    async def _fetch(self, query: str, *args: object) -> list[Record]:
        name = await self._connection.fetchval(SETS["look_at"], self._schema)
        while True:
            rows = await self._connection.fetch(query, *args)
            before, name = name, await self._connection.fetchval(SETS["look_at"], self._schema)
            if name == before:
                return rows

    async def marks(self) -> dict[int, Mark]:
        return {row[0]: Mark(*row[1:]) for row in await self._fetch(SQL["marks"])}

    async def positions(self) -> Position:
        return {(topic, partition): position for topic, partition, position in await self._fetch(SQL["positions"])}

    async def begun(self, run_ids: Collection[str]) -> Collection[str]:
        return {row[0] for row in await self._fetch(SQL["begun"], list(run_ids))}

    async def pending(self, partition: int) -> Sequence[PendingRow]:
        rows = await self._fetch(SQL["waiting"], partition)
        return [waiting_row(*row) for row in rows]

    async def runs(self, run_ids: Collection[str]) -> Mapping[str, StoredRow]:
        rows = await self._fetch(SQL["rows"], list(run_ids))
        parts = len(CHAIN)
        found = (tuple(row) for row in rows)
        return {row[0]: StoredRow(Chain(*row[:parts]), Shown(*row[parts:])) for row in found}

    async def history(self, run_ids: Collection[str]) -> Mapping[str, Sequence[HistoryRow]]:
        rows = await self._fetch(SQL["histories"], list(run_ids))
        return by_run(rows)

    async def run_ids(self, partition: int) -> AsyncIterator[Sequence[str]]:
        last = ""
        while rows := await self._fetch(SQL["run_ids"], partition, last, _IDS_AT_ONCE):
            ids: list[str] = [row[0] for row in rows]
            yield ids
            last = ids[-1]

    async def rows_below(self, partition: int, offset: int) -> int:
        return int((await self._fetch(SQL["rows_below"], partition, offset))[0][0])

    async def stray_history(self) -> Sequence[str]:
        return [row[0] for row in await self._fetch(SQL["stray_history"])]


@asynccontextmanager
async def audit(db: Database) -> AsyncIterator[Audit]:
    """One read transaction; other writers go on beside it."""
    async with db.transaction("begin isolation level repeatable read, read only", AUDIT_TIMEOUT_S) as connection:
        await connection.execute(SQL["stay_in_transaction"])
        yield SchemaAudit(connection, await schema_number(connection, db.schema))


async def schema_number(connection: Connection, name: str) -> int:
    """PostgreSQL's own number of the schema that has the name in the transaction's view; it keeps it when it is renamed."""
    number: int = await connection.fetchval("select oid from pg_namespace where nspname = $1", name)
    return number


async def empty_second(db: Database, name: str, spare: str = "") -> None:
    """Make an empty schema for a second set of tables. Raises StoreAway for another user than the owner of the
    first: the new tables would be that user's, and the old owner could do nothing with them."""
    schema = second_schema(db, name)
    async with db.transaction(timeout_s=SWAP_TIMEOUT_S) as connection:
        if owner := await connection.fetchval(SQL["other_owner"], db.schema):
            raise StoreAway(reason=f"its tables belong to the user {owner}, who alone may rebuild them")
        for (other,) in await connection.fetch(SETS["sets"], db.schema):
            if not (spare and other.startswith(second_schema(db, spare))):
                await connection.execute(f'drop schema "{other}" cascade')
        await connection.execute(f'create schema "{schema}"')


def second_schema(db: Database, name: str) -> str:
    """Where the second set of that name stands."""
    return f"{db.schema}_{name}"


async def drop(db: Database, schema: str) -> bool:
    """Drop a set that does not serve; False where there is none."""
    async with db.transaction(timeout_s=SWAP_TIMEOUT_S) as connection:
        there: bool = await connection.fetchval("select to_regnamespace($1) is not null", schema)
        await connection.execute(f'drop schema if exists "{schema}" cascade')
    return there


async def begin_filling(db: Database, first: str) -> None:
    """Divide the table of events as it is divided in the schema `first`, and take away what the fold does not need, keeping in
    the set itself what makes it again."""
    async with db.transaction() as connection:
        for (statement,) in await connection.fetch(SETS["divided"], first):
            await connection.execute(statement)
        await connection.execute(SETS["unbuilt_table"])
        for make, take in await connection.fetch(SETS["unneeded"], db.schema):
            await connection.execute(SETS["put_unbuilt"], make)
            await connection.execute(take)


async def end_filling(db: Database) -> None:
    """Make what was taken away, all or nothing."""
    async with db.transaction(timeout_s=AUDIT_TIMEOUT_S) as connection:
        if not await connection.fetchval("select to_regclass('unbuilt') is not null"):
            return
        await connection.execute("set local maintenance_work_mem = '256MB'")
        for (make,) in await connection.fetch("select make from unbuilt"):
            await connection.execute(make)
        await connection.execute("drop table unbuilt")


async def swap(db: Database, second: str, level: Level) -> None:
    """Exchange the two schemas by name. Readers that have begun go on with the old tables."""
    old = second_schema(db, OLD)
    async with db.transaction(timeout_s=SWAP_TIMEOUT_S) as connection:
        await connection.execute(f'drop schema if exists "{old}" cascade')
        await connection.execute(SQL["lock_positions"])
        await connection.execute(SETS["wait_in_transaction"])
        await level({row[0]: row[1] for row in await connection.fetch(SQL["marks"])})
        follow = SETS["follow"].replace("old.", f'"{db.schema}".').replace("new.", f'"{second}".')
        await connection.execute(follow)
        for (statement,) in await connection.fetch(SQL["grants_again"], db.schema, second):
            await connection.execute(statement)
        await connection.execute(f'alter schema "{db.schema}" rename to "{old}"')
        await connection.execute(f'alter schema "{second}" rename to "{db.schema}"')
