"""What is done to the read tables behind everybody's back, and what is read of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    from tests.harness.stage import Stage

TABLES: Final = ("positions", "runs", "history", "pending")


@asynccontextmanager
async def connected(stage: Stage) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(stage.postgres.dsn, server_settings={"search_path": "workflow"}, timeout=10)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


async def answers(stage: Stage) -> bool:
    """Whether the database can be written to."""
    try:
        async with connected(stage) as connection:
            await connection.execute("create temporary table room as select * from generate_series(1, 1000)")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


async def keep(stage: Stage) -> None:
    """Copy all tables, as they stand at one moment."""
    async with connected(stage) as connection, connection.transaction(isolation="repeatable_read"):
        await connection.execute("drop schema if exists kept cascade; create schema kept")
        for table in TABLES:
            await connection.execute(f"create table kept.{table} as select * from {table}")  # noqa: S608


async def put_back(stage: Stage) -> int:
    """Put the copies in the place of the tables, all at once; how many runs had moved on since."""
    async with connected(stage) as connection, connection.transaction():
        await connection.execute("lock table positions in access exclusive mode")
        moved: int = await connection.fetchval(
            "select count(*) from runs where not exists "
            "(select from kept.runs k where k.run_id = runs.run_id and k.seq = runs.seq)"
        )
        for table in TABLES:
            await connection.execute(f"delete from {table}; insert into {table} select * from kept.{table}")  # noqa: S608
        await connection.execute("drop schema kept cascade")
    return moved


async def rows(stage: Stage, query: str) -> list[Any]:
    async with connected(stage) as connection:
        return await connection.fetch(query)
