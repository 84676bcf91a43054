"""Two sets of rows, side by side: what differs, named."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Container, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from projections.rows import CHAIN, REFUSES, SHOWN, Shown
from schemas.identity import digest
from schemas.run import EVOLVE_VERSION
from schemas.store import HistoryRow, Mark

if TYPE_CHECKING:
    from projections.tables import Audit, StoredRow

DIFFERENCES_MAX: Final = 20
RUNS_AT_ONCE: Final = 500
_SHOWN_CHARS: Final = 300


class Difference(NamedTuple):
    """`run` is a run's id, or `partition N`. `stored`: what the tables say; `folded`: what the log says."""

    run: str
    column: str
    stored: str
    folded: str

    def __str__(self) -> str:
        return f"{self.run} {self.column}: the tables say {self.stored}, the log says {self.folded}"


NOTHING: Final = "nothing"


def difference(run: str, column: str, stored: object, folded: object) -> Difference:
    """One that says what people need: long values are cut."""
    return Difference(run, column, _text(stored), _text(folded))


def _text(value: object) -> str:
    text = NOTHING if value is None else value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"


def mark_differences(partition: int, stored: Mark, folded: Mark) -> Iterator[Difference]:
    for column in ("position", "epoch", "digest"):
        ours, theirs = getattr(stored, column), getattr(folded, column)
        if ours != theirs:
            yield difference(f"partition {partition}", column, ours, theirs)


def row_differences(
    run_id: str, stored: StoredRow | None, folded: StoredRow | None, before: Container[Shown] = ()
) -> Iterator[Difference]:
    """Column by column. States of an older fold cannot be compared. Where the store has refused the columns, they stand still:
    they must be among those that the run had `before`, or `folded` must have been refused, too."""
    if stored is None or folded is None:
        if stored is not folded:
            yield difference(run_id, "row", stored and "a row", folded and "a row")
        return
    refused = is_refused(stored) and (stored.shown in before or is_refused(folded))
    for column, ours, theirs in zip(CHAIN, stored.chain, folded.chain, strict=True):
        foreign = column.startswith("state") and 0 < stored.chain.state_version < EVOLVE_VERSION
        if ours != theirs and not foreign and not (refused and column == "set_aside"):
            yield difference(run_id, column, ours, theirs)
    if not refused:
        for column, ours, theirs in zip(SHOWN, stored.shown, folded.shown, strict=True):
            if ours != theirs:
                yield difference(run_id, column, ours, theirs)


def is_refused(row: StoredRow) -> bool:
    """Whether the store would not take the columns of this run."""
    return (row.chain.set_aside or "").startswith(REFUSES)


async def stray_differences(audit: Audit, beside: Audit | None = None) -> list[Difference]:
    """The first runs that have a history and no row, nor one in the tables that are beside these."""
    stray = await audit.stray_history()
    if beside is not None and stray:
        there = await beside.runs(stray)
        stray = [run_id for run_id in stray if run_id not in there]
    return [difference(run_id, "history", "events, but no row", "a row where there are events") for run_id in stray]


class Trace(NamedTuple):
    """What is kept of a history row in order to compare it: everything, the value as its digest."""

    seq: int
    type: str
    offset: int
    at_ms: int
    digest: str


def trace(row: HistoryRow) -> Trace:
    return Trace(row.seq, row.type, row.offset, row.at_ms, digest(row.value))


def history_differences(run_id: str, stored: Sequence[HistoryRow], folded: Sequence[Trace]) -> Iterator[Difference]:
    """Event by event."""
    rows: Mapping[int, Trace] = {row.seq: trace(row) for row in stored}
    for theirs in folded:
        ours = rows.get(theirs.seq)
        if ours != theirs:
            yield difference(run_id, f"history {theirs.seq}", ours and str(ours), str(theirs))
    known = {theirs.seq for theirs in folded}
    for seq in sorted(rows.keys() - known):
        yield difference(run_id, f"history {seq}", str(rows[seq]), None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs of the old tables beside those of the log: `equal`, `differing`, `missing` from the old tables, and `extra` there.

    `differences`: the first ones, of partitions and runs.
    """

    equal: int = 0
    differing: int = 0
    missing: int = 0
    extra: int = 0
    differences: tuple[Difference, ...] = ()

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Self:
        """From its JSON."""
        return cls(**{**saved, "differences": tuple(Difference(*each) for each in saved["differences"])})

    def told(self) -> dict[str, Any]:
        """As people and JSON are told of it."""
        return {**asdict(self), "differences": [each._asdict() for each in self.differences]}


async def compare_sets(old: Audit, new: Audit) -> Comparison:
    """Every row of two sets that stand at the same positions. Partitions of another log are not compared row by row."""
    count, found = Counter[str](), list[Difference]()
    stored, folded = await old.marks(), await new.marks()
    found += emptied(stored, folded)
    for partition in sorted(stored.keys() & folded.keys()):
        marks = whole_differences(partition, stored[partition], folded[partition])
        found += marks
        if marks:
            continue
        async for kind, differences in _by_run(partition, old, new):
            count[kind] += 1
            if len(found) < DIFFERENCES_MAX:
                found += differences
    stray = await stray_differences(old, new)
    found += stray
    count["extra"] += len(stray)
    first = tuple(found[:DIFFERENCES_MAX])
    return Comparison(count["equal"], count["differing"], count["missing"], count["extra"], first)


def emptied(stored: Mapping[int, Mark], folded: Mapping[int, Mark]) -> list[Difference]:
    """Partitions of which the log holds nothing any more: their rows are another log's."""
    gone = sorted(stored.keys() - folded.keys())
    return [difference(f"partition {number}", "position", stored[number].position, 0) for number in gone]


def whole_differences(partition: int, stored: Mark, folded: Mark) -> list[Difference]:
    """What makes the rows of a partition another log's, or of another moment."""
    found = list(mark_differences(partition, stored, folded))
    if stored.cluster_id != folded.cluster_id:
        found.append(difference(f"partition {partition}", "cluster_id", stored.cluster_id, folded.cluster_id))
    return found


async def _by_run(partition: int, old: Audit, new: Audit) -> AsyncIterator[tuple[str, list[Difference]]]:
    async for run_ids in new.run_ids(partition):
        for at in range(0, len(run_ids), RUNS_AT_ONCE):
            for each in await run_differences(run_ids[at : at + RUNS_AT_ONCE], old, new):
                yield each
    async for run_ids in old.run_ids(partition):
        there = await new.runs(run_ids)
        for run_id in run_ids:
            if run_id not in there:
                yield "extra", [difference(run_id, "row", "a row", None)]


async def run_differences(run_ids: Sequence[str], old: Audit, new: Audit) -> list[tuple[str, list[Difference]]]:
    """Of each run whether it is equal, differing, missing or extra, and in what."""
    ours, theirs = await old.runs(run_ids), await new.runs(run_ids)
    our_history, their_history = await old.history(run_ids), await new.history(run_ids)
    found = []
    for run_id in run_ids:
        stored, folded = ours.get(run_id), theirs.get(run_id)
        events = [trace(row) for row in their_history.get(run_id, [])]
        differences = [
            *row_differences(run_id, stored, folded),
            *history_differences(run_id, our_history.get(run_id, []), events),
        ]
        kind = "missing" if stored is None else "extra" if folded is None else "differing" if differences else "equal"
        found.append((kind, differences))
    return found
