"""Two sets of rows, side by side: what differs, named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from projections.rows import CHAIN, REFUSES, SHOWN
from projections.tables import StoredRow
from schemas.identity import digest
from schemas.run import EVOLVE_VERSION
from schemas.store import HistoryRow, Mark

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


def row_differences(run_id: str, stored: StoredRow | None, folded: StoredRow | None) -> Iterator[Difference]:
    """Column by column. States of another version of the fold, and what the store has refused, cannot be compared."""
    if stored is None or folded is None:
        if stored is not folded:
            yield difference(run_id, "row", stored and "a row", folded and "a row")
        return
    refused = (stored.chain.set_aside or "").startswith(REFUSES)
    for column, ours, theirs in zip(CHAIN, stored.chain, folded.chain, strict=True):
        foreign = column.startswith("state") and stored.chain.state_version != EVOLVE_VERSION
        if ours != theirs and not foreign and not (refused and column == "set_aside"):
            yield difference(run_id, column, ours, theirs)
    if not refused:
        for column, ours, theirs in zip(SHOWN, stored.shown, folded.shown, strict=True):
            if ours != theirs:
                yield difference(run_id, column, ours, theirs)


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
