"""Rebuild: fold the topics from their first records into a second set of tables, compare, and let it take over."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from projections.checks import check_log
from projections.compare import Difference, difference, history_differences, mark_differences, row_differences, trace
from projections.feed import fold_records
from projections.fold import PartitionFold
from projections.intake import BATCH_BYTES_MAX, Intake
from projections.pending import pending_row
from projections.progress import Progress, Tell
from projections.tables import Audit, Tables
from schemas.errors import LogMismatch
from schemas.ports import TP, Reader
from schemas.settings import Settings
from schemas.store import Mark

log = logging.getLogger(__name__)

AT_ONCE: Final = 4
"""Partitions folded at the same time: one decodes while another's rows are written."""
RUNS_AT_ONCE: Final = 500
DIFFERENCES_MAX: Final = 20
ROUNDS_MAX: Final = 20
LEVEL_EVENTS: Final = 1_000
"""So near to the end of the log the second set takes over; the projector brings the rest."""


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild came to. `differences`: the first ones between the old rows and the new, at the same positions."""

    events: int = 0
    seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)


async def rebuild(settings: Settings, store: Tables, reader: Reader, tell: Tell) -> Rebuilt:
    """Make all tables anew. `store` serves meanwhile, and its projector goes on, before and after the exchange.

    Raises LogMismatch when the log has lost its beginning, StoreAway and BrokerAway; the old tables then stay.
    """
    second = await store.second()
    try:
        await second.migrate()
        work = _Rebuild(settings, second, reader, tell)
        await work.begin()
        await work.reach(await _positions(store))
        found = await work.compare_with(store)
        for _ in range(ROUNDS_MAX):
            if await work.fold_to(await reader.end_offsets(work.folds)) <= LEVEL_EVENTS:
                break
        await work.show_commands()
        await store.swap(second, work.reach)
    finally:
        await second.close()
    return Rebuilt(work.events, time.monotonic() - work.began, found)


async def _positions(store: Tables) -> dict[int, int]:
    return {number: at for (topic, number), at in (await store.positions()).items() if topic == "e"}


class _Rebuild:
    """The second set, and a fold per partition."""

    def __init__(self, settings: Settings, second: Tables, reader: Reader, tell: Tell) -> None:
        self._settings, self._second, self._reader, self._tell = settings, second, reader, tell
        self.folds: dict[TP, PartitionFold] = {}
        self.began = time.monotonic()
        self._total = 0

    @property
    def events(self) -> int:
        return sum(fold.position for fold in self.folds.values())

    async def begin(self) -> None:
        """Every partition from its first record."""
        partitions = self._settings.workflow_partitions
        cluster_id = await self._reader.cluster_id()
        for number in range(partitions):
            tp = TP(self._settings.topics.events, number)
            await check_log(self._reader, tp, None, cluster_id)
            self.folds[tp] = PartitionFold(number, partitions, cluster_id)

    async def fold_to(self, positions: Mapping[TP, int]) -> int:
        """Fold every partition up to a position, or to the log's end where that is lower; how many events it was."""
        before, ends = self.events, await self._reader.end_offsets(self.folds)
        self._total = max(self._total, sum(ends.values()))
        room = asyncio.Semaphore(AT_ONCE)

        async def one(tp: TP) -> None:
            async with room:
                await self._fold_to(tp, min(positions.get(tp, 0), ends[tp]))

        try:
            async with asyncio.TaskGroup() as group:
                for tp in self.folds:
                    group.create_task(one(tp))
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return self.events - before

    async def reach(self, positions: Mapping[int, int]) -> None:
        """Come to where the tables stand that will be replaced, while nobody writes to them."""
        await self.fold_to({TP(self._settings.topics.events, number): at for number, at in positions.items()})

    async def _fold_to(self, tp: TP, end: int) -> None:
        fold, intake = self.folds[tp], Intake(tp)
        intake.begin(fold.position)
        async for records in self._reader.read(tp, fold.position, end):
            if not intake.add(records):
                raise LogMismatch(partition=tp.partition, topic=tp.topic, reason=f"offset {intake.next} is missing")
            if intake.records >= self._settings.workflow_projector_batch_max or intake.bytes >= BATCH_BYTES_MAX:
                await self._write(fold, intake)
        if intake.records:
            await self._write(fold, intake)

    async def _write(self, fold: PartitionFold, intake: Intake) -> None:
        records = intake.merged(self._settings.workflow_projector_batch_max, BATCH_BYTES_MAX)
        await self._second.apply(await fold_records(fold, self._second, records))
        self._tell(Progress(self.events, self._total, time.monotonic() - self.began))

    async def compare_with(self, first: Tables) -> list[Difference]:
        """The first differences between the old rows and ours, with both at the old ones' positions."""
        found: list[Difference] = []
        async with first.audit() as old:
            marks = await old.marks()
            await self.reach({number: mark.position for number, mark in marks.items()})
            async with self._second.audit() as new:
                for tp, fold in self.folds.items():
                    mark = marks.get(tp.partition)
                    if mark is not None and len(found) < DIFFERENCES_MAX:
                        found += [each async for each in _first(_differences(tp.partition, mark, fold.mark, old, new))]
        return found[:DIFFERENCES_MAX]

    async def show_commands(self) -> None:
        """Commands that have not become runs: of all that the topic still holds."""
        topic, partitions = self._settings.topics.trigger, self._settings.workflow_partitions
        tps = [TP(topic, number) for number in range(partitions)]
        begins, ends = await self._reader.begin_offsets(tps), await self._reader.end_offsets(tps)
        for tp in tps:
            position = 0
            async for records in self._reader.read(tp, begins[tp], ends[tp]):
                rows = [pending_row(each, tp, partitions, self._settings.workflow_json_depth_max) for each in records]
                end = records[-1].offset + 1
                await self._second.apply_pending(tp.partition, position, end, [row for row in rows if row is not None])
                position = end


async def _first(differences: AsyncIterator[Difference]) -> AsyncIterator[Difference]:
    count = 0
    async for each in differences:
        yield each
        count += 1
        if count == DIFFERENCES_MAX:
            return


async def _differences(partition: int, stored: Mark, folded: Mark, old: Audit, new: Audit) -> AsyncIterator[Difference]:
    """Of one partition. Tables of another log are not compared row by row."""
    marks = list(mark_differences(partition, stored, folded))
    if stored.cluster_id != folded.cluster_id:
        marks.append(difference(f"partition {partition}", "cluster_id", stored.cluster_id, folded.cluster_id))
    for each in marks:
        yield each
    if marks:
        return
    async for run_ids in new.run_ids(partition):
        for at in range(0, len(run_ids), RUNS_AT_ONCE):
            ids = run_ids[at : at + RUNS_AT_ONCE]
            ours, theirs = await old.runs(ids), await new.runs(ids)
            our_history, their_history = await old.history(ids), await new.history(ids)
            for run_id in ids:
                for each in row_differences(run_id, ours.get(run_id), theirs.get(run_id)):
                    yield each
                events = [trace(row) for row in their_history.get(run_id, [])]
                for each in history_differences(run_id, our_history.get(run_id, []), events):
                    yield each
    async for run_ids in old.run_ids(partition):
        there = await new.runs(run_ids)
        for run_id in run_ids:
            if run_id not in there:
                yield difference(run_id, "row", "a row", None)
