"""PostgreSQL connections whose every use ends in bounded time: what passes by itself is StoreAway, whatever it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import asyncpg
from asyncpg import exceptions

from schemas.errors import StoreAway, WorkflowError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 10.0
RELEASE_TIMEOUT_S: Final = 2.0
CONNECTIONS_MAX: Final = 8

_SETUP: Final = (
    exceptions.InsufficientPrivilegeError,
    exceptions.UndefinedTableError,
    exceptions.UndefinedColumnError,
    exceptions.InvalidSchemaNameError,
)
"""Errors of the class 42 that are not a wrong query of ours: the database is not set up, or in other hands."""

POISON: Final = (
    exceptions.DataError,
    exceptions.IntegrityConstraintViolationError,
    exceptions.ProgramLimitExceededError,
)
"""A row that PostgreSQL will never take."""


async def _nothing_to_reset(_: asyncpg.Connection[asyncpg.Record]) -> None:
    """Every use is one transaction that leaves nothing behind: no reset query after each."""


class Database:
    """A pool that connects when it is first used, and again after each restart of the server."""

    def __init__(self, dsn: str, schema: str, *, timeout_s: float) -> None:
        """`schema` is where unqualified names live; `timeout_s` bounds each `connection` block that names no other."""
        self.dsn, self.schema, self.timeout_s = dsn, schema, timeout_s
        self._pool: Pool | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """The rows of one statement, which is a transaction by itself: one round trip. Raises as `transaction` does."""
        async with self.connection(min(self.timeout_s, READ_TIMEOUT_S)) as connection:
            return await connection.fetch(query, *args)

    @asynccontextmanager
    async def transaction(self, begin: str = "begin", timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection for one transaction, opened by `begin`, committed at the end and rolled back on an error."""
        async with self.connection(timeout_s or self.timeout_s) as connection:
            await connection.execute(begin)
            try:
                yield connection
            except (*POISON, WorkflowError):
                await connection.execute("rollback")
                raise
            await connection.execute("commit")

    @asynccontextmanager
    async def connection(self, timeout_s: float) -> AsyncIterator[Connection]:
        """A connection of the pool. It must be left outside of a transaction.

        Raises StoreAway for all that is not the data's fault (POISON) or ours, in bounded time: asyncpg waits for ever
        for the answer of a frozen server, in `rollback` and `close` too, so such a connection is cut off instead.
        """
        try:
            async with asyncio.timeout(timeout_s):
                pool = await self._open()
                connection = await pool.acquire()
                try:
                    yield connection
                except (*POISON, WorkflowError):
                    raise
                except BaseException:
                    with suppress(exceptions.InterfaceError):  # lost, and so released already
                        connection.terminate()
                    raise
                finally:
                    await pool.release(connection, timeout=RELEASE_TIMEOUT_S)
        except (*POISON, WorkflowError):
            raise
        except exceptions.SyntaxOrAccessError as error:
            if not isinstance(error, _SETUP):
                raise
            raise StoreAway(reason=_reason(error)) from error
        except (
            OSError,
            TimeoutError,
            exceptions.InterfaceError,
            exceptions.InternalClientError,
            exceptions.PostgresError,
        ) as error:
            raise StoreAway(reason=_reason(error)) from error

    async def _open(self) -> Pool:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self.dsn,
                    min_size=0,
                    max_size=CONNECTIONS_MAX,
                    timeout=CONNECT_TIMEOUT_S,
                    max_cached_statement_lifetime=0,
                    reset=_nothing_to_reset,
                    server_settings={
                        "search_path": self.schema,
                        "application_name": "workflow",
                        "synchronous_commit": "off",  # rows and their position are lost together, and read again
                        "idle_in_transaction_session_timeout": "30s",  # a frozen process must not hold the fence for ever
                        "tcp_keepalives_idle": "30",  # nor a host that is gone
                        "tcp_keepalives_interval": "10",
                        "tcp_keepalives_count": "3",
                        "jit": "off",
                        # Every access is by a key. A plan must not hang on what the planner knows of tables that may be
                        # a thousand times larger than when they were last analysed.
                        "enable_seqscan": "off",
                        "enable_hashjoin": "off",
                        "enable_mergejoin": "off",
                    },
                )
            return self._pool

    async def close(self) -> None:
        """End all connections at once."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None


def _reason(error: BaseException) -> str:
    if isinstance(error, exceptions.UndefinedTableError | exceptions.InvalidSchemaNameError):
        return "its tables are not there; the projector makes them when it starts, or `workflow migrate`"
    if isinstance(error, exceptions.InsufficientPrivilegeError):
        return f"{error}; the owner of the tables may, and `workflow grants` prints what a process needs"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
