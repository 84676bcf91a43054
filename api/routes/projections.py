"""The projection: how far it is, and its rebuild from the log."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from api.bodies import ProjectionBody, ProjectionList, RebuildBody
from api.errors import NoRebuild, NoSharedTables, ProjectionUnknown
from api.openapi import problems
from api.ports import SharedProjection
from api.responses import Json
from api.routing import Api, Caller, Shared, StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["projections"])

NAME: Final = "runs"
Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_-]{0,63}$", description="`runs`, the one projection that there is")]


@router.get(
    "/api/v1/projections",
    operation_id="projections_list",
    response_model=ProjectionList,
    responses=problems(400, 409, 431, 503),
)
async def list_projections(api: Shared) -> Json:
    """All projections: how far each is, and its last rebuild."""
    return Json({"items": [await _shared(api).overview()]})


@router.get(
    "/api/v1/projections/{name}",
    operation_id="projections_get",
    response_model=ProjectionBody,
    responses=problems(400, 404, 409, 431, 503),
)
async def get(api: Shared, name: Name) -> Json:
    """A projection: how far it is, and its last rebuild with its progress and report."""
    return Json(await _named(api, name).overview())


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
    begun = await _named(api, name).rebuild(caller or "the API")
    return Json(begun, 202, {"Location": f"/api/v1/projections/{name}"})


@router.post(
    "/api/v1/projections/{name}/cancel",
    operation_id="projections_cancel",
    response_model=RebuildBody,
    responses=problems(400, 404, 409, 431, 503),
)
async def cancel(api: Shared, name: Name) -> Json:
    """End the rebuild that runs, whoever works on it. The tables that serve stay as they are."""
    cancelled = await _named(api, name).cancel()
    if cancelled is None:
        raise NoRebuild(name=name)
    return Json(cancelled)


def _named(api: Api, name: str) -> SharedProjection:
    if name != NAME:
        raise ProjectionUnknown(name=name, known=NAME)
    return _shared(api)


def _shared(api: Api) -> SharedProjection:
    if api.deps.projection is None:
        raise NoSharedTables
    return api.deps.projection
