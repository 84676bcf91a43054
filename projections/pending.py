"""Commands between their topic and their run: held for a moment, because most become runs before anybody looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from schemas import jsontext
from schemas.commands import TriggerRun, decode
from schemas.errors import CommandRefused
from schemas.identity import home
from schemas.ports import TP, Record
from schemas.store import PendingRow


class _Held(NamedTuple):
    record: Record
    run_id: str | None
    """as the record says; None when it names none, or says nothing that can be read"""
    due_s: float


class HeldCommands:
    """The commands of one partition, in order, from `position` (what the tables have seen) to `next` (what was read)."""

    def __init__(self, tp: TP, *, partitions: int, depth_max: int, hold_s: float) -> None:
        self._tp, self._partitions, self._depth_max, self._hold_s = tp, partitions, depth_max, hold_s
        self.position = 0
        self.next = 0
        self._held: deque[_Held] = deque()
        self._hole: int | None = None

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, position: int, read_from: int) -> None:
        """Start over where the tables stand; reading goes on at `read_from`, at or above it."""
        self.position, self.next = position, read_from
        self._held.clear()
        self._hole = None

    def hold(self, records: Sequence[Record], now_s: float) -> bool:
        """Take records; False when they must be read again from `next`.

        The topic may have holes: where the same record comes again after one seek back, nothing stood before it.
        """
        if records[0].offset > self.next and self._hole != records[0].offset:
            self._hole = records[0].offset
            return False
        for record in records:
            if record.offset >= self.next:
                self._held.append(_Held(record, _run_id(record.value), now_s + self._hold_s))
                self.next = record.offset + 1
        return True

    def due_s(self) -> float | None:
        """When the first of them has been held for long enough; None when there is none."""
        return self._held[0].due_s if self._held else None

    def settled(self, is_run: Callable[[str], bool]) -> int:
        """Position below which every command has become a run."""
        for held in self._held:
            if held.run_id is None or not is_run(held.run_id):
                return held.record.offset
        return self.next

    def rows(self, now_s: float, is_run: Callable[[str], bool]) -> tuple[int, list[PendingRow]]:
        """Position below which everything is a run or has been held for long enough, and the rows of the latter."""
        rows: list[PendingRow] = []
        for held in self._held:
            settled = held.run_id is not None and is_run(held.run_id)
            if not settled and held.due_s > now_s:
                return held.record.offset, rows
            row = None if settled else pending_row(held.record, self._tp, self._partitions, self._depth_max)
            if row is not None:
                rows.append(row)
        return self.next, rows

    def moved(self, position: int) -> None:
        """The tables stand here now."""
        self.position = position
        while self._held and self._held[0].record.offset < position:
            self._held.popleft()


def pending_row(record: Record, tp: TP, partitions: int, depth_max: int) -> PendingRow | None:
    """The row of a start that is at home where it stands; None for all else, which the engine reports or sends home."""
    try:
        command = decode(
            record.value,
            topic=tp.topic,
            partition=tp.partition,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            partitions=partitions,
            depth_max=depth_max,
        )
    except CommandRefused:
        return None
    if not isinstance(command, TriggerRun) or home(command.run_id, partitions) != tp.partition:
        return None
    return PendingRow(
        command.run_id,
        tp.partition,
        record.offset,
        command.workflow_id,
        command.version,
        jsontext.dumps(command.payload),
        command.requested_at,
    )


def _run_id(value: bytes | None) -> str | None:
    """The run that a command names, without checking the rest."""
    try:
        message: Any = orjson.loads(value or b"")
        fields = message.get("data", message)
        run_id = fields.get("run_id")
    except (ValueError, AttributeError):
        return None
    return run_id if isinstance(run_id, str) else None
