"""The fold of one partition of `workflow.events` into row changes. Pure: records in, rows out; stores and Kafka stand elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Final

import orjson

from projections.rows import clean_text
from schemas import rule
from schemas.errors import HistoryDamaged
from schemas.events import PARTITION_TAKEN, SHAPES, Envelope, decode
from schemas.identity import RUN_ID, digest
from schemas.ports import Record
from schemas.run import EVOLVE_VERSION, Run, extend
from schemas.store import Batch, Clock, HistoryRow, Mark, RunRow, Tip
from schemas.views import run_view

_WAITS: Final = "waits"
_NO_CLOCKS: Final[Mapping[str, Clock]] = {}
NEVER_SAVED: Final = 0
"""State version of a run whose state cannot be written: it is folded from its history instead."""
STATES_BYTES_MAX: Final = 16 * 1024 * 1024
"""States of unfinished runs, in rows made at a time."""


class _Touched:
    """A run that the batch changes."""

    __slots__ = ("clock", "first_offset", "last_offset", "run")

    def __init__(self, run: Run, clock: Clock, first_offset: int | None) -> None:
        self.run, self.clock, self.first_offset, self.last_offset = run, clock, first_offset, 0


class PartitionFold:
    """A partition up to `position`: its epoch and all its unfinished runs.

    `take` records in offset order, then collect their `batch`; the next `take` comes after the store has applied it,
    because from then on the store alone remembers the runs that ended. Within one transaction several `part`s may do for it.
    """

    def __init__(
        self,
        partition: int,
        partitions: int,
        cluster_id: str,
        mark: Mark | None = None,
        runs: Iterable[Run] = (),
        clocks: Mapping[str, Clock] = _NO_CLOCKS,
    ) -> None:
        """`runs` and `clocks` of the unfinished ones are those of the store that stands at `mark`."""
        self.partition, self.partitions, self.cluster_id = partition, partitions, cluster_id
        self.position = mark.position if mark else 0
        self.epoch = mark.epoch if mark else 0
        self.digest = mark.digest if mark else None
        self.generation = mark.generation if mark else 0
        self.runs = {run.id: run for run in runs}
        self._clocks = dict(clocks)
        self.asks = ""
        """the run of which `take` must be told before it can go on"""
        self.start = self.position
        """where the store stands: the position of the last batch or part"""
        self._ended: set[str] = set()
        self._finished: list[_Touched] = []
        self._touched: dict[str, _Touched] = {}
        self._rows: list[RunRow] = []
        self._history: list[HistoryRow] = []
        self._orphans: Counter[str] = Counter()

    @property
    def mark(self) -> Mark:
        """Where the fold stands."""
        return Mark(self.position, self.epoch, self.digest, self.cluster_id, self.generation)

    def unknown(self, records: Iterable[Record]) -> set[str]:
        """Ids of runs that the records may begin, by their keys: the store must say whether they are new."""
        runs, ids = self.runs, set()
        for key in {record.key for record in records}:
            run_id = "" if key is None else key.decode("ascii", "replace")
            if run_id not in runs and RUN_ID.match(run_id):
                ids.add(run_id)
        return ids

    def take(self, records: Sequence[Record], tips: Mapping[str, Tip | None]) -> int:
        """Fold the records that follow; how many were taken.

        `tips` holds what the store said of `unknown` runs, None for one that has had no event. A record's key proves
        nothing: the fold stops before one that may begin a run about which it was told nothing, `asks` then names it.
        """
        taken = 0
        for record in records:
            assert record.offset == self.position, f"offset {record.offset} where {self.position} is next"
            orphan = self._take(record, record.value or b"", tips)
            if orphan is _WAITS:
                break
            if orphan is not None:
                self._orphans[orphan] += 1
            self.position += 1
            taken += 1
        if taken:
            self.digest = digest(records[taken - 1].value or b"")
        return taken

    def _take(self, record: Record, value: bytes, tips: Mapping[str, Tip | None]) -> str | None:
        """Fold one record; why it is an orphan or waits, None for a fact."""
        envelope = decode(value)
        if envelope is None:
            return "unreadable"
        type_ = envelope["type"]
        if type_ == PARTITION_TAKEN:
            return self._taken(envelope)
        run_id: str = envelope["subject"]
        run = self.runs.get(run_id)
        if run is None:
            orphan = self._first(envelope, run_id, tips)
            if orphan is not None:
                return orphan
            run = self.runs[run_id] = Run(run_id)
        else:
            orphan = rule.orphaned(envelope, self.epoch, run.seq, run.tip, False)
            if orphan is not None:
                return orphan
        offset = record.offset
        touched = self._touched.get(run_id)
        if touched is None:
            clock = self._clocks.get(run_id)
            if clock is None:
                clock = self._clocks[run_id] = Clock(record.timestamp, None, record.timestamp)
            touched = self._touched[run_id] = _Touched(run, clock, offset if run.seq == 0 else None)
        touched.last_offset = offset
        extend(run, envelope, digest(value))
        touched.clock.tick(record.timestamp, run.status)
        if run.phase == "done":
            del self.runs[run_id], self._clocks[run_id]
            self._ended.add(run_id)
            self._finished.append(self._touched.pop(run_id))
        if type_ not in SHAPES:
            type_ = clean_text(type_)
        self._history.append(HistoryRow(run_id, run.seq, type_, offset, record.timestamp, value))
        return None

    def _taken(self, envelope: Envelope) -> str | None:
        if not rule.takes(envelope, self.partition, self.epoch):
            return "lost take"
        self.epoch = envelope["epoch"]
        return None

    def _first(self, envelope: Envelope, run_id: str, tips: Mapping[str, Tip | None]) -> str | None:
        """Why this event of a run that is not in memory is no fact or waits; None when it begins the run."""
        tip = tips.get(run_id)
        ended = tip is not None or run_id in self._ended
        orphan = rule.orphaned(envelope, self.epoch, 0, None, ended)
        if orphan is not None:
            return orphan
        if not rule.at_home(envelope, self.partition, self.partitions):
            return "not at home"
        if run_id in tips:
            return None
        self.asks = run_id
        return _WAITS

    def prepare(self, runs_max: int, *, finished: bool = False) -> bool:
        """Make the rows of up to so many of the runs that changed, or of those among them that ended, and of no more than
        STATES_BYTES_MAX; whether there are more. What is left is done by `batch` and, of the runs that ended, by `part`."""
        room = max(0, runs_max - len(self._finished))
        done, self._finished = self._finished[:runs_max], self._finished[runs_max:]
        self._rows += [_row(self.partition, touched) for touched in done]
        size = 0
        for name in () if finished else list(islice(self._touched, room)):
            row = _row(self.partition, self._touched.pop(name))
            self._rows.append(row)
            size += len(row.state or b"")
            if size >= STATES_BYTES_MAX:
                break
        return bool(self._finished or (self._touched and not finished))

    def batch(self) -> Batch:
        """What the records taken since the last batch or part come to, and the rows that the parts before it left out."""
        while self.prepare(len(self._finished) + len(self._touched)):
            pass
        return self._collect()

    def part(self) -> Batch:
        """As `batch`, but for the rows of unfinished runs that were not prepared. Within the same transaction other parts or
        a batch must bring them: a run whose events stand apart is then written once."""
        self.prepare(len(self._finished), finished=True)
        return self._collect()

    def _collect(self) -> Batch:
        start, self.start, self._ended = self.start, self.position, set()
        rows, self._rows = self._rows, []
        history, self._history = self._history, []
        orphans, self._orphans = self._orphans, Counter()
        return Batch(self.partition, start, self.mark, rows, history, orphans, generation=self.generation)


def _row(partition: int, touched: _Touched) -> RunRow:
    return run_row(partition, touched.run, touched.clock, touched.first_offset, touched.last_offset)


def run_row(partition: int, run: Run, clock: Clock, first: int | None, last: int) -> RunRow:
    """The row of a run whose first event of this batch, if the batch began it, and last event stand at these offsets."""
    done = run.phase == "done"
    state, version = (None, EVOLVE_VERSION) if done else _state(run)
    reason = None if run.set_aside is None else clean_text(run.set_aside)
    ended_ms = clock.last_ms if done else None
    times = clock.began_ms, clock.started_ms, ended_ms, clock.last_ms
    tip = run.tip or ""
    return RunRow(run.id, partition, first, last, run.seq, tip, done, state, version, reason, *times, run_view(run))


def _state(run: Run) -> tuple[bytes, int]:
    try:
        return run.dump(), EVOLVE_VERSION
    except orjson.JSONEncodeError:
        return b"", NEVER_SAVED


def _event(run_id: str, value: bytes) -> Envelope:
    envelope = decode(value)
    if envelope is None:
        raise HistoryDamaged(run_id=run_id)
    return envelope


def refold(run_id: str, values: Iterable[bytes]) -> Run:
    """A run from the bytes of its whole history, for a state that another version of `evolve` has saved. Raises HistoryDamaged."""
    run = Run(run_id)
    for value in values:
        extend(run, _event(run_id, value), digest(value))
    return run


def ending(run_id: str, value: bytes) -> Run:
    """A run that has ended from its last event alone: how and when it ended, and nothing else. Raises HistoryDamaged."""
    envelope, run = _event(run_id, value), Run(run_id)
    run.created_at = envelope["time"]  # it has begun, at some time before
    extend(run, envelope, digest(value))
    return run


class Retelling:
    """A run, event by event from its history rows, oldest first."""

    def __init__(self, partition: int, run_id: str) -> None:
        self.partition, self.run = partition, Run(run_id)
        self.clock: Clock | None = None
        self._first, self._last = 0, 0

    def take(self, row: HistoryRow) -> None:
        """The next event. Raises HistoryDamaged, also where one before it is missing."""
        self.check_next(row)
        extend(self.run, _event(self.run.id, row.value), digest(row.value))
        if self.clock is None:
            self.clock, self._first = Clock(row.at_ms, None, row.at_ms), row.offset
        self.clock.tick(row.at_ms, self.run.status)
        self._last = row.offset

    def check_next(self, row: HistoryRow) -> None:
        """Raises HistoryDamaged where the row, which is not taken, is not that of the event that follows."""
        if row.seq != self.run.seq + 1:
            raise HistoryDamaged(run_id=self.run.id)

    def check_end(self, seq: int) -> None:
        """Raises HistoryDamaged where the last rows of a run with so many events were missing."""
        if self.run.seq < seq:
            raise HistoryDamaged(run_id=self.run.id)

    def row(self) -> RunRow:
        """The run's row, as the batch that began it would have it; there was an event."""
        assert self.clock is not None, f"the history of run {self.run.id} is empty"
        return run_row(self.partition, self.run, self.clock, self._first, self._last)
