"""One partition's way into the store: what waits is merged, folded and written, one batch at a time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from projections.checks import check_commands, check_log
from projections.feed import fold_records
from projections.fold import PartitionFold
from projections.intake import BATCH_BYTES_MAX, Intake
from projections.pending import HeldCommands
from projections.rows import check_projection
from schemas.errors import BrokerAway, LogMismatch, StalePosition, StoreAway, StoreRefused
from schemas.ports import TP, Group, Reader, Record
from schemas.settings import Settings
from schemas.store import Batch, Mark, Store

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5
RECHECK_S: Final = 5.0
"""A partition that was stopped is looked at again: a rebuild mends it."""
WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
"""Past it, or past two full batches of records, intake pauses."""
LINGER_S: Final = 0.25
LINGER_PER_RECORD_S: Final = 0.004
"""After a batch, the next one gathers for so long per record of the last: a busy partition writes fewer and larger ones."""
HOLD_S: Final = 0.1
"""A command that is no run by then is shown as PENDING."""
BUSY_HOLD_S: Final = 1.0
"""Held so much longer while events come: a busy worker gets to it in a moment, and a row would be written for nothing."""
HELD_COMMANDS_MAX: Final = 10_000
RECENT_MAX: Final = 20_000
"""Finished runs remembered, so that their commands need no row."""
STARTED: Final = "started"


@dataclass(frozen=True, slots=True)
class Parts:
    """What every lane works with. `counts`: runs that came into the tables, `STARTED` and by the status of their end."""

    settings: Settings
    store: Store
    reader: Reader
    group: Group
    counts: Counter[str]


class Lane:
    """Commands and events of one partition number. `run` loads, then folds, and starts over when others moved the tables.
    It ends with OtherProjection when another release made them: then this process is to leave its partitions to others."""

    def __init__(self, partition: int, parts: Parts) -> None:
        settings = parts.settings
        self.partition, self._parts = partition, parts
        self.events, self.commands = TP(settings.topics.events, partition), TP(settings.topics.trigger, partition)
        self.position = 0
        """where the tables stand, as far as this process knows"""
        self.waits: str | None = None
        """what the lane waits for: the store or Kafka is away"""
        self.stopped: str | None = None
        """why the lane stands still until somebody does something"""
        self.loaded = False
        self.known = False
        """`position` was asked of the store at some time"""
        self.orphans: Counter[str] = Counter()
        self.held = HeldCommands(
            self.commands,
            partitions=settings.workflow_partitions,
            depth_max=settings.workflow_json_depth_max,
            hold_s=HOLD_S,
        )
        self._intake = Intake(self.events)
        self._fold: PartitionFold | None = None
        self._recent: dict[str, None] = {}
        self._broken: LogMismatch | StalePosition | None = None
        self._not_before = 0.0
        self._wrote_at = float("-inf")
        self._wake = asyncio.Event()

    def receive(self, records: Sequence[Record]) -> None:
        """Records of the events, from the group."""
        if not self.loaded:
            return
        try:
            if not self._intake.add(records):
                log.warning("partition %d: offset %d was passed over, reading again", self.partition, self._intake.next)
                self._parts.group.seek({self.events: self._intake.next})
        except LogMismatch as broken:
            self._broken = broken
        self._flow()
        self._wake.set()

    def receive_commands(self, records: Sequence[Record]) -> None:
        """Records of the commands, from the group."""
        if not self.loaded:
            return
        if not self.held.hold(records, time.monotonic()):
            self._parts.group.seek({self.commands: self.held.next})
        self._flow()
        self._wake.set()

    def found(self, position: int) -> None:
        """The tables were found to stand here, which is less than was written: somebody has restored older ones."""
        if self.loaded:
            self._broken = StalePosition(partition=self.partition, found=position, wanted=self.position)
            self._wake.set()

    def _flow(self) -> None:
        """Intake goes on while there is room and somewhere to write to."""
        group, intake = self._parts.group, self._intake
        records_max = 2 * self._parts.settings.workflow_projector_batch_max
        full = intake.records > records_max or intake.bytes > WAITING_BYTES_MAX
        (group.pause if full or self.waits else group.resume)([self.events])
        (group.pause if len(self.held) > HELD_COMMANDS_MAX or self.waits else group.resume)([self.commands])

    async def run(self) -> None:
        """Bring the partition into the store until cancelled."""
        while True:
            try:
                await self._load()
                while True:
                    await self._step()
            except StalePosition as stale:
                log.info("partition %d is loaded again: %s", self.partition, stale)
                self._fold = None
                await asyncio.sleep(RETRY_S)
            except (StoreAway, BrokerAway) as away:
                await self._wait_for(away)
            except (LogMismatch, StoreRefused) as refused:
                await self._stand(refused)
            finally:
                self.loaded = False
                self._parts.group.pause([self.events, self.commands])

    async def _wait_for(self, away: StoreAway | BrokerAway) -> None:
        if self.waits is None:
            log.warning("partition %d waits: %s", self.partition, away)
        self.waits = away.message
        if self.loaded:
            self._flow()
        await asyncio.sleep(RETRY_S)

    async def _stand(self, refused: LogMismatch | StoreRefused) -> None:
        if self.stopped != refused.message:
            log.error("partition %d stands still: %s", self.partition, refused)
        self.stopped, self._fold = refused.message, None
        await asyncio.sleep(RECHECK_S)

    async def _load(self) -> None:
        """Find out where to go on, and whether the log is still the one that the tables know."""
        parts = self._parts
        check_projection(await parts.store.projection_version())
        mark = await parts.store.mark(self.partition)
        commands = (await parts.store.positions()).get(("t", self.partition), 0)
        cluster_id = await parts.reader.cluster_id()
        await check_log(parts.reader, self.events, mark, cluster_id)
        read_from = await check_commands(parts.reader, self.commands, commands)
        if self._fold is None or self._fold.mark != mark:
            self._fold = await self._fresh(mark, cluster_id)
        self.position, self.known = self._fold.position, True
        self._intake.begin(self.position)
        self.held.begin(commands, read_from)
        self._broken = self.waits = self.stopped = None
        self.loaded = True
        parts.group.seek({self.events: self.position, self.commands: read_from})
        self._flow()

    async def _fresh(self, mark: Mark | None, cluster_id: str) -> PartitionFold:
        began = time.monotonic()
        snapshot = await self._parts.store.snapshot(self.partition)
        if snapshot.mark != mark:
            found, wanted = (0 if each is None else each.position for each in (snapshot.mark, mark))
            raise StalePosition(partition=self.partition, found=found, wanted=wanted)
        clocks = await self._parts.store.clocks(self.partition)
        if snapshot.runs:
            took_s = time.monotonic() - began
            log.info("partition %d: %d unfinished runs loaded in %.2f s", self.partition, len(snapshot.runs), took_s)
        partitions = self._parts.settings.workflow_partitions
        return PartitionFold(self.partition, partitions, cluster_id, mark, snapshot.runs, clocks)

    async def _step(self) -> None:
        """Write what waits, or wait for something. Events come first: most commands are settled by them."""
        if self._broken is not None:
            raise self._broken
        now, due_s = time.monotonic(), self._due_s()
        if self._intake.records and self._not_before <= now:
            count = await self._write()
            self._wrote_at = now
            self._not_before = now + min(LINGER_S, count * LINGER_PER_RECORD_S)
            due_s = self._due_s()
        elif due_s is None or due_s > now or self._intake.records:
            await self._woken(self._not_before if self._intake.records else due_s)
            return
        if due_s is not None and due_s <= now:
            await self._write_commands()

    def _due_s(self) -> float | None:
        """When the first held command is to be written; None when there is none."""
        due_s = self.held.due_s()
        if due_s is None:
            return None
        busy = due_s - HOLD_S - self._wrote_at < BUSY_HOLD_S
        return due_s + BUSY_HOLD_S if busy else due_s

    async def _woken(self, at_s: float | None) -> None:
        """Wait for something to come, at most until then."""
        self._wake.clear()
        try:
            async with asyncio.timeout(None if at_s is None else at_s - time.monotonic()):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _write(self) -> int:
        """Write one batch of events, and move the commands that became runs; how many records it was."""
        assert self._fold is not None
        records = self._intake.merged(self._parts.settings.workflow_projector_batch_max, BATCH_BYTES_MAX)
        self._flow()
        batch = await fold_records(self._fold, self._parts.store, records)
        done = dict.fromkeys(row.run_id for row in batch.runs if row.done)
        settled = self.held.settled(lambda run_id: run_id in done or self._is_run(run_id))
        if settled > self.held.position:
            batch = replace(batch, commands=(self.held.position, settled))
        await self._apply(batch)
        self.held.moved(settled)
        self._remember(done)
        self.position = batch.mark.position
        self.orphans.update(batch.orphans)
        self._count(batch)
        return len(records)

    def _count(self, batch: Batch) -> None:
        self._parts.counts[STARTED] += sum(row.first_offset is not None for row in batch.runs)
        self._parts.counts.update(row.view["status"] for row in batch.runs if row.done)

    async def _apply(self, batch: Batch) -> None:
        """Write until it is written. A commit whose answer was lost shows in the mark when it is tried again."""
        store = self._parts.store
        while True:
            try:
                await store.apply(batch)
                break
            except StoreAway as away:
                await self._wait_for(away)
            except StalePosition:
                if await store.mark(self.partition) != batch.mark:
                    raise
                break
        if self.waits is not None:
            self.waits = None
            self._flow()

    async def _write_commands(self) -> None:
        """Show commands that have been waiting for their run."""
        end, rows = self.held.rows(time.monotonic(), self._is_run)
        await self._parts.store.apply_pending(self.partition, self.held.position, end, rows)
        self.held.moved(end)
        self._flow()

    def _is_run(self, run_id: str) -> bool:
        """Whether the run is in the tables, or will be with the batch that is being written."""
        return self._fold is not None and (run_id in self._fold.runs or run_id in self._recent)

    def _remember(self, done: Mapping[str, None]) -> None:
        self._recent.update(done)
        for run_id in list(islice(self._recent, max(0, len(self._recent) - RECENT_MAX))):
            del self._recent[run_id]
