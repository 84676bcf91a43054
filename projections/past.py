"""Runs as they were: what the log said of them at a moment of its own clock, or up to one of their events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from projections.fold import Retelling
from projections.rows import LISTED, columns, stored_run, stored_view
from schemas.errors import HistoryDamaged
from schemas.store import HistoryRow, StoredRun
from schemas.views import RunView

_WIDTH: Final = len(LISTED)
"""Behind the columns of `listed`, a row of `dated` has began_ms, started_ms, ended_ms and last_ms."""


def moved_since(row: Sequence[Any], at_ms: int) -> bool:
    """Whether a row of `dated` is of a run that has had an event after `at_ms`."""
    last_ms = row[_WIDTH + 3]
    return last_ms is not None and last_ms > at_ms


def as_it_was(stored: StoredRun, history: Sequence[HistoryRow], at_ms: int) -> StoredRun:
    """A run that has moved since, at a moment, from its whole history. Before its first event it was a command. Raises
    HistoryDamaged where events are missing."""
    retelling = Retelling(stored.place[1], stored.view["run_id"])
    for row in history:
        if row.at_ms > at_ms:
            retelling.check_next(row)
            return retold(retelling) if retelling.run.seq else as_it_was_asked(stored, row.offset)
        retelling.take(row)
    raise HistoryDamaged(run_id=stored.view["run_id"])


def retold(retelling: Retelling) -> StoredRun:
    """A run as the events make it that were told of it."""
    return stored_run(*columns(retelling.row()))


def as_it_was_asked(stored: StoredRun, offset: int) -> StoredRun:
    """As a command that no worker has taken is shown; `offset`: of the first event."""
    view: RunView = {
        **stored.view,
        "status": "PENDING",
        "results": {},
        "error": None,
        "steps": [],
        "started_at": None,
        "finished_at": None,
        "seq": 0,
        "set_aside": None,
    }
    return StoredRun(view, stored.place, offset)


def page_then(
    rows: Iterable[Sequence[Any]], histories: Mapping[str, Sequence[HistoryRow]], at_ms: int
) -> list[StoredRun]:
    """Rows of `dated` as they were; `histories` holds those of all that have moved since."""
    page = []
    for row in rows:
        stored = stored_view(row[:_WIDTH])
        if moved_since(row, at_ms):
            stored = as_it_was(stored, histories.get(row[0], ()), at_ms)
        page.append(stored)
    return page
