"""A membership in a consumer group: where each partition goes on, what may flow, and commits that cannot harm.

All of it lives on the main loop. Kafka's client runs on a thread of its own behind `Link`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Protocol

from schemas.errors import LogMismatch, NotCoPartitioned
from schemas.ports import TP, Assignment, BatchHandler, Record
from schemas.settings import Settings

from .kafka import answering

log = logging.getLogger(__name__)

REVOKE_S = 2.0
"""Bound of a handler's `revoked`: the whole group's rebalance waits for the slowest member's."""

_ASK_S = 10.0


class Link(Protocol):
    """What the membership asks of the client behind it."""

    def seek(self, positions: Mapping[TP, tuple[int, int]]) -> None:
        """Move to (offset, serial): what is fetched from there on carries the serial."""

    def wake(self) -> None:
        """A running fetch looks again at what may flow."""

    async def commit(self, offsets: Mapping[TP, int], generation: int) -> bool:
        """True: the group accepted it under this generation. False: the generation is gone."""

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]: ...

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]: ...

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]: ...


class ConsumerGroup:
    """One member, through all its generations. The part above the line is for the handler, the part below for the transport."""

    def __init__(self, settings: Settings, name: str, copartitioned: frozenset[str], handler: BatchHandler) -> None:
        self.name = name
        self._settings = settings
        self._copartitioned = copartitioned
        self._handler = handler
        self._link: Link | None = None
        self._assignment: frozenset[TP] = frozenset()
        self._generation = -1
        self._next: dict[TP, int] = {}  # offset of the next record to hand over
        self._serials: dict[TP, int] = {}  # number of each partition's last seek
        self._numbers = count(1)
        self._safe: dict[TP, int] = {}  # highest offset to commit that this assignment knows of
        self._accepted: dict[TP, int] = {}  # what the group has accepted of it
        self._held: set[TP] = set()
        self._full: set[TP] = set()
        self._resumed = False  # Faust lets messages through
        self._positioned = False  # every assigned partition was moved to where it goes on
        self._revoking: asyncio.Future[None] | None = None
        self.active: frozenset[TP] = frozenset()
        """Partitions that may be fetched now; read by the client's thread."""

    @property
    def assignment(self) -> frozenset[TP]:
        return self._assignment

    @property
    def generation(self) -> int:
        return self._generation

    def position(self, tp: TP) -> int | None:
        return self._next.get(tp)

    def held(self) -> frozenset[TP]:
        """Partitions that are paused."""
        return frozenset(self._held)

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the next offsets to read; see `schemas.ports.Group`."""
        mine = {tp: offset for tp, offset in offsets.items() if tp in self._assignment}
        for tp, offset in mine.items():
            self._safe[tp] = max(offset, self._safe.get(tp, 0))
        todo = {tp: self._safe[tp] for tp in mine if self._safe[tp] > self._accepted.get(tp, -1)}
        if todo and not await self._commit(todo):
            return False
        return len(mine) == len(offsets)

    async def confirm(self, tp: TP) -> bool:
        """Prove by an accepted commit that the partition is ours; see `schemas.ports.Group`."""
        offset = self._safe.get(tp)
        if tp not in self._assignment or offset is None:
            return False
        return await self._commit({tp: offset})

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        async with answering(self._settings, _ASK_S):
            return await self._linked().committed(tps)

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        async with answering(self._settings, _ASK_S):
            return await self._linked().end_offsets(tps)

    def pause(self, tps: Iterable[TP]) -> None:
        self._held.update(tps)
        self._refresh()

    def resume(self, tps: Iterable[TP]) -> None:
        self._held.difference_update(tps)
        self._refresh()

    def seek(self, offsets: Mapping[TP, int]) -> None:
        mine = {tp: offset for tp, offset in offsets.items() if tp in self._assignment}
        self._next.update(mine)
        if self._positioned:  # else `place` will move there
            self._move(mine)

    # For the transport.

    def connect(self, link: Link) -> None:
        """A new client carries the membership from now on."""
        self._link = link
        self._end()

    async def rejoined(self, assignment: frozenset[TP], generation: int) -> None:
        """The group gave us `assignment`. Raises NotCoPartitioned."""
        self._end()
        self._check(assignment)
        self._assignment, self._generation = assignment, generation
        self._safe.clear()
        self._accepted.clear()
        answer = await self._handler.assigned(assignment, generation)
        if generation == self._generation:  # else it came too late, and was asked again
            self._take(answer)

    async def revoked(self) -> None:
        """The assignment ends; the handler has a bounded time to commit."""
        self._stop()
        if self._generation < 0:
            return
        if self._revoking is None:  # a stop may meet a rebalance
            self._revoking = asyncio.ensure_future(self._handler.revoked())
        task = self._revoking
        await asyncio.wait({task}, timeout=REVOKE_S)
        self._revoking = None
        self._end()
        if task.done():
            task.result()
        else:
            log.error("The handler did not let go of its partitions within %g s; it is cut off", REVOKE_S)
            task.cancel()

    def flow_resumed(self) -> None:
        """Messages pass again; what was on its way before is fetched once more."""
        self._resumed = True
        self._positioned = False

    def flow_stopped(self) -> None:
        self._stop()

    @property
    def must_place(self) -> bool:
        return self._resumed and not self._positioned and self._generation >= 0

    async def place(self) -> None:
        """Move every partition to where it goes on: the handler's position, else the group's, else the first record."""
        generation, link, tps = self._generation, self._linked(), self._assignment
        committed = await link.committed(tps) if tps else {}
        bare = [tp for tp in tps if committed.get(tp) is None]
        begins = await link.begin_offsets(bare) if bare else {}
        if generation != self._generation or not self._resumed:
            return
        for tp in tps:
            offset = committed.get(tp)
            base = begins[tp] if offset is None else offset
            self._safe[tp] = max(base, self._safe.get(tp, 0))
            self._next.setdefault(tp, base)
        self._positioned = True
        self._move({tp: self._next[tp] for tp in tps})
        self._refresh()

    def deliver(self, tp: TP, serial: int, records: Sequence[Record]) -> None:
        """Hand over what was fetched, unless it was fetched before a seek; what comes while paused is fetched again.
        Raises LogMismatch when the log no longer reaches to where we read on."""
        if serial != self._serials.get(tp):
            return
        if records[0].offset < self._next[tp]:  # the client silently went back to the first record
            reason = f"it ends before offset {self._next[tp]}, which was to be read next"
            raise LogMismatch(partition=tp.partition, topic=tp.topic, reason=reason)
        if tp in self._held:
            self._move({tp: self._next[tp]})
            return
        self._next[tp] = records[-1].offset + 1
        self._handler.batch(tp, records)

    def buffer_full(self, tp: TP) -> None:
        self._full.add(tp)
        self._refresh()

    def buffer_drop(self, tp: TP) -> None:
        self._full.discard(tp)
        self._refresh()

    def _check(self, assignment: frozenset[TP]) -> None:
        """Topics that go together must have the same partitions here."""
        by_topic = {
            topic: sorted(tp.partition for tp in assignment if tp.topic == topic) for topic in self._copartitioned
        }
        commands, events = by_topic.get(self._settings.topics.trigger), by_topic.get(self._settings.topics.events)
        if commands is not None and events is not None and commands != events:
            raise NotCoPartitioned(commands=commands, events=events, group=self.name)

    def _take(self, answer: Assignment) -> None:
        self._held.update(answer.paused)
        self._next = {tp: offset for tp, offset in answer.positions.items() if tp in self._assignment} | self._next

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        generation = self._generation
        if generation < 0 or not await self._linked().commit(offsets, generation):
            return False
        if generation == self._generation:
            for tp, offset in offsets.items():
                self._accepted[tp] = max(offset, self._accepted.get(tp, -1))
        return True

    def _move(self, positions: Mapping[TP, int]) -> None:
        numbered = {tp: (offset, next(self._numbers)) for tp, offset in positions.items()}
        self._serials.update({tp: serial for tp, (_, serial) in numbered.items()})
        self._linked().seek(numbered)

    def _refresh(self) -> None:
        """What may be fetched now."""
        before, flows = self.active, self._resumed and self._positioned
        self.active = self._assignment - self._held - self._full if flows else frozenset()
        if self.active - before and self._link is not None:
            self._link.wake()

    def _stop(self) -> None:
        self._resumed = self._positioned = False
        self._refresh()

    def _end(self) -> None:
        """No partition is ours. What the handler paused stays paused."""
        self._assignment, self._generation = frozenset(), -1
        self._next, self._serials = {}, {}
        self._full.clear()
        self._stop()

    def _linked(self) -> Link:
        assert self._link is not None, "build the app before using its group"
        return self._link
