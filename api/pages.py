"""Pages of rows, bounded in number and in bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from api import cursors
from api.cursors import Bound

PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""A page ends early when its items come to more: the cursor leads on."""
ROWS_AT_ONCE: Final = 100
"""Rows asked of the store in one query, whatever the page's limit."""
Row = TypeVar("Row")


def cut(
    found: Sequence[Row], most: int, bound: Bound, key: Callable[[Row], list[str | int]]
) -> tuple[Sequence[Row], str | None]:
    """The first `most` of rows, of which one more was asked for, and the cursor that leads on where there is one more."""
    page = found[:most]
    return page, cursors.encode(bound, key(page[-1])) if len(found) > most else None


async def page_of(
    rows: Callable[[Row | None, int], Awaitable[Sequence[Row]]], most: int, text_of: Callable[[Row], bytes]
) -> tuple[list[tuple[Row, bytes]], bool]:
    """Up to `most` rows with their JSON, fewer when they come to too many bytes, and whether there are more.

    `rows(after, count)` asks the store for the rows that follow.
    """
    shown: list[tuple[Row, bytes]] = []
    size = 0
    while True:
        wanted = min(ROWS_AT_ONCE, most - len(shown) + 1)
        fetched = await rows(shown[-1][0] if shown else None, wanted)
        for row in fetched:
            text = text_of(row)
            size += len(text)
            if shown and (len(shown) == most or size > PAGE_BYTES_MAX):
                return shown, True
            shown.append((row, text))
        if len(fetched) < wanted:
            return shown, False
