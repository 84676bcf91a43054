"""What rebuild and verify ask of a store beside its port: one consistent look at every row, and a second set of tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, Self

from projections.rows import Chain, Shown
from schemas.store import HistoryRow, Mark, Store

Level = Callable[[Mapping[int, int]], Awaitable[None]]
"""Told partition → position of its events; returns when the second set stands there."""


class StoredRow(NamedTuple):
    """A run as it stands in the tables."""

    chain: Chain
    shown: Shown


class Audit(Protocol):
    """All tables as they stood at one moment, however long it takes to look at them."""

    async def marks(self) -> Mapping[int, Mark]: ...

    async def runs(self, run_ids: Collection[str]) -> Mapping[str, StoredRow]: ...

    async def history(self, run_ids: Collection[str]) -> Mapping[str, Sequence[HistoryRow]]:
        """The history rows of each run, by seq."""
        ...

    def run_ids(self, partition: int) -> AsyncIterator[Sequence[str]]:
        """Ids of all runs of a partition, some at a time."""
        ...

    async def stray_history(self) -> Sequence[str]:
        """Up to ten ids that have history rows and no row of their own."""
        ...


class Tables(Store, Protocol):
    """A store that can be audited and rebuilt. Each call raises StoreAway when the store does not answer."""

    def audit(self) -> AbstractAsyncContextManager[Audit]: ...

    async def second(self) -> Self:
        """An empty second set of tables, that of an earlier rebuild thrown away. Close it when done."""
        ...

    async def swap(self, second: Self, level: Level) -> None:
        """Let the second set take the place of the first, at once and for every process; the first set is dropped.

        Writers of the first wait from when `level` is called: it brings the second to the same positions, so that no
        reader sees an older state. Then they write to the second, or meet StalePosition and load from it.
        """
        ...
