"""Runs as they were: what the log said of them at a moment of its own clock, or up to one of their events. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from projections.fold import retell, run_row
from projections.rows import LISTED, columns, stored_run, stored_view
from schemas.store import HistoryRow, StoredRun
from schemas.views import RunView

_WIDTH: Final = len(LISTED)
"""Behind the columns of `listed`, a row of `dated` has began_ms, started_ms, ended_ms and last_ms."""


def up_to(history: Iterable[HistoryRow], at_ms: int) -> Iterator[HistoryRow]:
    """The events of a run, oldest first, before the first one that was logged later than `at_ms`."""
    for row in history:
        if row.at_ms > at_ms:
            return
        yield row


def moved_since(row: Sequence[Any], at_ms: int) -> bool:
    """Whether a row of `dated` is of a run that has had an event after `at_ms`."""
    last_ms = row[_WIDTH + 3]
    return last_ms is not None and last_ms > at_ms


def as_it_was(stored: StoredRun, history: Sequence[HistoryRow], events: int) -> StoredRun:
    """A run after the first `events` of its history. Before the first of them it was a command."""
    if events == 0:
        return StoredRun(_asked(stored.view), stored.place, history[0].offset if history else stored.offset)
    prefix = history[:events]
    run, clock = retell(stored.view["run_id"], prefix)
    return stored_run(*columns(run_row(stored.place[1], run, clock, prefix[0].offset, prefix[-1].offset)))


def _asked(view: RunView) -> RunView:
    """As a command that no worker has taken is shown."""
    return {
        **view,
        "status": "PENDING",
        "results": {},
        "error": None,
        "steps": [],
        "started_at": None,
        "finished_at": None,
        "seq": 0,
        "set_aside": None,
    }


def page_then(
    rows: Iterable[Sequence[Any]], histories: Mapping[str, Sequence[HistoryRow]], at_ms: int
) -> list[StoredRun]:
    """Rows of `dated` as they were; `histories` holds those of all that have moved since."""
    page = []
    for row in rows:
        stored = stored_view(row[:_WIDTH])
        if moved_since(row, at_ms):
            history = histories[row[0]]
            stored = as_it_was(stored, history, sum(1 for _ in up_to(history, at_ms)))
        page.append(stored)
    return page
