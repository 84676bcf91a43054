"""The row of a run, the same in every store: how a view is written as columns, and how columns are shown again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import orjson

from schemas.identity import WORKFLOW_ID
from schemas.position import Place
from schemas.store import PendingRow, RunRow, StoredRun
from schemas.views import STATUSES, RunView

TEXT_CHARS_MAX: Final = 500
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
"""The columns of a run that could never be shown."""


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


def unshowable(view: RunView) -> str | None:
    """Why a view cannot become columns in every store; None when it can."""
    if not _is_id(view["workflow_id"]):
        return "its workflow_id is no id"
    if view["status"] not in STATUSES:
        return "its status is none that there is"
    version = view["version"]
    if version is not None and not (type(version) is int and 0 <= version < 2**63):
        return "its version is no number of a version"
    if not _is_time(view["created_at"]):
        return "its created_at is no time"
    for at in (view["started_at"], view["finished_at"]):
        if at is not None and not _is_time(at):
            return "its started_at or finished_at is no time"
    return None


def _is_id(value: object) -> bool:
    return isinstance(value, str) and WORKFLOW_ID.match(value) is not None


def _is_time(text: Any) -> bool:
    try:
        instant_us(text)
    except (TypeError, ValueError, OverflowError):
        return False
    return 0 < len(text) <= 40


def shown(view: RunView) -> Shown:
    """The columns of a view. TypeError when its JSON is nested deeper than can be written."""
    return Shown(
        view["workflow_id"],
        view["version"],
        view["status"],
        json_text(view["payload"]),
        json_text(view["results"]),
        None if view["error"] is None else json_text(view["error"]),
        json_text(view["steps"]),
        view["created_at"],
        instant_us(view["created_at"]),
        view["started_at"],
        view["finished_at"],
    )


def json_text(value: object) -> str:
    """The JSON text of a value, numbers exact."""
    return orjson.dumps(value).decode()


def columns(row: RunRow) -> tuple[Chain, Shown | None]:
    """A run's row as columns; the second part is None when they stand still."""
    if row.view is None:
        return Chain._make(row[:-1]), None
    try:
        return Chain._make(row[:-1]), shown(row.view)
    except orjson.JSONEncodeError as error:
        return Chain._make((*row[:-2], clean_text(f"it cannot be shown: {error}"))), None


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
