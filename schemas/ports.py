"""What the parts that decide and fold ask of Kafka, and what Kafka's side asks of them. Types only: any log can stand behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol


class TP(NamedTuple):
    """One partition of a topic; equal to the pairs that Kafka's clients use."""

    topic: str
    partition: int


class Record(Protocol):
    """One record as it stands in a partition."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch; the broker's append time on topics that say so."""

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Assignment:
    """A handler's answer to the partitions that it was given.

    `positions`: offset to read next, for partitions whose state is in memory; the others start at the group's committed
    offset, or at the start of the partition when nothing was committed.
    `paused`: partitions that stay silent until `Group.resume`; their position may come later, by `Group.seek`.
    """

    positions: Mapping[TP, int] = field(default_factory=dict)
    paused: frozenset[TP] = frozenset()


class BatchHandler(Protocol):
    """What a member of a consumer group does with its partitions. All three are called on the main event loop.
    What one of them raises ends the process."""

    async def assigned(self, assignment: frozenset[TP], generation: int) -> Assignment:
        """Called after every join of the group, before any record flows; answers at once, long loads go to tasks."""

    async def revoked(self) -> None:
        """The whole assignment is about to end; commits inside are still accepted. Cut off after 2 s."""

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        """Records of one partition in offset order, starting where the last batch or seek left off.
        An offset may be missing only where the log itself has a hole."""


class Group(Protocol):
    """The membership that a handler steers. Nothing here raises for a partition that is no longer assigned."""

    @property
    def assignment(self) -> frozenset[TP]: ...

    @property
    def generation(self) -> int:
        """The group's generation of the present assignment; -1 between two assignments."""

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        """Commit the next offsets to read. False: the generation is gone, or a partition is not ours (the others were
        committed). An offset never goes back within an assignment. While the broker is away it waits: run it in a task."""

    async def confirm(self, tp: TP) -> bool:
        """Have the group accept a commit under the present generation: the proof that the partition is still ours.
        The safe offset stays as it is. While the broker is away it waits."""

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        """The group's offsets, None where nothing was committed. Raises BrokerAway after a bounded time."""

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Offset after the last record. Raises BrokerAway after a bounded time."""

    def pause(self, tps: Iterable[TP]) -> None:
        """Stop handing over records. Lasts until `resume`, across rebalances as well."""

    def resume(self, tps: Iterable[TP]) -> None: ...

    def seek(self, offsets: Mapping[TP, int]) -> None:
        """The next batch of each partition starts there; what was fetched before is not handed over any more."""

    def position(self, tp: TP) -> int | None:
        """Offset of the next record to hand over; None when not assigned or not known yet."""


class Reader(Protocol):
    """Reading without a group. Every call ends in bounded time, with BrokerAway when Kafka does not answer."""

    async def cluster_id(self) -> str: ...

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]: ...

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]: ...

    async def read_record(self, tp: TP, offset: int) -> Record | None:
        """The record at exactly this offset; None when there is none (outside the partition, or a hole)."""

    def read(self, tp: TP, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        """All records with start <= offset < end, in order, in batches."""


Done = Callable[[int | None, Exception | None], None]
"""Told once, on the loop: (offset of the last record, None) when the broker has all of it, else (None, the reason)."""


class Producer(Protocol):
    """An idempotent producer that is used until its first trouble and then replaced by a new one."""

    @property
    def lost(self) -> bool:
        """A send failed or missed its deadline: outcomes are unknown, no more sends are taken."""

    @property
    def has_room(self) -> bool:
        """False past the bound of what is buffered: stop taking work until `room` returns."""

    async def room(self) -> None: ...

    def send(self, topic: str, partition: int, key: bytes | None, value: bytes | None, done: Done) -> None:
        """Append one record. Raises TooLarge at once for a record that can never be written."""

    def send_many(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None]], done: Done
    ) -> None:
        """Append (key, value) records of one partition, in order; other senders' records may stand between them."""

    async def flush(self, bound_s: float) -> bool:
        """Wait until nothing is outstanding; False when the bound passed or the producer was lost."""

    async def drop(self, bound_s: float) -> None:
        """End it within the bound; nothing that it carried is sent after that. Outstanding sends are told that they are unknown."""
