"""For a store in memory there is no projector: the process folds the topics itself, from their first records on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from typing import Final, Protocol

from projections.feed import fold_records
from projections.fold import PartitionFold
from projections.intake import BATCH_BYTES_MAX, Intake
from projections.pending import pending_row
from schemas.errors import BrokerAway
from schemas.ports import TP, Record
from schemas.settings import Settings
from schemas.store import Store

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5


class Source(Protocol):
    """The topics as they grow. Both raise BrokerAway when Kafka does not answer."""

    def follow(self, positions: Mapping[TP, int]) -> AsyncIterator[tuple[TP, Sequence[Record]]]:
        """All records from the given offsets on, in the order of each partition, for ever."""
        ...

    async def end_offsets(self, tps: Iterable[TP]) -> Mapping[TP, int]: ...


class Follower:
    """Folds events and commands into the store for as long as `run` runs; `level` says when what stood there is in it."""

    def __init__(self, settings: Settings, store: Store, source: Source) -> None:
        self._settings, self._store, self._source = settings, store, source
        topics, numbers = settings.topics, range(settings.workflow_partitions)
        self._events = {TP(topics.events, number): Intake(TP(topics.events, number)) for number in numbers}
        self._folds = {tp: PartitionFold(tp.partition, settings.workflow_partitions, "") for tp in self._events}
        self._commands = {TP(topics.trigger, number): 0 for number in numbers}
        self._written = dict.fromkeys(self._events, 0)
        self.waits: str | None = None
        """why nothing comes: Kafka is away"""
        self._moved = asyncio.Event()

    def positions(self) -> dict[TP, int]:
        """Of every partition, the offset below which everything is in the store."""
        return self._written | self._commands

    async def run(self) -> None:
        """Follow until cancelled. Raises LogMismatch when the log is not the one that was followed."""
        while True:
            stream = self._source.follow(self.positions())
            try:
                async for tp, records in stream:
                    self.waits = None
                    if records and not await self._take(tp, records):
                        break
            except BrokerAway as away:
                if self.waits is None:
                    log.warning("the topics are not followed now: %s", away)
                self.waits = away.message
                await asyncio.sleep(RETRY_S)
            finally:
                if isinstance(stream, AsyncGenerator):  # it holds a connection
                    await stream.aclose()

    async def _take(self, tp: TP, records: Sequence[Record]) -> bool:
        """Fold records; False when something before them is missing and reading has to go back."""
        if tp in self._commands:
            await self._show(tp, records)
            return True
        sound = self._events[tp].add(records)
        waiting = self._events[tp].merged(len(records), BATCH_BYTES_MAX)
        if waiting:
            await self._store.apply(await fold_records(self._folds[tp], self._store, waiting))
            self._written[tp] = self._folds[tp].position
            self._moved.set()
        return sound

    async def _show(self, tp: TP, records: Sequence[Record]) -> None:
        """Commands that are no runs yet."""
        settings, position = self._settings, self._commands[tp]
        depth_max = settings.workflow_json_depth_max
        fresh = [record for record in records if record.offset >= position]
        rows = [pending_row(record, tp, settings.workflow_partitions, depth_max) for record in fresh]
        if fresh:
            end = fresh[-1].offset + 1
            await self._store.apply_pending(tp.partition, position, end, [row for row in rows if row is not None])
            self._commands[tp] = end

    async def level(self) -> None:
        """Wait until every event that stood in the log at the call is in the store. Raises BrokerAway."""
        ends = await self._source.end_offsets(self._events)
        while any(self._written[tp] < end for tp, end in ends.items()):
            self._moved.clear()
            await self._moved.wait()
