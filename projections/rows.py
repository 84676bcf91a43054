"""The row of a run, the same in every store: how a view is written as columns, and how columns are shown again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final, NamedTuple, TypeVar

import orjson

from schemas.errors import OtherProjection
from schemas.events import record_time
from schemas.identity import is_version, is_workflow_id
from schemas.position import Place
from schemas.run import EVOLVE_VERSION, TIME_CHARS_MAX
from schemas.store import HistoryRow, PendingRow, RunRow, StoredRun
from schemas.views import STATUSES, RunView

ROWS_VERSION: Final = 3
"""Raised when a row is to say something else of the same run. Below 1000."""
PROJECTION_VERSION: Final = EVOLVE_VERSION * 1000 + ROWS_VERSION
"""Stands with the position of each partition, and is part of the fence; tables of an older one are rebuilt by projectors."""
TEXT_CHARS_MAX: Final = 500
REFUSES: Final = "the store refuses its columns"
"""How the reason of a run begins that a store has quarantined."""
REPLACE_ME: Final = (
    "Replace this process by one of the release that made them, or go back to this release with its `workflow rebuild`."
)
MAKE_THEM_ANEW: Final = "They are made anew by the projectors of this release, or by `workflow rebuild`."
T = TypeVar("T")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Chain(NamedTuple):
    """The columns that need the envelopes alone; they move even when a run is quarantined."""

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


class Shown(NamedTuple):
    """The columns that people see. JSON columns hold the text of the value; `created_us` orders and filters lists."""

    workflow_id: str = ""
    version: int | None = None
    status: str = "PENDING"
    payload: str = "null"
    results: str = "{}"
    error: str | None = None
    steps: str = "[]"
    created_at: str = ""
    created_us: int = 0
    started_at: str | None = None
    finished_at: str | None = None


CHAIN: Final = Chain._fields
SHOWN: Final = Shown._fields
UNSHOWN: Final = Shown()
"""What stands where nothing can be shown."""


def check_projection(found: int | None) -> None:
    """Raises OtherProjection for tables that are not of this program's projection. None: nothing stands in them yet."""
    if found is None or found == PROJECTION_VERSION:
        return
    remedy = REPLACE_ME if found > PROJECTION_VERSION else MAKE_THEM_ANEW
    raise OtherProjection(found=found, wanted=PROJECTION_VERSION, remedy=remedy)


def clean_text(text: str) -> str:
    """A text that every store can hold."""
    return text[:TEXT_CHARS_MAX].replace("\0", "\ufffd")


def instant_us(text: str) -> int:
    """An RFC 3339 time as microseconds since 1970; ValueError when it is none. Without an offset it is UTC.
    The empty text, the created_at of a run that could never be shown, is 0."""
    if text == "":
        return 0
    at = datetime.fromisoformat(text)
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def columns(row: RunRow) -> tuple[Chain, Shown]:
    """A run's row as columns. What no column can hold is left out, and the row says so."""
    view, flaws = row.view, list[str]()
    # Where the request cannot be read, the time at which the log took it will do.
    created_at = view["created_at"] or record_time(row.began_ms)
    created_us = _instant(created_at)
    if created_us is None:
        flaws.append("created_at")
    shown = Shown(
        _kept(view["workflow_id"], is_workflow_id(view["workflow_id"]), "", "workflow_id", flaws),
        _kept(view["version"], view["version"] is None or is_version(view["version"]), None, "version", flaws),
        _kept(view["status"], view["status"] in STATUSES, UNSHOWN.status, "status", flaws),
        _json_or(view["payload"], UNSHOWN.payload, "payload", flaws),
        _json_or(view["results"], UNSHOWN.results, "results", flaws),
        None if view["error"] is None else _json_or(view["error"], "null", "error", flaws),
        _json_or(view["steps"], UNSHOWN.steps, "steps", flaws),
        "" if created_us is None else created_at,
        created_us or 0,
        _kept(view["started_at"], _is_time_or_none(view["started_at"]), None, "started_at", flaws),
        _kept(view["finished_at"], _is_time_or_none(view["finished_at"]), None, "finished_at", flaws),
    )
    chain = Chain._make(row[:-1])
    if flaws and chain.set_aside is None:
        chain = chain._replace(set_aside=f"its {' and '.join(flaws)} cannot be shown")
    return chain, shown


def _kept(value: T, sound: bool, otherwise: T, name: str, flaws: list[str]) -> T:
    if not sound:
        flaws.append(name)
    return value if sound else otherwise


def _is_time_or_none(text: object) -> bool:
    return text is None or _instant(text) is not None


def _instant(text: object) -> int | None:
    """The time, None when it is none that every store can hold."""
    try:
        return instant_us(text) if isinstance(text, str) and len(text) <= TIME_CHARS_MAX and text.isascii() else None
    except (ValueError, OverflowError):
        return None


def _json_or(value: object, otherwise: str, name: str, flaws: list[str]) -> str:
    """The JSON text of a value, numbers exact; nested deeper than can be written it is left out."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        flaws.append(name)
        return otherwise


def by_run(rows: Iterable[Any]) -> dict[str, list[HistoryRow]]:
    """Rows of the query `histories`, by run."""
    return {run_id: [HistoryRow(*row) for row in group] for run_id, group in groupby(rows, lambda row: str(row[0]))}


LISTED: Final = (
    "run_id partition place next_offset seq set_aside "
    "workflow_id version status payload results error steps created_at created_us started_at finished_at"
).split()
"""The columns of the view `listed`, in order."""


def stored_view(row: Iterable[Any]) -> StoredRun:
    """A row of `listed` as the API shows it."""
    run_id, partition, place, next_offset, seq, set_aside, *shown = row
    return _stored(Shown(*shown), run_id, seq, set_aside, (place, partition), next_offset)


def stored_run(chain: Chain, shown: Shown) -> StoredRun:
    """A run as the API shows it."""
    return _stored(shown, chain.run_id, chain.seq, chain.set_aside, ("e", chain.partition), chain.last_offset + 1)


def waiting_row(
    run_id: str, partition: int, offset: int, workflow_id: str, version: int | None, payload: str, created_at: str
) -> PendingRow:
    """A row of `pending` as it stands."""
    return PendingRow(run_id, partition, offset, workflow_id, version, payload.encode(), created_at)


def stored_pending(row: PendingRow) -> StoredRun:
    """A command that has not become a run yet, as the API shows it."""
    shown = Shown(row.workflow_id, row.version, payload=row.payload.decode(), created_at=row.created_at)
    return _stored(shown, row.run_id, 0, None, ("t", row.partition), row.offset + 1)


def _stored(shown: Shown, run_id: str, seq: int, set_aside: str | None, place: Place, offset: int) -> StoredRun:
    view: RunView = {
        "run_id": run_id,
        "workflow_id": shown.workflow_id,
        "version": shown.version,
        "status": shown.status,  # type: ignore[typeddict-item]  # the fold lets no other in
        "payload": orjson.loads(shown.payload),
        "results": orjson.loads(shown.results),
        "error": None if shown.error is None else orjson.loads(shown.error),
        "steps": orjson.loads(shown.steps),
        "created_at": shown.created_at,
        "started_at": shown.started_at,
        "finished_at": shown.finished_at,
        "seq": seq,
        "set_aside": set_aside,
    }
    return StoredRun(view, place, offset)
