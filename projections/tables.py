"""What rebuild and verify ask of a store beside its port: one consistent look at every row, and a second set of tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, Self

from projections.board import Board
from projections.compare import Comparison
from projections.rows import Chain, Shown
from schemas.position import Position
from schemas.store import Batch, HistoryRow, Mark, PendingRow, Store, Tip

Level = Callable[[Mapping[int, int]], Awaitable[None]]
"""Told partition → position of its events; returns when the second set stands there."""


class StoredRow(NamedTuple):
    """A run as it stands in the tables."""

    chain: Chain
    shown: Shown


class Audit(Protocol):
    """All tables as they stood at one moment, however long it takes to look at them."""

    async def marks(self) -> Mapping[int, Mark]: ...

    async def positions(self) -> Position:
        """How far both topics are in the tables."""
        ...

    async def begun(self, run_ids: Collection[str]) -> Collection[str]:
        """Those that have a row of their own: they are no mere commands."""
        ...

    async def pending(self, partition: int) -> Sequence[PendingRow]:
        """All commands of a partition that wait."""
        ...

    async def runs(self, run_ids: Collection[str]) -> Mapping[str, StoredRow]: ...

    async def history(self, run_ids: Collection[str]) -> Mapping[str, Sequence[HistoryRow]]:
        """The history rows of each run, by seq."""
        ...

    def run_ids(self, partition: int) -> AsyncIterator[Sequence[str]]:
        """Ids of all runs of a partition, some at a time."""
        ...

    async def rows_below(self, partition: int, offset: int) -> int:
        """How many runs of a partition began below an offset."""
        ...

    async def stray_history(self) -> Sequence[str]:
        """Up to ten ids that have history rows and no row of their own."""
        ...


class Writing(Protocol):
    """A transaction of several batches. Each call raises StoreAway when it is lost."""

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        """As those of the store, with what this transaction has written."""
        ...

    async def apply(self, batch: Batch) -> None:
        """As that of the store; others see it when the transaction ends."""
        ...


class Tables(Store, Protocol):
    """A store that can be audited and rebuilt. Each call raises StoreAway when the store does not answer."""

    batches_together: int
    """Batches that `writing` had better be given at a time; 1 where nothing is gained by more."""

    def audit(self) -> AbstractAsyncContextManager[Audit]: ...

    def board(self) -> Board:
        """Where the rebuild of these tables is agreed on."""
        ...

    async def second(self, name: str | None = None, *, spare: str = "") -> Self:
        """An empty second set of tables, of this name or a fresh one; those of earlier rebuilds that did not come to their
        end are thrown away, but for names that begin with `spare`. Close it when done."""
        ...

    def opened(self, name: str) -> Self:
        """The second set of that name, as it stands. Close it when done."""
        ...

    async def has(self, name: str) -> bool:
        """Whether a second set of that name is there and does not serve."""
        ...

    async def discard(self, name: str) -> None:
        """Throw that second set away, unless it serves."""
        ...

    async def begin_filling(self, first: Self) -> None:
        """Of an empty second set: lie on disk as the first one was made to, and go without all that only readers need, until
        `end_filling`."""
        ...

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        """One transaction for up to `batches_together` batches that follow one another. Others see them all when the block
        ends, and none when it fails."""
        ...

    async def end_filling(self) -> None:
        """Make what was gone without; nothing where that was done before."""
        ...

    async def compare(self, second: Self, level: Level) -> Comparison:
        """Compare with the second set row by row. Writers wait while `level` brings it to where these tables stand."""
        ...

    async def swap(self, second: Self, level: Level) -> None:
        """Let the second set take the place of the first, at once and for every process; the first set stays beside it,
        and the one that stood there goes.

        Writers of the first wait from when `level` is called: it brings the second to the same positions, so that no
        reader sees an older state. Then they meet StalePosition and load from it: what they remember is of the first.
        """
        ...

    async def has_old(self) -> bool:
        """Whether the set that the last swap replaced is still there."""
        ...

    async def drop_old(self) -> bool:
        """Throw away the set that the last swap replaced; False where there was none."""
        ...
