"""Verify: fold the log without the tables and compare every row of the tables with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from projections.checks import check_log
from projections.compare import (
    Difference,
    Trace,
    difference,
    history_differences,
    mark_differences,
    row_differences,
    trace,
)
from projections.feed import SLICE_RECORDS
from projections.fold import PartitionFold
from projections.intake import BATCH_BYTES_MAX, Intake
from projections.progress import Progress, Tell
from projections.rows import columns
from projections.tables import Audit, StoredRow, Tables
from schemas.errors import LogMismatch
from schemas.ports import TP, Reader, Record
from schemas.settings import Settings
from schemas.store import HistoryRow, Mark, RunRow, Tip

RUNS_AT_ONCE: Final = 500
_ENDED: Final = Tip(0, "", True)


async def verify(settings: Settings, store: Tables, reader: Reader, tell: Tell) -> AsyncIterator[Difference]:
    """Every difference between the tables, as they stand at the call, and the log up to the same positions.

    The projector may go on meanwhile. Raises StoreAway and BrokerAway. Memory: about 150 bytes per finished run of the
    largest partition, and its unfinished runs.
    """
    began, cluster_id = time.monotonic(), await reader.cluster_id()
    async with store.audit() as audit:
        marks = await audit.marks()
        total, events = sum(mark.position for mark in marks.values()), 0
        for partition in range(max([settings.workflow_partitions, *(number + 1 for number in marks)])):
            tp = TP(settings.topics.events, partition)
            walk = _Walk(audit, tp, settings.workflow_partitions, marks.get(partition))
            async for found in walk.compare(reader, cluster_id):
                yield found
            events += walk.fold.position
            tell(Progress(events, total, time.monotonic() - began))
        for run_id in await audit.stray_history():
            yield difference(run_id, "history", "events", None)


class _Walk:
    """One partition: the fold, and what it says of runs that are not compared yet."""

    def __init__(self, audit: Audit, tp: TP, partitions: int, mark: Mark | None) -> None:
        self._audit, self._tp, self._mark = audit, tp, mark
        self.fold = PartitionFold(tp.partition, partitions, mark.cluster_id if mark else "")
        self._ended: dict[str, Tip | None] = {}
        self._rows: dict[str, RunRow] = {}
        self._traces: dict[str, list[Trace]] = {}

    async def compare(self, reader: Reader, cluster_id: str) -> AsyncIterator[Difference]:
        if self._mark is not None:
            try:
                await check_log(reader, self._tp, self._mark, cluster_id)
                async for done in self._fold_to(reader, self._mark.position):
                    async for found in self._settle(done):
                        yield found
            except LogMismatch as mismatch:
                yield difference(
                    f"partition {self._tp.partition}", "log", f"position {self._mark.position}", mismatch.message
                )
                return
            for found in mark_differences(self._tp.partition, self._mark, self.fold.mark):
                yield found
        async for found in self._settle(list(self._rows)):
            yield found
        async for found in self._extra():
            yield found

    async def _fold_to(self, reader: Reader, end: int) -> AsyncIterator[list[str]]:
        """Fold the log up to `end`; after each slice the runs that ended in it. Raises LogMismatch at a hole."""
        intake = Intake(self._tp)
        async for records in reader.read(self._tp, 0, end):
            for at in range(0, len(records), SLICE_RECORDS):
                if not intake.add(records[at : at + SLICE_RECORDS]):
                    reason = f"the record at offset {intake.next} is missing"
                    raise LogMismatch(partition=self._tp.partition, topic=self._tp.topic, reason=reason)
                yield self._take(intake.merged(SLICE_RECORDS, BATCH_BYTES_MAX))
                await asyncio.sleep(0)

    def _take(self, records: Sequence[Record]) -> list[str]:
        """Fold records; the runs that ended."""
        taken = 0
        while taken < len(records):
            taken += self.fold.take(records[taken:], self._ended)
            if taken < len(records):
                self._ended[self.fold.asks] = None
        batch = self.fold.batch()
        for row in batch.runs:
            self._keep(row)
        for event in batch.history:
            self._traces.setdefault(event.run_id, []).append(trace(event))
        done = [row.run_id for row in batch.runs if row.done]
        self._ended.update(dict.fromkeys(done, _ENDED))
        return done

    def _keep(self, row: RunRow) -> None:
        before = self._rows.get(row.run_id)
        self._rows[row.run_id] = row if before is None else row._replace(first_offset=before.first_offset)
        if row.first_offset is not None:
            self._ended.pop(row.run_id, None)

    async def _settle(self, run_ids: Sequence[str]) -> AsyncIterator[Difference]:
        """Compare runs and forget what is not needed any more."""
        for at in range(0, len(run_ids), RUNS_AT_ONCE):
            part = run_ids[at : at + RUNS_AT_ONCE]
            stored, histories = await self._audit.runs(part), await self._audit.history(part)
            for run_id in part:
                for found in self._one(run_id, stored.get(run_id), histories.get(run_id, [])):
                    yield found

    def _one(self, run_id: str, stored: StoredRow | None, history: Sequence[HistoryRow]) -> list[Difference]:
        folded = StoredRow(*columns(self._rows.pop(run_id)))
        return [
            *row_differences(run_id, stored, folded),
            *history_differences(run_id, history, self._traces.pop(run_id)),
        ]

    async def _extra(self) -> AsyncIterator[Difference]:
        """Rows of runs that the log does not have."""
        known = self._ended.keys() | self.fold.runs.keys()
        async for run_ids in self._audit.run_ids(self._tp.partition):
            for run_id in run_ids:
                if run_id not in known:
                    yield difference(run_id, "row", "a row", None)
