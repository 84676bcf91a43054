"""The board of a rebuild in a folder: a file that is read and replaced under a lock."""

from __future__ import annotations

import asyncio
import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from projections.board import Rebuild
from schemas.errors import StoreAway

FILE: Final = "rebuild.json"
LOCK: Final = "rebuild.lock"
T = TypeVar("T")


class FileBoard:
    """The file `rebuild.json` of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def read(self) -> Rebuild | None:
        """The rebuild; None before the first. Raises StoreAway."""
        with self._answering():
            return await asyncio.to_thread(self._read)

    async def look(self) -> tuple[Rebuild | None, float]:
        """As `projections.board.Board` says; all processes are on one host."""
        return await self.read(), time.time()

    async def change(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        """As `projections.board.Board` says."""
        with self._answering():
            return await asyncio.to_thread(self._change, work)

    def _read(self) -> Rebuild | None:
        try:
            return Rebuild.load((self._folder / FILE).read_bytes())
        except FileNotFoundError:
            return None

    def _change(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        with (self._folder / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._read()
            after, answer = work(before, time.time())
            if after is not None and after is not before:
                fresh = self._folder / f"{FILE}.new"
                fresh.write_bytes(after.dump())
                fresh.replace(self._folder / FILE)
        return answer

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreAway(reason=f"{type(error).__name__} {error} in {self._folder}") from error
