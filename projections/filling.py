"""Partitions of the log into a second set of tables."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Final

from projections.checks import check_log
from projections.feed import fold_records
from projections.fold import PartitionFold
from projections.intake import BATCH_BYTES_MAX, Intake
from projections.pending import pending_row
from projections.tables import Tables
from schemas.errors import LogMismatch
from schemas.ports import TP, Reader, Record
from schemas.settings import Settings

Wrote = Callable[[], Awaitable[None]]
ROUNDS_MAX: Final = 20
LEVEL_EVENTS: Final = 1_000
"""So near to the end of the log the second set takes over; the projector brings the rest."""
RUNS_AT_ONCE: Final = 2_000
"""Unfinished runs written by one statement."""


class Filling:
    """Folds into `second`. `wrote` is awaited after each batch, and may raise to stop it."""

    def __init__(self, settings: Settings, second: Tables, reader: Reader, wrote: Wrote) -> None:
        self._settings, self._second, self._reader, self._wrote = settings, second, reader, wrote
        self.folds: dict[int, PartitionFold] = {}
        self._applied: dict[int, int] = {}

    @property
    def events(self) -> int:
        """That the second set holds."""
        return sum(self._applied.values())

    @property
    def folded(self) -> int:
        """For people who watch: as `events`, with those that are folded and not committed, but for the last one of these."""
        return sum(max(self._applied[number], fold.position - 1) for number, fold in self.folds.items())

    def events_of(self, number: int) -> TP:
        return TP(self._settings.topics.events, number)

    async def load(self, number: int) -> None:
        """Go on where the second set stands. Raises LogMismatch when that is not in the log."""
        tp, snapshot = self.events_of(number), await self._second.snapshot(number)
        cluster_id = await self._reader.cluster_id()
        await check_log(self._reader, tp, snapshot.mark, cluster_id)
        partitions = self._settings.workflow_partitions
        clocks = await self._second.clocks(number)
        self._applied[number] = snapshot.mark.position if snapshot.mark else 0
        self.folds[number] = PartitionFold(number, partitions, cluster_id, snapshot.mark, snapshot.runs, clocks)

    async def fold_to(self, number: int, end: int) -> None:
        """Fold a loaded partition up to `end`, which the log holds."""
        fold = self.folds[number]
        async with aclosing(self._batches(fold.position, self.events_of(number), end)) as batches:
            async for records in batches:
                await self._write(fold, records, batches)

    async def _batches(self, position: int, tp: TP, end: int) -> AsyncGenerator[Sequence[Record], None]:
        """The records from `position` up to `end`, a batch at a time."""
        intake, most = Intake(tp), self._settings.workflow_projector_batch_max
        intake.begin(position)
        async with aclosing(_closable(self._reader.read(tp, position, end))) as fetches:
            async for fetched in fetches:
                for at in range(0, len(fetched), most):
                    if not intake.add(fetched[at : at + most]):
                        raise LogMismatch(
                            partition=tp.partition, topic=tp.topic, reason=f"offset {intake.next} is missing"
                        )
                    if intake.records >= most or intake.bytes >= BATCH_BYTES_MAX:
                        yield intake.merged(most, BATCH_BYTES_MAX)
        if intake.records:
            yield intake.merged(most, BATCH_BYTES_MAX)

    async def _write(
        self, fold: PartitionFold, records: Sequence[Record] | None, batches: AsyncGenerator[Sequence[Record], None]
    ) -> None:
        """Write these records and some batches that follow in one transaction, and at its end the rows of unfinished runs:
        most will have ended by then."""
        left = self._second.batches_together
        parts = left > 1
        async with self._second.writing() as writing:
            while records is not None and left > 0:
                await writing.apply(await fold_records(fold, writing, records, part=parts))
                await self._wrote()
                left -= 1
                records = await anext(batches, None) if left > 0 else None
            while parts:
                parts = fold.prepare(RUNS_AT_ONCE)
                await writing.apply(fold.part())
                await self._wrote()
        self._applied[fold.partition] = fold.position

    async def ends(self) -> dict[int, int]:
        """Where the log of each partition ends, in the order of their numbers."""
        tps = [self.events_of(number) for number in range(self._settings.workflow_partitions)]
        ends = await self._reader.end_offsets(tps)
        return {tp.partition: ends[tp] for tp in tps}

    async def reach(self, positions: Mapping[int, int]) -> None:
        """Come to where other tables stand, or to the log's end where that is lower."""
        ends = await self.ends()
        for number, end in ends.items():
            if number not in self.folds:
                await self.load(number)
            await self.fold_to(number, min(positions.get(number, 0), end))

    async def follow(self, positions: Callable[[], Awaitable[Mapping[int, int]]]) -> None:
        """Come near to positions that move."""
        for _ in range(ROUNDS_MAX):
            before = self.events
            await self.reach(await positions())
            if self.events - before <= LEVEL_EVENTS:
                return

    async def show_commands(self) -> None:
        """Commands that have not become runs: of all that the topic still holds and the second set has not seen."""
        topic, partitions = self._settings.topics.trigger, self._settings.workflow_partitions
        tps = [TP(topic, number) for number in range(partitions)]
        begins, ends = await self._reader.begin_offsets(tps), await self._reader.end_offsets(tps)
        stands = await self._second.positions()
        for tp in tps:
            position = stands.get(("t", tp.partition), 0)
            async for records in self._reader.read(tp, max(position, begins[tp]), ends[tp]):
                rows = [pending_row(each, tp, partitions, self._settings.workflow_json_depth_max) for each in records]
                end = records[-1].offset + 1
                await self._second.apply_pending(tp.partition, position, end, [row for row in rows if row is not None])
                position = end
            if position < ends[tp]:  # what was there has been deleted, or was no command
                await self._second.apply_pending(tp.partition, position, ends[tp], [])


async def _closable(records: AsyncIterator[Sequence[Record]]) -> AsyncGenerator[Sequence[Record], None]:
    """A reader's generator, whose connection goes with it also when its reader stops half-way."""
    try:
        async for each in records:
            yield each
    finally:
        if isinstance(records, AsyncGenerator):
            await records.aclose()
