"""The thread that uses the SQLite files of one folder, and which of them serves."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from projections import sqlite_tables
from projections.sqlite_tables import SqliteTables
from schemas.errors import StoreAway, StoreRefused
from schemas.store import Mark

POINTER: Final = "current"
"""The file that names the set of tables that serves."""
OLD: Final = "old"
"""The file that names the set which the last swap replaced."""
LOCK: Final = "lock"
_FIRST: Final = "tables-1.sqlite3"
T = TypeVar("T")


class SqliteThread:
    """All tables in a file of `folder`, used by a thread of its own. `file` fixes it to one set, served or not."""

    def __init__(self, folder: Path, *, file: str | None = None, timeout_s: float) -> None:
        self.folder, self.timeout_s = folder, timeout_s
        self._file = file
        self._tables: SqliteTables | None = None
        self._closed = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sqlite")

    async def do(self, work: Callable[[SqliteTables], T]) -> T:
        """Have the thread work on the tables that serve."""
        return await self.run(lambda: work(self._current()))

    async def run(self, work: Callable[[], T]) -> T:
        """Have the thread do it. Raises StoreAway for all that may pass and StoreRefused for what the file cannot hold."""
        try:
            async with asyncio.timeout(self.timeout_s):
                return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
            raise StoreRefused(what=f"{type(error).__name__}: {error}") from error
        except (sqlite3.Error, OSError, TimeoutError) as error:
            raise StoreAway(reason=f"{type(error).__name__} {error} in {self.folder}") from error

    @asynccontextmanager
    async def writers_kept_out(self) -> AsyncIterator[Holder]:
        """Nobody writes to the file that serves, until the end or until the holder lets them in."""
        thread = SqliteThread(self.folder, file=await self.run(self.name), timeout_s=self.timeout_s)
        try:
            yield Holder(thread)
        finally:
            await thread.close()

    async def close(self) -> None:
        """Close the file; nothing may be asked after that."""
        if not self._closed:
            self._closed = True
            await self.run(self._close_tables)
            self._executor.shutdown(wait=False)

    # in the thread

    def name(self) -> str:
        """Name of the file that is meant."""
        if self._file is not None:
            return self._file
        try:
            return (self.folder / POINTER).read_text()
        except FileNotFoundError as error:
            raise StoreAway(
                reason=f"there are no tables in {self.folder}; the projector makes them when it starts"
            ) from error

    def _current(self) -> SqliteTables:
        """The open file, another one after a rebuild by whichever process."""
        name = self.name()
        if self._tables is None or self._tables.file.name != name:
            self._close_tables()
            self._tables = SqliteTables(self.folder / name)
        return self._tables

    def create(self) -> None:
        """Make the tables that are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            first = self._file is None and not (self.folder / POINTER).exists()
            name = _FIRST if first else self.name()
            sqlite_tables.create(self.folder / name)
            if first:
                self._point(name)

    def clear(self, spare: str = "") -> None:
        """Remove every set that neither serves nor did until the last swap, but for names that begin with `spare`."""
        with self._locked():
            kept = tuple(filter(None, (self.name(), self._old(), spare and f"tables-{spare}")))
            for file in self.folder.glob("tables-*"):
                if not file.name.startswith(kept):
                    file.unlink()

    def discard(self, name: str) -> None:
        """Remove a set, unless it serves."""
        with self._locked():
            if self.has(name):
                self.remove(name)

    def has(self, name: str) -> bool:
        """Whether there is such a file and another one serves."""
        return (self.folder / name).exists() and self.name() != name

    def remove(self, name: str) -> None:
        """Remove a file and what SQLite keeps beside it; who has it open still reads it to the end of the call."""
        for file in self.folder.glob(f"{name}*"):
            file.unlink()

    def has_old(self) -> bool:
        """Whether the set that the last swap replaced is still there."""
        return (self.folder / OLD).exists()

    def drop_old(self) -> bool:
        """Remove the set that the last swap replaced; False where there is none."""
        name = self._old()
        if name is None:
            return False
        self.remove(name)
        (self.folder / OLD).unlink(missing_ok=True)
        return True

    def _old(self) -> str | None:
        """The file that served until the last swap, if it is still there."""
        try:
            return (self.folder / OLD).read_text()
        except FileNotFoundError:
            return None

    def give_way(self, name: str) -> None:
        """Let another file serve; the one that did stays, and takes no batch any more. Raises StoreAway where that file is
        gone or another process was faster: nothing was changed then."""
        old = self._current()
        with self._locked():
            serves = (self.folder / POINTER).read_text()
            if serves != old.file.name or name == serves or not (self.folder / name).exists():
                raise StoreAway(reason=f"{name} cannot take the place of {old.file.name} in {self.folder} any more")
            self.drop_old()
            (self.folder / OLD).write_text(old.file.name)
            self._point(name)
            old.retire()
        self._close_tables()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time says which file serves; the lock goes with its process."""
        with (self.folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _point(self, name: str) -> None:
        fresh = self.folder / f"{POINTER}.new"
        fresh.write_text(name)
        fresh.replace(self.folder / POINTER)

    def _close_tables(self) -> None:
        if self._tables is not None:
            self._tables.close()
            self._tables = None


class Holder:
    """Keeps writers out of one file from the first call on."""

    def __init__(self, thread: SqliteThread) -> None:
        self._thread = thread
        self.marks: Mapping[int, Mark] = {}

    async def positions(self) -> dict[int, int]:
        """Keep them out; where the events of each partition stand."""
        self.marks = await self._thread.do(lambda tables: tables.keep_writers_out())
        return {partition: mark.position for partition, mark in self.marks.items()}

    async def let_in(self) -> None:
        await self._thread.do(lambda tables: tables.let_writers_in())

    async def give_way(self, name: str) -> None:
        await self._thread.run(lambda: self._thread.give_way(name))


def file_of(name: str) -> str:
    """The file of a set of this name."""
    return f"tables-{name}.sqlite3"
