"""Looking at runs: what the read tables hold, never older than what the caller has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from api import cursors
from api.bodies import CountsBody, EventPage, ProofBody, RunBody, RunPage
from api.openapi import problems
from api.pages import page_of
from api.past import moment_of, run_then
from api.reads import instant, not_modified, page_headers, page_limit, past_ms
from api.responses import Json
from api.routing import Api, AsOf, Cursor, Limit, MinPosition, Shared, StrictRoute, Wait, reach_tables
from schemas import position as positions
from schemas.errors import RunUnknown
from schemas.events import time_text
from schemas.identity import digest
from schemas.store import HistoryRow, RunFilter, StoredRun, Tip
from schemas.views import STATUSES, Status

TYPES_MAX: Final = 20
ETAG_CHARS: Final = 12
NO_EVENTS: Final = Tip(0, "", False)
"""The head of a start that no worker has taken."""


router = APIRouter(route_class=StrictRoute, tags=["runs"])

RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$")]
WorkflowFilter = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
At = Annotated[
    str | None,
    Query(
        max_length=40, description="RFC 3339 time, by the log's clock, or the number of an event (`seq`, 0: none yet)"
    ),
]
Instant = Annotated[
    str | None, Query(max_length=40, description="RFC 3339, exclusive", json_schema_extra={"format": "date-time"})
]
EventType = Annotated[str, Query(pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,99}$")]


@router.get("/api/v1/runs", operation_id="runs_list", response_model=RunPage, responses=problems(400, 431, 503))
async def list_runs(
    request: Request,
    api: Shared,
    workflow_id: WorkflowFilter = None,
    status: Status | None = None,
    created_after: Instant = None,
    created_before: Instant = None,
    as_of: AsOf = None,
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """Runs, newest first. A start that is accepted but not yet taken by a worker is PENDING.

    With `as_of`, as they were at that time by the log's clock: each item, and the status that is filtered by.
    """
    settings = api.deps.settings
    at_ms = await past_ms(as_of, "as_of", api.deps)
    where = RunFilter(
        workflow_id, status, instant(created_after, "created_after"), instant(created_before, "created_before")
    )
    bound = {
        "list": "runs",
        "workflow_id": workflow_id,
        "status": status,
        "created_after": where.created_after,
        "created_before": where.created_before,
        "as_of": at_ms,
    }
    most = page_limit(limit, settings.workflow_page_items_max)
    last = cursors.decode_key(cursor, bound) if cursor is not None else None
    await reach_tables(api, min_position, wait)
    position = await api.deps.store.positions()

    async def rows(after: StoredRun | None, count: int) -> Sequence[StoredRun]:
        key = _key(after) if after else last
        if at_ms is not None:
            return await api.deps.store.runs_then(where, at_ms, after=key, limit=count)
        return await api.deps.store.runs(where, after=key, limit=count)

    shown, more = await page_of(rows, most, lambda stored: orjson.dumps(_shown(stored)))
    following = cursors.encode(bound, list(_key(shown[-1][0]))) if more else None
    body = {"items": [orjson.Fragment(text) for _, text in shown], "next_cursor": following}
    return Json(body, headers=page_headers(request, position, following))


@router.get(
    "/api/v1/run-counts", operation_id="runs_counts", response_model=CountsBody, responses=problems(400, 431, 503)
)
async def count_runs(
    api: Shared,
    workflow_id: WorkflowFilter = None,
    created_after: Instant = None,
    created_before: Instant = None,
    as_of: AsOf = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """How many runs have each status, now or `as_of` a time. Every run that matches is looked at: bound it where there are
    millions."""
    at_ms = await past_ms(as_of, "as_of", api.deps)
    after, before = instant(created_after, "created_after"), instant(created_before, "created_before")
    await reach_tables(api, min_position, wait)
    position = await api.deps.store.positions()
    found = await api.deps.store.counts(RunFilter(workflow_id, None, after, before), at_ms)
    counts: dict[str, int] = {status: found.get(status, 0) for status in STATUSES}
    body = {"total": sum(counts.values()), **counts}
    return Json(body, headers={"Workflow-Position": positions.encode(position)})


@router.get(
    "/api/v1/runs/{run_id}",
    operation_id="runs_get",
    response_model=RunBody,
    responses={304: {"description": "Not modified"}, **problems(400, 404, 431, 503)},
)
async def get_run(
    request: Request,
    api: Shared,
    run_id: RunId,
    at: At = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Response:
    """One run. With its ETag in `If-None-Match` the answer is 304 until there is something else to show of it.

    With `at`, as it was: at a time by the log's clock, or after its event of that number.
    """
    moment = await moment_of(at, api.deps)
    await reach_tables(api, min_position, wait)
    stored = await _known(api, run_id)
    if moment is not None:
        stored = await run_then(api.deps.store, stored, moment)
    text = orjson.dumps(_shown(stored))
    etag = _etag(stored, text)
    headers = {"ETag": etag, "Workflow-Position": _token(stored), "Cache-Control": "private, no-cache"}
    if not_modified(request, etag):
        return Response(status_code=304, headers=headers)
    return Json(text, headers=headers)


def _etag(stored: StoredRun, text: bytes) -> str:
    """`"seq-digest"`: the same events may be shown in another way, by another release or after a retry of their fold."""
    return f'"{stored.view["seq"]}-{digest(text)[:ETAG_CHARS]}"'


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
    wait: Wait = None,
) -> Json:
    """The run's whole history, as it stands in the log: a page of CloudEvents, oldest or newest first."""
    settings = api.deps.settings
    types = sorted(set(type or ()))
    bound = {"list": "events", "run_id": run_id, "order": order, "type": types or None, "before_seq": before_seq}
    most = page_limit(limit, settings.workflow_page_items_max)
    last = int(cursors.decode(cursor, bound, (int,))[0]) if cursor is not None else None
    await reach_tables(api, min_position, wait)
    stored = await _known(api, run_id)

    async def rows(after: HistoryRow | None, count: int) -> Sequence[HistoryRow]:
        seq = after.seq if after else last
        below = seq if order == "desc" and seq is not None else before_seq
        above = seq if order == "asc" else None
        return await api.deps.store.events(
            run_id, order=order, before_seq=below, after_seq=above, types=types, limit=count
        )

    shown, more = await page_of(rows, most, _event)
    following = cursors.encode(bound, [shown[-1][0].seq]) if more else None
    body = {"items": [orjson.Fragment(text) for _, text in shown], "next_cursor": following}
    return Json(body, headers=page_headers(request, {stored.place: stored.offset}, following))


@router.get(
    "/api/v1/runs/{run_id}/proof",
    operation_id="runs_proof",
    response_model=ProofBody,
    responses=problems(400, 404, 431, 503),
)
async def prove_run(
    request: Request,
    api: Shared,
    run_id: RunId,
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """A run's events with their bytes as they stand in the log, and the digests that chain them, oldest first.

    Anybody can check them: the digest of each, the `prev` that each carries, and that the last one is the head that the row of
    the run knows. `docs/check_proof.py` does, with nothing of ours; it takes the pages in their order.
    """
    settings = api.deps.settings
    bound = {"list": "proof", "run_id": run_id}
    most = page_limit(limit, settings.workflow_page_items_max)
    last = int(cursors.decode(cursor, bound, (int,))[0]) if cursor is not None else None
    await reach_tables(api, min_position, wait)
    stored = await _known(api, run_id)
    partition = stored.place[1]
    head = (await api.deps.store.tips(partition, [run_id]))[1].get(run_id, NO_EVENTS)

    async def rows(after: HistoryRow | None, count: int) -> Sequence[HistoryRow]:
        above = after.seq if after else last
        return await api.deps.store.events(
            run_id, order="asc", before_seq=head.seq + 1, after_seq=above, types=(), limit=count
        )

    shown, more = await page_of(rows, most, _proven)
    following = cursors.encode(bound, [shown[-1][0].seq]) if more else None
    body = {
        "run_id": run_id,
        "topic": settings.topics.events,
        "partition": partition,
        "head": {"seq": head.seq, "digest": head.digest or None, "done": head.done},
        "items": [orjson.Fragment(text) for _, text in shown],
        "next_cursor": following,
    }
    return Json(body, headers=page_headers(request, {stored.place: stored.offset}, following))


async def _known(api: Api, run_id: str) -> StoredRun:
    """The run, or the command that is to become one. Raises RunUnknown."""
    stored = await api.deps.store.run(run_id)
    if stored is None:
        raise RunUnknown(run_id=run_id, behind="")
    return stored


def _proven(row: HistoryRow) -> bytes:
    """The event with its bytes: JSON is UTF-8, and nothing of it is written anew."""
    return orjson.dumps(
        {
            "seq": row.seq,
            "offset": row.offset,
            "logged_at": time_text(row.at_ms / 1000),
            "digest": digest(row.value),
            "value": row.value.decode(),
        }
    )


_TEXTS: Final = ("specversion", "id", "source", "time")
_SURE: Final = ("type", "subject", "epoch", "seq", "prev")
"""What every fact has, as a text or a number."""


def _shown(stored: StoredRun) -> dict[str, Any]:
    return {**stored.view, "position": _token(stored)}


def _token(stored: StoredRun) -> str:
    return positions.encode({stored.place: stored.offset})


def _key(stored: StoredRun) -> tuple[str, str]:
    return stored.view["created_at"], stored.view["run_id"]


def _event(row: HistoryRow) -> bytes:
    """The event as it stands in the log, and where it stands."""
    event = orjson.loads(row.value)
    where = {"digest": digest(row.value), "offset": row.offset, "logged_at": time_text(row.at_ms / 1000)}
    try:
        return orjson.dumps({**event, **where})
    except orjson.JSONEncodeError:  # nested deeper than can be written, as no event of ours is
        texts = {name: value if isinstance(value := event.get(name), str) else "" for name in _TEXTS}
        return orjson.dumps({**texts, **{name: event[name] for name in _SURE}, "data": None, **where})
