"""One pass of the verify that never ends: what it compares, a piece at a time, each with the tables of one moment."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Final

from projections.compare import Difference, difference, mark_differences
from projections.tables import Audit
from projections.verify import ENDED, Walk
from projections.verify_waiting import Waiting
from schemas.errors import StalePosition
from schemas.ports import TP, Record
from schemas.settings import Settings
from schemas.store import Mark, Tip

SLICE_RUNS: Final = 100
"""Unfinished runs compared at once."""

Found = dict[str, list[Difference]]
"""Run, or `partition N`, → what differs; nothing of one that was compared and is equal."""


class Pass:
    """One pass over a partition. It may be broken off between two calls, and goes on at `position`."""

    def __init__(self, tp: TP, partitions: int, mark: Mark | None) -> None:
        self.tp, self.end = tp, 0 if mark is None else mark.position
        self.found: set[str] = set()
        """what was seen to differ"""
        self._walk = Walk(tp, partitions, "" if mark is None else mark.cluster_id)
        self._ended: dict[str, None] = {}
        """runs that ended and are not compared yet"""
        self._begun = self._missing = 0
        """runs that the log began, and those of them that the tables do not have"""

    @property
    def position(self) -> int:
        return self._walk.fold.position

    @property
    def unfinished(self) -> bool:
        return bool(self._walk.rows)

    async def take(self, records: Sequence[Record], audit: Audit) -> Found:
        """Fold the records that follow, and compare the runs that ended. Raises LogMismatch at a hole of the log."""
        fold = self._walk.fold
        records = [record for record in records if record.offset >= fold.position]
        offsets = [record.offset for record in records]
        if offsets != list(range(fold.position, fold.position + len(offsets))):
            raise self._walk.holds_no(fold.position)
        await self._mark(audit, fold.position + len(offsets))
        tips = await self._tips(audit, fold.unknown(records))
        taken = 0
        while taken < len(records):
            taken += fold.take(records[taken:], tips)
            if taken < len(records):
                tips |= await self._tips(audit, [fold.asks])
        for row in self._walk.collect():
            self._begun += row.first_offset is not None
            if row.done:
                self._ended[row.run_id] = None
        return await self._settle(audit, list(self._ended))

    async def settle_unfinished(self, audit: Audit) -> Found:
        """Compare some of the runs that have not ended where the pass ends."""
        return await self._settle(audit, list(self._walk.rows)[:SLICE_RUNS])

    async def finish(self, audit: Audit) -> Found:
        """Compare what is said of the partition as a whole."""
        partition, folded = self.tp.partition, self._walk.fold.mark
        mark = await self._mark(audit, self.position)
        found = list(mark_differences(partition, mark, folded)) if mark.position == folded.position else []
        rows, runs = await audit.rows_below(partition, self.position), self._begun - self._missing
        if rows != runs:
            found.append(difference(f"partition {partition}", "rows", f"{rows} runs", f"{runs} runs"))
        return {f"partition {partition}": found}

    async def _mark(self, audit: Audit, position: int) -> Mark:
        """Where the tables stand. Raises StalePosition when that is lower: somebody has restored older ones."""
        mark = (await audit.marks()).get(self.tp.partition)
        if mark is None or mark.position < position:
            at = 0 if mark is None else mark.position
            raise StalePosition(partition=self.tp.partition, found=at, wanted=position)
        return mark

    async def _tips(self, audit: Audit, run_ids: Collection[str]) -> dict[str, Tip | None]:
        """Which of these runs ended before: they are not in memory, and row and history say that they began."""
        if not run_ids:
            return {}
        position = self.position
        older = [run for run, row in (await audit.runs(run_ids)).items() if (row.chain.first_offset or 0) < position]
        histories = await audit.history(older) if older else {}
        ended = {run for run, rows in histories.items() if rows[0].offset < position}
        return {run: ENDED if run in ended else None for run in run_ids}

    async def _settle(self, audit: Audit, run_ids: Sequence[str]) -> Found:
        if not run_ids:
            return {}
        stored, histories = await audit.runs(run_ids), await audit.history(run_ids)
        found: Found = {}
        for run in run_ids:
            row, history = stored.get(run), histories.get(run, [])
            self._missing += row is None
            if row is not None and history and self.position <= row.chain.last_offset == history[-1].offset:
                here = [event for event in history if event.offset < self.position]  # it went on since
                found[run] = self._walk.compare_history(run, here)
            else:
                found[run] = self._walk.compare(run, row, history)
            self._ended.pop(run, None)
        await asyncio.sleep(0)
        return found


class WaitingPass:
    """The commands of a partition that wait: `take` the records of their topic, then `finish`."""

    def __init__(self, settings: Settings, tp: TP, *, begin: int, position: int) -> None:
        """Of tables that stand at `position` and a topic that begins at `begin`."""
        self._waiting = Waiting(settings, tp, begin=begin, position=position)

    async def take(self, records: Sequence[Record], audit: Audit) -> Found:
        """Remember those that are starts and have not begun; nothing is compared yet."""
        await self._waiting.take(records, audit)
        return {}

    async def finish(self, audit: Audit) -> Found:
        """Compare. Raises StalePosition when the tables stand lower than they did: somebody has restored older ones."""
        partition, wanted = self._waiting.tp.partition, self._waiting.position
        stands = (await audit.positions()).get(("t", partition), 0)
        if stands < wanted:
            raise StalePosition(partition=partition, found=stands, wanted=wanted)
        found: Found = {}
        for each in await self._waiting.differences(audit):
            found.setdefault(each.run, []).append(each)
        return found
