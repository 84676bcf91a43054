"""The events of one partition between the group and the fold: in order, without gaps, bounded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import chain
from typing import Final

from schemas.errors import LogMismatch
from schemas.ports import TP, Record

BATCH_BYTES_MAX: Final = 16 * 1024 * 1024
"""Values of one batch, beside the bound of its records."""
GAPS_MAX: Final = 3
"""A gap that stays after so many seeks back is in the log itself, where none can be."""


class Intake:
    """Records that wait to be folded. `next`: the offset that is to come next."""

    def __init__(self, tp: TP) -> None:
        self._tp = tp
        self.next = 0
        self.records = self.bytes = 0
        self._waiting: deque[tuple[Sequence[Record], int]] = deque()
        self._gaps: Counter[int] = Counter()

    def begin(self, position: int) -> None:
        """Start over at a position."""
        self.next = position
        self.records = self.bytes = 0
        self._waiting.clear()
        self._gaps.clear()

    def add(self, records: Sequence[Record]) -> bool:
        """Take what follows; False when reading must go back to `next`, where something is missing.

        Raises LogMismatch when it was missing too often.
        """
        if records[0].offset < self.next:
            records = [record for record in records if record.offset >= self.next]
        sound = self._sound(records)
        if sound:
            taken = records[:sound]
            size = sum(len(record.value or b"") for record in taken)
            self.next += sound
            self.records += sound
            self.bytes += size
            self._waiting.append((taken, size))
        if sound == len(records):
            return True
        self._gaps[self.next] += 1
        if self._gaps[self.next] > GAPS_MAX:
            reason = f"the record at offset {self.next} is missing"
            raise LogMismatch(partition=self._tp.partition, topic=self._tp.topic, reason=reason)
        return False

    def _sound(self, records: Sequence[Record]) -> int:
        """How many of the records follow one another from `next` on."""
        if records and records[0].offset == self.next and records[-1].offset == self.next + len(records) - 1:
            return len(records)
        return next((n for n, record in enumerate(records) if record.offset != self.next + n), len(records))

    def merged(self, records_max: int, bytes_max: int) -> list[Record]:
        """All that waits, as one batch; what came together stays together, so it may be a little more than the bounds."""
        taken: list[Sequence[Record]] = []
        count = size = 0
        while self._waiting and count < records_max and size < bytes_max:
            records, bytes_ = self._waiting.popleft()
            taken.append(records)
            count += len(records)
            size += bytes_
        self.records -= count
        self.bytes -= size
        return list(chain.from_iterable(taken))
