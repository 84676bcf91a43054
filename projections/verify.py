"""Verify: fold the log without the tables and compare every row of the tables with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from projections.checks import check_log
from projections.compare import (
    RUNS_AT_ONCE,
    Difference,
    Trace,
    difference,
    history_differences,
    is_refused,
    mark_differences,
    row_differences,
    stray_differences,
    trace,
)
from projections.feed import SLICE_RECORDS
from projections.fold import PartitionFold, Retelling
from projections.intake import BATCH_BYTES_MAX, Intake
from projections.progress import Progress, Tell
from projections.rows import UNSHOWN, Shown, columns
from projections.tables import Audit, StoredRow, Tables
from projections.verify_waiting import waiting_differences
from schemas.errors import HistoryDamaged, LogMismatch
from schemas.ports import TP, Reader, Record
from schemas.settings import Settings
from schemas.store import HistoryRow, Mark, RunRow, Tip

ENDED: Final = Tip(0, "", True)


async def verify(settings: Settings, store: Tables, reader: Reader, tell: Tell) -> AsyncIterator[Difference]:
    """Every difference between the tables, as they stand at the call, and the log up to the same positions.

    The projector may go on meanwhile. Raises StoreAway and BrokerAway. Memory: about 150 bytes per finished run of the
    largest partition, and its unfinished runs.
    """
    began, cluster_id = time.monotonic(), await reader.cluster_id()
    async with store.audit() as audit:
        marks, positions = await audit.marks(), await audit.positions()
        total, events = sum(mark.position for mark in marks.values()), 0
        for partition in range(max([settings.workflow_partitions, *(number + 1 for number in marks)])):
            tp = TP(settings.topics.events, partition)
            walk = _Whole(audit, tp, settings.workflow_partitions, marks.get(partition))
            async for found in walk.differences(reader, cluster_id):
                yield found
            async for found in waiting_differences(
                settings, audit, reader, partition, positions.get(("t", partition), 0)
            ):
                yield found
            events += walk.fold.position
            tell(Progress(events, total, time.monotonic() - began))
        for found in await stray_differences(audit):
            yield found


class Walk:
    """One partition, folded a second time, and what that says of runs that are not compared yet."""

    def __init__(self, tp: TP, partitions: int, cluster_id: str) -> None:
        self.tp = tp
        self.fold = PartitionFold(tp.partition, partitions, cluster_id)
        self.rows: dict[str, RunRow] = {}
        self._traces: dict[str, list[Trace]] = {}

    def collect(self) -> Sequence[RunRow]:
        """Keep what the records that were taken since the last call came to: the rows of the runs that they changed."""
        batch = self.fold.batch()
        for row in batch.runs:
            before = self.rows.get(row.run_id)
            self.rows[row.run_id] = row if before is None else row._replace(first_offset=before.first_offset)
        for event in batch.history:
            self._traces.setdefault(event.run_id, []).append(trace(event))
        return batch.runs

    def compare(self, run_id: str, stored: StoredRow | None, history: Sequence[HistoryRow]) -> list[Difference]:
        """What the tables say otherwise of a run. It is forgotten."""
        folded = StoredRow(*columns(self.rows[run_id]))
        before = _shown(self.tp.partition, run_id, history) if stored is not None and is_refused(stored) else ()
        return [*row_differences(run_id, stored, folded, before), *self.compare_history(run_id, history)]

    def compare_history(self, run_id: str, history: Sequence[HistoryRow]) -> list[Difference]:
        """The same of its events alone."""
        del self.rows[run_id]
        return list(history_differences(run_id, history, self._traces.pop(run_id)))

    def holds_no(self, offset: int) -> LogMismatch:
        """The error of a log that lacks a record."""
        reason = f"the record at offset {offset} is missing"
        return LogMismatch(partition=self.tp.partition, topic=self.tp.topic, reason=reason)


def _shown(partition: int, run_id: str, history: Sequence[HistoryRow]) -> list[Shown]:
    """All that a run has ever looked like; nothing at first."""
    shown, retelling = [UNSHOWN], Retelling(partition, run_id)
    try:
        for row in history:
            retelling.take(row)
            shown.append(columns(retelling.row())[1])
    except HistoryDamaged:  # which its history says itself
        pass
    return shown


def log_difference(partition: int, position: int, mismatch: LogMismatch) -> Difference:
    """The one difference of a partition whose log is not the one that the tables know."""
    return difference(f"partition {partition}", "log", f"position {position}", mismatch.message)


class _Whole(Walk):
    """A walk that compares everything with the tables of one moment."""

    def __init__(self, audit: Audit, tp: TP, partitions: int, mark: Mark | None) -> None:
        super().__init__(tp, partitions, mark.cluster_id if mark else "")
        self._audit, self._mark = audit, mark
        self._ended: dict[str, Tip | None] = {}

    async def differences(self, reader: Reader, cluster_id: str) -> AsyncIterator[Difference]:
        if self._mark is not None:
            try:
                await check_log(reader, self.tp, self._mark, cluster_id)
                async for done in self._fold_to(reader, self._mark.position):
                    async for found in self._settle(done):
                        yield found
            except LogMismatch as mismatch:
                yield log_difference(self.tp.partition, self._mark.position, mismatch)
                return
            for found in mark_differences(self.tp.partition, self._mark, self.fold.mark):
                yield found
        async for found in self._settle(list(self.rows)):
            yield found
        async for found in self._extra():
            yield found

    async def _fold_to(self, reader: Reader, end: int) -> AsyncIterator[list[str]]:
        """Fold the log up to `end`; after each slice the runs that ended in it. Raises LogMismatch at a hole."""
        intake = Intake(self.tp)
        async for records in reader.read(self.tp, 0, end):
            for at in range(0, len(records), SLICE_RECORDS):
                if not intake.add(records[at : at + SLICE_RECORDS]):
                    raise self.holds_no(intake.next)
                yield self._take(intake.merged(SLICE_RECORDS, BATCH_BYTES_MAX))
                await asyncio.sleep(0)

    def _take(self, records: Sequence[Record]) -> list[str]:
        """Fold records; the runs that ended."""
        taken = 0
        while taken < len(records):
            taken += self.fold.take(records[taken:], self._ended)
            if taken < len(records):
                self._ended[self.fold.asks] = None
        rows = self.collect()
        for row in rows:
            if row.first_offset is not None:
                self._ended.pop(row.run_id, None)
        done = [row.run_id for row in rows if row.done]
        self._ended.update(dict.fromkeys(done, ENDED))
        return done

    async def _settle(self, run_ids: Sequence[str]) -> AsyncIterator[Difference]:
        """Compare runs and forget what is not needed any more."""
        for at in range(0, len(run_ids), RUNS_AT_ONCE):
            part = run_ids[at : at + RUNS_AT_ONCE]
            stored, histories = await self._audit.runs(part), await self._audit.history(part)
            for run_id in part:
                for found in self.compare(run_id, stored.get(run_id), histories.get(run_id, [])):
                    yield found

    async def _extra(self) -> AsyncIterator[Difference]:
        """Rows of runs that the log does not have."""
        known = self._ended.keys() | self.fold.runs.keys()
        async for run_ids in self._audit.run_ids(self.tp.partition):
            for run_id in run_ids:
                if run_id not in known:
                    yield difference(run_id, "row", "a row", None)
