"""The board of a rebuild in PostgreSQL: one row in a schema of its own, which no swap touches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from asyncpg.exceptions import InsufficientPrivilegeError, InvalidSchemaNameError, UndefinedTableError

from projections.board import Rebuild
from projections.sql import queries
from schemas.errors import StoreAway

if TYPE_CHECKING:
    from projections.database import Database

SQL: Final = queries("postgres")
SETS: Final = queries("postgres_sets")
MISSING: Final = (UndefinedTableError, InvalidSchemaNameError)
T = TypeVar("T")


class PostgresBoard:
    """In the schema NAME_board, where NAME is that of the tables."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._schema = f"{db.schema}_board"

    async def read(self) -> Rebuild | None:
        """The rebuild; None before the first. Raises StoreAway."""
        return (await self.look())[0]

    async def look(self) -> tuple[Rebuild | None, float]:
        """As `projections.board.Board` says; the time is PostgreSQL's."""
        ((there, now_s),) = await self._db.fetch(SETS["board_there"], f'"{self._schema}".rebuild')
        return _read(await self._db.fetch(self._sql("board_and_time"))) if there else (None, now_s)

    async def change(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        """As `projections.board.Board` says; the time is PostgreSQL's."""
        try:
            return await self._made_and_changed(work)
        except StoreAway as away:
            if not isinstance(away.__cause__, InsufficientPrivilegeError):
                raise
            owner = (await self._db.fetch(SQL["owner"], self._db.schema))[0][0]
            reason = (
                f"its tables belong to the user {owner}; `workflow grants` prints what others need to ask for a rebuild"
            )
            raise StoreAway(reason=reason) from away

    async def _made_and_changed(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        try:
            return await self._change(work)
        except StoreAway as away:
            if not isinstance(away.__cause__, MISSING):
                raise
        await self.migrate()
        return await self._change(work)

    async def _change(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        async with self._db.transaction() as connection:
            await connection.execute(self._sql("lock_board"))
            before, now_s = _read(await connection.fetch(self._sql("board_and_time")))
            after, answer = work(before, now_s)
            if after is not None and after is not before:
                await connection.execute(self._sql("write_board"), after.dump().decode())
        return answer

    async def migrate(self) -> None:
        """Make the table. Raises StoreAway for a user who may not."""
        async with self._db.transaction() as connection:
            await connection.execute(SQL["lock_migrations"])
            if not await connection.fetchval("select to_regnamespace($1) is not null", self._schema):
                await connection.execute(f'create schema "{self._schema}"')
            await connection.execute(self._sql("board_table"))

    def _sql(self, name: str) -> str:
        return SETS[name].replace("board.", f'"{self._schema}".')


def _read(rows: Sequence[Any]) -> tuple[Rebuild | None, float]:
    """Of `board_and_time`."""
    document, now_s = rows[0]
    return None if document is None else Rebuild.load(document), now_s
