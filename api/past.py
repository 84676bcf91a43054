"""One run as it was."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from api.errors import RunNotThen
from api.ports import Deps
from api.reads import past_ms
from projections.fold import Retelling
from projections.past import as_it_was_asked, retold
from projections.rows import instant_us
from schemas.events import time_text
from schemas.store import HistoryRow, ReadStore, StoredRun

ROWS_AT_ONCE: Final = 100
_SEQ: Final = re.compile(r"\d{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Moment:
    """A time by the log's clock in ms since 1970, or the number of an event."""

    at_ms: int | None = None
    seq: int | None = None


async def moment_of(text: str | None, deps: Deps) -> Moment | None:
    """What `at` names. Raises ParameterInvalid."""
    if text is None:
        return None
    if _SEQ.fullmatch(text):
        return Moment(seq=int(text))
    return Moment(at_ms=await past_ms(text, "at", deps, ", or the number of an event"))


async def run_then(store: ReadStore, stored: StoredRun, moment: Moment) -> StoredRun:
    """The run as it was. Raises RunNotThen where it had no state then, HistoryDamaged where events are missing."""
    view = stored.view
    if moment.seq is not None and moment.seq > view["seq"]:
        raise RunNotThen(run_id=view["run_id"], reason=f"its last event is number {view['seq']}, not {moment.seq}.")
    retelling, first = Retelling(stored.place[1], view["run_id"]), stored.offset
    async for row in _history(store, view["run_id"]):
        first = row.offset if row.seq == 1 else first
        if _is_later(row, moment):
            retelling.check_next(row)
            break
        retelling.take(row)
    else:
        retelling.check_end(view["seq"])
    if retelling.run.seq:
        return stored if retelling.run.seq == view["seq"] else retold(retelling)
    if moment.at_ms is not None and instant_us(view["created_at"]) > moment.at_ms * 1000:
        at, since = time_text(moment.at_ms / 1000), view["created_at"]
        raise RunNotThen(run_id=view["run_id"], reason=f"it was asked for at {since}, after {at}.")
    return as_it_was_asked(stored, first)


def _is_later(row: HistoryRow, moment: Moment) -> bool:
    return row.at_ms > moment.at_ms if moment.at_ms is not None else row.seq > (moment.seq or 0)


async def _history(store: ReadStore, run_id: str) -> AsyncIterator[HistoryRow]:
    """All events of a run, oldest first, some in memory at a time."""
    last: int | None = None
    while True:
        rows = await store.events(run_id, order="asc", before_seq=None, after_seq=last, types=(), limit=ROWS_AT_ONCE)
        for row in rows:
            yield row
        if len(rows) < ROWS_AT_ONCE:
            return
        last = rows[-1].seq
