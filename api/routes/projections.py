"""The projection: how far it is, and its rebuild from the log."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from api import cursors
from api.errors import NoRebuild, NoSharedTables, ProjectionUnknown
from api.openapi import problems
from api.pages import cut
from api.ports import SharedProjection
from api.projection_bodies import ProjectionBody, ProjectionList, QuarantinePage, RebuildBody
from api.reads import page_headers, page_limit
from api.responses import Json
from api.routing import Api, Caller, Cursor, Limit, MinPosition, Shared, StrictRoute, Wait, reach_tables
from schemas import position as positions

router = APIRouter(route_class=StrictRoute, tags=["projections"])

NAME: Final = "runs"
Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,63}$", description="`runs`, the one projection that there is")]


@router.get(
    "/api/v1/projections",
    operation_id="projections_list",
    response_model=ProjectionList,
    responses=problems(400, 409, 431, 503),
)
async def list_projections(api: Shared, min_position: MinPosition = None, wait: Wait = None) -> Json:
    """All projections: how far each is, and its last rebuild."""
    shown, headers = await _shown(api, _shared(api), min_position, wait)
    return Json({"items": [shown]}, headers=headers)


@router.get(
    "/api/v1/projections/{name}",
    operation_id="projections_get",
    response_model=ProjectionBody,
    responses=problems(400, 404, 409, 431, 503),
)
async def get(api: Shared, name: Name, min_position: MinPosition = None, wait: Wait = None) -> Json:
    """A projection: how far it is, and its last rebuild with its progress and report."""
    shown, headers = await _shown(api, _named(api, name), min_position, wait)
    return Json(shown, headers=headers)


@router.get(
    "/api/v1/projections/{name}/quarantine",
    operation_id="projections_quarantine",
    response_model=QuarantinePage,
    responses=problems(400, 404, 431, 503),
)
async def quarantine(
    request: Request,
    api: Shared,
    name: Name,
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """Runs that are set aside, because an event of theirs cannot be folded: by id, each with the reason.

    Other runs go on. A release that knows the event shows them again; `workflow projections retry` has them tried again.
    """
    _known(name)
    most, bound = page_limit(limit, api.deps.settings.workflow_page_items_max), {"list": "quarantine", "name": name}
    after = str(cursors.decode(cursor, bound, (str,))[0]) if cursor is not None else ""
    await reach_tables(api, min_position, wait)
    position = await api.deps.store.positions()
    found = await api.deps.store.set_aside(after, limit=most + 1)
    page, following = cut(found, most, bound, lambda each: [each.run_id])
    body = {"items": [each._asdict() for each in page], "next_cursor": following}
    return Json(body, headers=page_headers(request, position, following))


@router.post(
    "/api/v1/projections/{name}/rebuild",
    operation_id="projections_rebuild",
    status_code=202,
    response_model=RebuildBody,
    responses=problems(400, 404, 409, 431, 503),
)
async def rebuild(api: Shared, name: Name, caller: Caller) -> Response:
    """Have the read tables made anew from the log, beside those that serve, and let them take over.

    Projectors do it, each with a process of its own, and so does every `workflow rebuild`. Where a rebuild runs, the answer
    shows that one. `GET` of the projection tells how far it is. Nothing is sent to anybody by a rebuild.
    """
    projection, headers = _named(api, name), await _position(api)
    begun = await projection.rebuild(caller or "the API")
    return Json(begun, 202, {"Location": f"/api/v1/projections/{name}", **headers})


@router.post(
    "/api/v1/projections/{name}/cancel",
    operation_id="projections_cancel",
    response_model=RebuildBody,
    responses=problems(400, 404, 409, 431, 503),
)
async def cancel(api: Shared, name: Name) -> Json:
    """End the rebuild that runs, whoever works on it. The tables that serve stay as they are."""
    projection, headers = _named(api, name), await _position(api)  # asked before: what was done must be told
    cancelled = await projection.cancel()
    if cancelled is None:
        raise NoRebuild(name=name)
    return Json(cancelled, headers=headers)


async def _shown(
    api: Api, projection: SharedProjection, min_position: str | None, wait: str | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The projection, once the tables hold the wanted position; and the header that says where they stood before."""
    await reach_tables(api, min_position, wait)
    headers = await _position(api)
    return await projection.overview(), headers


async def _position(api: Api) -> dict[str, str]:
    """Where the tables stand. What was begun or cancelled stands beside them, where every process reads it."""
    return {"Workflow-Position": positions.encode(await api.deps.store.positions())}


def _named(api: Api, name: str) -> SharedProjection:
    _known(name)
    return _shared(api)


def _known(name: str) -> None:
    if name != NAME:
        raise ProjectionUnknown(name=name, known=NAME)


def _shared(api: Api) -> SharedProjection:
    if api.deps.projection is None:
        raise NoSharedTables
    return api.deps.projection
