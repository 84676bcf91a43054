"""The store's port: what engine, projector and API ask of the read tables. One contract suite holds all stores to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from schemas.position import Place, Position
from schemas.run import Run
from schemas.views import RunView, Status


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the tables of a partition of `workflow.events` stand. `digest`: of the value of the record before `position`,
    None at 0; `generation`: raised when rows were changed at the same position."""

    position: int
    epoch: int
    digest: str | None
    cluster_id: str
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Tip:
    """The last event of a run: kept for ever."""

    seq: int
    digest: str
    done: bool


@dataclass(slots=True)
class Snapshot:
    """All unfinished runs of a partition and where the tables stood, one read transaction. `mark` None: nothing stored yet."""

    mark: Mark | None
    runs: list[Run]


class SnapshotStore(Protocol):
    """What the engine asks. Raises StoreAway when the store does not answer in time."""

    remembers: bool
    """False: there is no shared store (memory); the engine folds from the log's start and remembers finished runs itself."""

    async def snapshot(self, partition: int) -> Snapshot: ...

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        """Position of the partition's tables and the tips of those runs that have had an event, one read transaction."""
        ...

    async def tips_of(self, wanted: Mapping[int, Collection[str]]) -> Mapping[int, tuple[int, Mapping[str, Tip]]]:
        """The same for several partitions at once: partition → run ids, partition → answer."""
        ...


@dataclass(slots=True)
class Clock:
    """When a run began, first ran and last moved, by the log's time in ms since 1970. It never goes back: an event that a
    broker with a stepped clock has dated earlier counts as of the one before it."""

    began_ms: int
    started_ms: int | None
    last_ms: int

    def tick(self, at_ms: int, status: Status) -> None:
        """An event was logged, after which the run has this status."""
        self.last_ms = max(self.last_ms, at_ms)
        if self.started_ms is None and status != "PENDING":
            self.started_ms = self.last_ms


class HistoryRow(NamedTuple):
    """A fact as it stands in the log. `value`: the record's value bytes, never re-serialised; `at_ms`: the log's time."""

    run_id: str
    seq: int
    type: str
    offset: int
    at_ms: int
    value: bytes


class RunRow(NamedTuple):
    """A run after a batch.

    `first_offset`: of its first event when the batch holds it, None when it stood before (the store keeps what it has).
    `state`: None when the run is finished. `set_aside`: why the run is set aside, None for a sound one; then the view
    stands still but for seq and reason. The times are the run's `Clock`, `ended_ms` None while it is unfinished.
    """

    run_id: str
    partition: int
    first_offset: int | None
    last_offset: int
    seq: int
    digest: str
    done: bool
    state: bytes | None
    state_version: int
    set_aside: str | None
    began_ms: int
    started_ms: int | None
    ended_ms: int | None
    last_ms: int
    view: RunView


@dataclass(frozen=True, slots=True)
class PendingRow:
    """A command that has not become a run yet. `place`: ("t", partition); `offset`: of its record."""

    run_id: str
    partition: int
    offset: int
    workflow_id: str
    version: int | None
    payload: bytes
    created_at: str


@dataclass(frozen=True, slots=True)
class Batch:
    """The outcome of folding one batch of one partition of `workflow.events`, written with its position in one transaction.

    `orphans`: how many records were no facts, by reason. `commands`: the position of the same partition of
    `workflow.trigger` moves (from, to) in the same transaction, because every command between has become a run.
    """

    partition: int
    start: int
    """position at which the tables must stand"""
    mark: Mark
    """where they stand afterwards"""
    runs: Sequence[RunRow]
    history: Sequence[HistoryRow]
    orphans: Mapping[str, int]
    commands: tuple[int, int] | None = None
    generation: int = 0
    """at which the tables must stand"""


class WriteStore(Protocol):
    """What the projector asks."""

    async def migrate(self) -> None:
        """Make the tables, or bring them to this version. Any number of processes may call it at once."""
        ...

    async def clocks(self, partition: int) -> Mapping[str, Clock]:
        """Of all unfinished runs of a partition, for whoever goes on folding it."""
        ...

    async def mark(self, partition: int) -> Mark | None:
        """Where the tables of the partition stand; None: nothing stored yet."""
        ...

    async def projection_version(self) -> int | None:
        """Which projection the rows are of (`projections.rows.PROJECTION_VERSION`); None where nothing stands yet."""
        ...

    async def apply(self, batch: Batch) -> None:
        """Write the batch. Raises StalePosition when the tables do not stand at `batch.start` (another projector was
        faster), and OtherProjection when another release made them."""
        ...

    async def apply_pending(self, partition: int, start: int, end: int, rows: Sequence[PendingRow]) -> None:
        """Move the position of `workflow.trigger` from `start` to `end`; rows of runs that exist are not kept, and of
        two rows with one run id the first stays. Raises StalePosition when the tables do not stand at `start`."""
        ...


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs a list shows; times are RFC 3339, bounds exclusive."""

    workflow_id: str | None = None
    status: Status | None = None
    created_after: str | None = None
    created_before: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it is shown. `place` and `offset`: its last event (or, PENDING, its command) is below this offset there."""

    view: RunView
    place: Place
    offset: int


class Standing(NamedTuple):
    """A run as a worker that took its partition now would have it; a finished one as its last event alone says.

    `at_ms`: when the log took its last event, which is below `offset` of its partition of `workflow.events`; `position`:
    where the tables of that partition stand.
    """

    run: Run
    at_ms: int
    offset: int
    position: int


class SetAside(NamedTuple):
    """A run that the projection could not fold: its columns stand still, its history goes on."""

    run_id: str
    partition: int
    seq: int
    reason: str


class ReadStore(Protocol):
    """What the API asks. Raises StoreAway when the store does not answer in time."""

    async def run(self, run_id: str) -> StoredRun | None: ...

    async def runs(self, where: RunFilter, *, after: tuple[str, str] | None, limit: int) -> Sequence[StoredRun]:
        """Newest first by (created_at, run_id); `after`: the pair of the last one seen."""
        ...

    async def runs_then(
        self, where: RunFilter, at_ms: int, *, after: tuple[str, str] | None, limit: int
    ) -> Sequence[StoredRun]:
        """The same as they were when the log's clock showed `at_ms`, the status of the filter being that of then."""
        ...

    async def counts(self, where: RunFilter, at_ms: int | None = None) -> Mapping[Status, int]:
        """How many runs have each status, now or when the log's clock showed `at_ms`; those that none has are left out.
        The filter's own status does not count."""
        ...

    async def events(
        self,
        run_id: str,
        *,
        order: Literal["asc", "desc"],
        before_seq: int | None,
        after_seq: int | None,
        types: Collection[str],
        limit: int,
    ) -> Sequence[HistoryRow]: ...

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        """As `SnapshotStore.tips`."""
        ...

    async def standing(self, run_id: str) -> Standing | None:
        """What decides about the run, one read transaction; None when it has had no event yet."""
        ...

    async def unfinished(self, workflow_id: str, *, limit: int) -> int:
        """How many runs of a workflow have not ended, waiting commands among them and those that are set aside not;
        at most `limit` are counted."""
        ...

    async def set_aside(self, after: str, *, limit: int) -> Sequence[SetAside]:
        """Runs that are set aside, by id, those after `after`."""
        ...

    async def count_set_aside(self) -> int: ...

    async def positions(self) -> Position:
        """How far all tables are: ("e", n) and ("t", n)."""
        ...

    async def now_s(self) -> float:
        """Seconds since 1970 by the store's clock, which is the same for all who ask."""
        ...

    async def close(self) -> None: ...


class Store(SnapshotStore, WriteStore, ReadStore, Protocol):
    """A whole store."""
