"""Kafka's side of the read side, in memory: a reader of the log, and a group that hands over what stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

from schemas.errors import BrokerAway, LogMismatch
from schemas.ports import TP, BatchHandler, Record
from schemas.settings import Settings
from tests.histories import Log, LogRecord


class FakeTopics:
    """The events of a `Log` and a list of commands per partition. A `schemas.ports.Reader` and a `follower.Source`."""

    def __init__(self, settings: Settings, log: Log, *, cluster: str = "cluster-1") -> None:
        self.settings, self.log, self.cluster = settings, log, cluster
        self.commands: list[list[LogRecord]] = [[] for _ in range(log.partitions)]
        self.begins: dict[TP, int] = {}
        self.away = False
        self.reads = 0

    @property
    def tps(self) -> frozenset[TP]:
        topics = self.settings.topics
        return frozenset(TP(topic, n) for topic in (topics.events, topics.trigger) for n in range(self.log.partitions))

    def records(self, tp: TP) -> list[LogRecord]:
        of = self.log.records if tp.topic == self.settings.topics.events else self.commands
        return of[tp.partition]

    def put_command(self, partition: int, value: bytes, *, hole: int = 0) -> LogRecord:
        """A command, after `hole` offsets that hold no record."""
        commands = self.commands[partition]
        offset = (commands[-1].offset + 1 if commands else 0) + hole
        commands.append(LogRecord(offset, 1_790_000_000_000, None, value))
        return commands[-1]

    def _answer(self) -> None:
        if self.away:
            raise BrokerAway(address="nowhere", reason="the test says so")

    async def cluster_id(self) -> str:
        self._answer()
        return self.cluster

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        self._answer()
        return {tp: self.begins.get(tp, 0) for tp in tps}

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        self._answer()
        return {tp: self.records(tp)[-1].offset + 1 if self.records(tp) else 0 for tp in tps}

    async def read_record(self, tp: TP, offset: int) -> Record | None:
        self._answer()
        return next((record for record in self.records(tp) if record.offset == offset), None)

    async def read(self, tp: TP, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        self._answer()
        if start < self.begins.get(tp, 0):
            raise LogMismatch(partition=tp.partition, topic=tp.topic, reason=f"it holds no offset {start}")
        self.reads += 1
        wanted = [record for record in self.records(tp) if start <= record.offset < end]
        for at in range(0, len(wanted), 37):
            yield wanted[at : at + 37]

    async def follow(self, positions: Mapping[TP, int]) -> AsyncIterator[tuple[TP, Sequence[Record]]]:
        at = dict(positions)
        while True:
            self._answer()
            for tp, position in at.items():
                fresh = [record for record in self.records(tp) if record.offset >= position][:50]
                if fresh:
                    at[tp] = fresh[-1].offset + 1
                    yield tp, fresh
            await asyncio.sleep(0.002)


class FakeGroup:
    """One member that owns everything. `pump` hands over what may flow."""

    def __init__(self, topics: FakeTopics, handler: BatchHandler) -> None:
        self.topics, self.handler = topics, handler
        self.assignment: frozenset[TP] = frozenset()
        self.generation = -1
        self.paused: set[TP] = set()
        self.next: dict[TP, int] = {}
        self.commits: list[Mapping[TP, int]] = []
        self.remembered: dict[TP, int | None] = {}
        """what it says was committed"""
        self.seeks: list[Mapping[TP, int]] = []
        self.lose: set[tuple[TP, int]] = set()
        """records that are passed over once each"""
        self.batch_records = 50

    async def join(self) -> None:
        self.generation += 1
        self.assignment = self.topics.tps
        answer = await self.handler.assigned(self.assignment, self.generation)
        self.paused |= answer.paused
        self.next = dict.fromkeys(self.assignment, 0) | dict(answer.positions)

    async def leave(self) -> None:
        await self.handler.revoked()
        self.assignment, self.next = frozenset(), {}

    def pump(self) -> int:
        """Hand over one batch of each partition that flows; how many records it was."""
        count = 0
        for tp in sorted(self.assignment - self.paused):
            records = [r for r in self.topics.records(tp) if r.offset >= self.next[tp]][: self.batch_records]
            kept = [r for r in records if (tp, r.offset) not in self.lose]
            self.lose -= {(tp, record.offset) for record in records}
            if kept:
                self.next[tp] = kept[-1].offset + 1
                self.handler.batch(tp, kept)
                count += len(kept)
        return count

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        self.commits.append(dict(offsets))
        return True

    async def confirm(self, tp: TP) -> bool:
        return tp in self.assignment

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        return {tp: self.remembered.get(tp) for tp in tps}

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return await self.topics.end_offsets(tps)

    def pause(self, tps: Iterable[TP]) -> None:
        self.paused.update(tps)

    def resume(self, tps: Iterable[TP]) -> None:
        self.paused.difference_update(tps)

    def seek(self, offsets: Mapping[TP, int]) -> None:
        self.seeks.append(dict(offsets))
        self.next.update({tp: offset for tp, offset in offsets.items() if tp in self.assignment})

    def position(self, tp: TP) -> int | None:
        return self.next.get(tp)
