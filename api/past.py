"""One run as it was."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from api.errors import RunNotThen
from api.reads import past_ms
from projections.past import as_it_was, up_to
from projections.rows import instant_us
from schemas.events import time_text
from schemas.store import HistoryRow, ReadStore, StoredRun

ROWS_AT_ONCE: Final = 500
_SEQ: Final = re.compile(r"\d{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time by the log's clock in ms since 1970, or the number of an event."""

    at_ms: int | None = None
    seq: int | None = None


def moment_of(text: str | None, now_s: float) -> Moment | None:
    """What `at` names. Raises ParameterInvalid."""
    if text is None:
        return None
    if _SEQ.fullmatch(text):
        return Moment(seq=int(text))
    return Moment(at_ms=past_ms(text, "at", now_s))


async def run_then(store: ReadStore, stored: StoredRun, moment: Moment) -> StoredRun:
    """The run as it was. Raises RunNotThen where it had no state then."""
    view = stored.view
    if moment.seq is not None and moment.seq > view["seq"]:
        raise RunNotThen(run_id=view["run_id"], reason=f"its last event is number {view['seq']}, not {moment.seq}.")
    history = await _history(store, view["run_id"], moment.seq)
    events = (
        min(len(history), moment.seq or 0) if moment.at_ms is None else sum(1 for _ in up_to(history, moment.at_ms))
    )
    if events == view["seq"]:
        return stored
    if moment.at_ms is not None and events == 0 and instant_us(view["created_at"]) > moment.at_ms * 1000:
        at, since = time_text(moment.at_ms / 1000), view["created_at"]
        raise RunNotThen(run_id=view["run_id"], reason=f"it was asked for at {since}, after {at}.")
    return as_it_was(stored, history, events)


async def _history(store: ReadStore, run_id: str, seq: int | None) -> list[HistoryRow]:
    """All events of a run, oldest first, or those up to a number; at least the first one, if it has any."""
    rows: list[HistoryRow] = []
    below = None if seq is None else max(seq, 1) + 1
    while True:
        after = rows[-1].seq if rows else None
        more = await store.events(run_id, order="asc", before_seq=below, after_seq=after, types=(), limit=ROWS_AT_ONCE)
        rows += more
        if len(more) < ROWS_AT_ONCE:
            return rows
