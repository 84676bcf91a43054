"""Looking at runs: what the read tables hold, never older than what the caller has seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api import cursors
from api.bodies import EventPage, RunBody, RunPage
from api.openapi import problems
from api.reads import instant, not_modified, of_tables, page_headers, page_limit, wanted_position
from api.responses import Json
from api.routing import Cursor, Limit, MinPosition, Shared, StrictRoute, reach_tables
from schemas import position as positions
from schemas.errors import RunUnknown
from schemas.events import time_text
from schemas.identity import digest
from schemas.store import HistoryRow, RunFilter, StoredRun
from schemas.views import Status

PAGE_BYTES_MAX: Final = 8 * 1024 * 1024
"""A page ends early when its items come to more: the cursor leads on."""
ROWS_AT_ONCE: Final = 100
"""Rows asked of the store in one query, whatever the page's limit."""
TYPES_MAX: Final = 20


router = APIRouter(route_class=StrictRoute, tags=["runs"])

RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
WorkflowFilter = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Instant = Annotated[
    str | None, Query(max_length=40, description="RFC 3339, exclusive", json_schema_extra={"format": "date-time"})
]
EventType = Annotated[str, Query(min_length=1, max_length=100)]
Row = TypeVar("Row")


@router.get("/api/v1/runs", operation_id="runs_list", response_model=RunPage, responses=problems(400, 431, 503))
async def list_runs(
    request: Request,
    api: Shared,
    workflow_id: WorkflowFilter = None,
    status: Status | None = None,
    created_after: Instant = None,
    created_before: Instant = None,
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
) -> Json:
    """Runs, newest first. A start that is accepted but not yet taken by a worker is PENDING."""
    settings = api.deps.settings
    where = RunFilter(
        workflow_id, status, instant(created_after, "created_after"), instant(created_before, "created_before")
    )
    bound = {
        "list": "runs",
        "workflow_id": workflow_id,
        "status": status,
        "created_after": where.created_after,
        "created_before": where.created_before,
    }
    most = page_limit(limit, settings.workflow_page_items_max)
    last = cursors.decode(cursor, bound, (str, str)) if cursor is not None else None
    await reach_tables(api, of_tables(wanted_position(min_position, settings.workflow_partitions)))
    position = await api.deps.store.positions()

    async def rows(after: StoredRun | None, count: int) -> Sequence[StoredRun]:
        key = (str(last[0]), str(last[1])) if last else None
        return await api.deps.store.runs(where, after=_key(after) if after else key, limit=count)

    shown, more = await _page(rows, most, lambda stored: orjson.dumps(_shown(stored)))
    following = cursors.encode(bound, list(_key(shown[-1][0]))) if more else None
    body = {"items": [orjson.Fragment(text) for _, text in shown], "next_cursor": following}
    return Json(body, headers=page_headers(request, position, following))


@router.get(
    "/api/v1/runs/{run_id}",
    operation_id="runs_get",
    response_model=RunBody,
    responses={304: {"description": "Not modified"}, **problems(400, 404, 431, 503)},
)
async def get_run(request: Request, api: Shared, run_id: RunId, min_position: MinPosition = None) -> Response:
    """One run. Its ETag is its `seq`: with `If-None-Match` the answer is 304 until the run has moved."""
    await reach_tables(api, of_tables(wanted_position(min_position, api.deps.settings.workflow_partitions)))
    stored = await api.deps.store.run(run_id)
    if stored is None:
        raise RunUnknown(run_id=run_id)
    etag = f'"{stored.view["seq"]}"'
    headers = {"ETag": etag, "Workflow-Position": _token(stored), "Cache-Control": "private, no-cache"}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    return Json(_shown(stored), headers=headers)


@router.get(
    "/api/v1/runs/{run_id}/events",
    operation_id="runs_events",
    response_model=EventPage,
    responses=problems(400, 404, 431, 503),
)
async def list_events(
    request: Request,
    api: Shared,
    run_id: RunId,
    order: Literal["asc", "desc"] = "asc",
    before_seq: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    type: Annotated[list[EventType] | None, Query(max_length=TYPES_MAX, description="may be repeated")] = None,  # noqa: A002
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
) -> Json:
    """The run's whole history, as it stands in the log: a page of CloudEvents, oldest or newest first."""
    settings = api.deps.settings
    types = sorted(set(type or ()))
    bound = {"list": "events", "run_id": run_id, "order": order, "type": types or None, "before_seq": before_seq}
    most = page_limit(limit, settings.workflow_page_items_max)
    last = int(cursors.decode(cursor, bound, (int,))[0]) if cursor is not None else None
    await reach_tables(api, of_tables(wanted_position(min_position, settings.workflow_partitions)))
    stored = await api.deps.store.run(run_id)
    if stored is None:
        raise RunUnknown(run_id=run_id)

    async def rows(after: HistoryRow | None, count: int) -> Sequence[HistoryRow]:
        seq = after.seq if after else last
        below = seq if order == "desc" and seq is not None else before_seq
        above = seq if order == "asc" else None
        return await api.deps.store.events(
            run_id, order=order, before_seq=below, after_seq=above, types=types, limit=count
        )

    shown, more = await _page(rows, most, _event)
    following = cursors.encode(bound, [shown[-1][0].seq]) if more else None
    body = {"items": [orjson.Fragment(text) for _, text in shown], "next_cursor": following}
    return Json(body, headers=page_headers(request, {stored.place: stored.offset}, following))


async def _page(
    rows: Callable[[Row | None, int], Awaitable[Sequence[Row]]], most: int, text_of: Callable[[Row], bytes]
) -> tuple[list[tuple[Row, bytes]], bool]:
    """Up to `most` rows with their JSON, fewer when they come to too many bytes, and whether there are more.

    `rows(after, count)` asks the store for the rows that follow.
    """
    shown: list[tuple[Row, bytes]] = []
    size = 0
    while True:
        wanted = min(ROWS_AT_ONCE, most - len(shown) + 1)
        fetched = await rows(shown[-1][0] if shown else None, wanted)
        for row in fetched:
            text = text_of(row)
            size += len(text)
            if shown and (len(shown) == most or size > PAGE_BYTES_MAX):
                return shown, True
            shown.append((row, text))
        if len(fetched) < wanted:
            return shown, False


def _shown(stored: StoredRun) -> dict[str, Any]:
    return {**stored.view, "position": _token(stored)}


def _token(stored: StoredRun) -> str:
    return positions.encode({stored.place: stored.offset})


def _key(stored: StoredRun) -> tuple[str, str]:
    return stored.view["created_at"], stored.view["run_id"]


def _event(row: HistoryRow) -> bytes:
    """The event as it stands in the log, and where it stands."""
    event = orjson.loads(row.value)
    return orjson.dumps(
        {**event, "digest": digest(row.value), "offset": row.offset, "logged_at": time_text(row.at_ms / 1000)}
    )
