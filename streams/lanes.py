"""What a producer has of one partition: records that wait, and those under way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from schemas.ports import TP, Done

Pair = tuple[bytes | None, bytes | None]
"""Key and value."""


class Entry:
    """Records that one caller sent together, until the broker has the last of them."""

    __slots__ = ("added", "bytes", "done", "due", "records")

    def __init__(self, records: Sequence[Pair], done: Done, due: float, size: int) -> None:
        self.records = records
        self.done = done
        self.due = due
        self.bytes = size
        self.added = 0  # records already put into a batch


class Lane:
    """One partition: what waits, and what flies in the one batch under way."""

    __slots__ = ("flying", "pump", "tp", "waiting")

    def __init__(self, tp: TP) -> None:
        self.tp = tp
        self.waiting: deque[Entry] = deque()
        self.flying: deque[tuple[Entry, int]] = (
            deque()
        )  # entries that end in the batch, with their last record's place in it
        self.pump: asyncio.Task[None] | None = None
