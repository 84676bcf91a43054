"""The fold of one partition of `workflow.events` into row changes. Pure: records in, rows out; stores and Kafka stand elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import orjson

from projections.rows import TEXT_CHARS_MAX, clean_text, unshowable
from schemas import rule
from schemas.events import Envelope, decode
from schemas.identity import digest
from schemas.ports import Record
from schemas.run import EVOLVE_VERSION, Run, extend
from schemas.store import Batch, HistoryRow, Mark, RunRow, Tip
from schemas.views import RunView, run_view

NEVER_SAVED: Final = 0
"""State version of a run whose state cannot be written: it is folded from its history instead."""


class Read(NamedTuple):
    """A record with its envelope, None when it is unreadable."""

    offset: int
    at_ms: int
    value: bytes
    envelope: Envelope | None


def read(records: Iterable[Record]) -> list[Read]:
    """Decode records: the part of the work that needs no state."""
    return [Read(record.offset, record.timestamp, record.value or b"", decode(record.value)) for record in records]


class _Touched:
    """A run that the batch changes."""

    __slots__ = ("first_offset", "last_offset", "run")

    def __init__(self, run: Run, first_offset: int | None) -> None:
        self.run, self.first_offset, self.last_offset = run, first_offset, 0


class PartitionFold:
    """A partition up to `position`: its epoch and all its unfinished runs.

    `take` records in offset order, then collect their `batch`; the next `take` comes after the store has applied it,
    because from then on the store alone remembers the runs that ended.
    """

    def __init__(
        self, partition: int, partitions: int, cluster_id: str, mark: Mark | None = None, runs: Iterable[Run] = ()
    ) -> None:
        self.partition, self.partitions, self.cluster_id = partition, partitions, cluster_id
        self.position = mark.position if mark else 0
        self.epoch = mark.epoch if mark else 0
        self.digest = mark.digest if mark else None
        self.runs = {run.id: run for run in runs}
        self._start = self.position
        self._ended: set[str] = set()
        self._touched: dict[str, _Touched] = {}
        self._history: list[HistoryRow] = []
        self._orphans: Counter[str] = Counter()

    @property
    def mark(self) -> Mark:
        """Where the fold stands."""
        return Mark(self.position, self.epoch, self.digest, self.cluster_id)

    def unknown(self, reads: Iterable[Read]) -> set[str]:
        """Ids of runs that are not in memory: the store must say whether they have ended, or never began."""
        runs = self.runs
        return {
            envelope["subject"]
            for _, _, _, envelope in reads
            if envelope is not None and envelope["subject"] not in runs and not rule.is_taken(envelope)
        }

    def take(self, reads: Sequence[Read], tips: Mapping[str, Tip]) -> None:
        """Fold the records that follow. `tips`: of all `unknown` runs that have had an event."""
        for offset, at_ms, value, envelope in reads:
            assert offset == self.position, (
                f"offset {offset} is not the next of partition {self.partition}, {self.position}"
            )
            self.position = offset + 1
            orphan = self._take(offset, at_ms, value, envelope, tips)
            if orphan is not None:
                self._orphans[orphan] += 1
        if reads:
            self.digest = digest(reads[-1].value)

    def _take(
        self, offset: int, at_ms: int, value: bytes, envelope: Envelope | None, tips: Mapping[str, Tip]
    ) -> str | None:
        if envelope is None:
            return "unreadable"
        if rule.is_taken(envelope):
            if not rule.takes(envelope, self.partition, self.epoch):
                return "lost take"
            self.epoch = envelope["epoch"]
            return None
        run_id: str = envelope["subject"]
        run = self.runs.get(run_id)
        if run is None:
            orphan = self._first(envelope, tips.get(run_id))
            if orphan is not None:
                return orphan
            run = self.runs[run_id] = Run(run_id)
        else:
            orphan = rule.orphaned(envelope, self.epoch, run.seq, run.tip, False)
            if orphan is not None:
                return orphan
        self._extend(run, offset, envelope, value)
        self._history.append(HistoryRow(run_id, run.seq, clean_text(envelope["type"]), offset, at_ms, value))
        return None

    def _first(self, envelope: Envelope, tip: Tip | None) -> str | None:
        """Why this event of a run that is not in memory is no fact; None: it begins the run."""
        ended = envelope["subject"] in self._ended
        if tip is not None and not ended:
            assert tip.done, f"run {envelope['subject']} is unfinished in the store and not in the fold"
            ended = True
        orphan = rule.orphaned(envelope, self.epoch, 0, None, ended)
        if orphan is None and not rule.at_home(envelope, self.partition, self.partitions):
            return "not at home"
        return orphan

    def _extend(self, run: Run, offset: int, envelope: Envelope, value: bytes) -> None:
        touched = self._touched.get(run.id)
        if touched is None:
            touched = self._touched[run.id] = _Touched(run, offset if run.seq == 0 else None)
        touched.last_offset = offset
        extend(run, envelope, digest(value))
        if run.phase == "done":
            del self.runs[run.id]
            self._ended.add(run.id)

    def batch(self) -> Batch:
        """What the records taken since the last batch come to."""
        start, self._start = self._start, self.position
        touched, self._touched = self._touched, {}
        history, self._history = self._history, []
        orphans, self._orphans = self._orphans, Counter()
        self._ended = set()
        rows = [_row(self.partition, each) for each in touched.values()]
        return Batch(self.partition, start, self.mark, rows, history, orphans)


def _row(partition: int, touched: _Touched) -> RunRow:
    run = touched.run
    done = run.phase == "done"
    state, version = (None, EVOLVE_VERSION) if done else _state(run)
    view, reason = _view(run)
    return RunRow(
        run.id,
        partition,
        touched.first_offset,
        touched.last_offset,
        run.seq,
        run.tip or "",
        done,
        state,
        version,
        reason,
        view,
    )


def _state(run: Run) -> tuple[bytes, int]:
    try:
        return run.dump(), EVOLVE_VERSION
    except orjson.JSONEncodeError:
        return b"", NEVER_SAVED


def _view(run: Run) -> tuple[RunView | None, str | None]:
    """What is shown of the run and why it is set aside; no view where its columns must stand still."""
    try:
        view = run_view(run)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return None, clean_text(run.set_aside or f"it cannot be shown: {type(error).__name__} {error}")
    problem = unshowable(view)
    if problem is not None:
        return None, clean_text(run.set_aside or problem)
    if run.set_aside is not None:
        view["set_aside"] = clean_text(run.set_aside)
    return view, view["set_aside"]


def refold(run_id: str, values: Iterable[bytes]) -> Run:
    """A run from the bytes of its whole history, for a state that another version of `evolve` has saved."""
    run = Run(run_id)
    for value in values:
        envelope = decode(value)
        assert envelope is not None, f"the history of run {run_id} holds a record that is no event"
        extend(run, envelope, digest(value))
    return run


__all__ = ["TEXT_CHARS_MAX", "PartitionFold", "Read", "read", "refold"]
