"""Defining workflows and looking at them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query
from starlette.requests import Request

from api import cursors
from api.bodies import WorkflowBody, WorkflowPage
from api.definitions import read_definition
from api.errors import FieldError, ParameterInvalid, WorkflowNotThen
from api.openapi import body_of, problems
from api.pages import cut
from api.reads import page_headers, page_limit, past_ms
from api.responses import Json
from api.routes.trigger import find_definition
from api.routing import (
    Api,
    AsOf,
    Cursor,
    Limit,
    MinPosition,
    PlainRoute,
    Shared,
    StrictRoute,
    Wait,
    api_of,
    caller_of,
    reach_topic,
)
from schemas import position as positions
from schemas.catalog import Defined
from schemas.events import time_text

router = APIRouter(route_class=StrictRoute, tags=["workflows"])
writing = APIRouter(route_class=PlainRoute, tags=["workflows"])

WorkflowId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1, description="left out: the newest")]


@writing.post(
    "/api/v1/workflows",
    operation_id="workflows_define",
    status_code=201,
    response_model=WorkflowBody,
    responses={
        200: {"model": WorkflowBody, "description": "The newest version is the same already"},
        **problems(400, 408, 413, 415, 422, 431, 503),
    },
    openapi_extra={"requestBody": body_of("NewDefinition")},
)
async def define(request: Request) -> Json:
    """Define a workflow, or its next version.

    201 with the new version; 200 with the present one when it is the same already. So repeating the request is always safe.
    Without an `id`, the id is made of the name.
    """
    api = api_of(request)
    settings = api.deps.settings
    body = await api.bodies.json(request, bytes_max=settings.workflow_body_bytes_max, setting="WORKFLOW_BODY_BYTES_MAX")
    definition = read_definition(body, settings)
    defined, created = await api.deps.catalog.define(definition, caller_of(request))
    headers = _headers(api)
    if created:
        headers["Location"] = f"/api/v1/workflows/{defined.id}?version={defined.version}"
    return Json(_shown(api, defined), 201 if created else 200, headers)


@router.get(
    "/api/v1/workflows", operation_id="workflows_list", response_model=WorkflowPage, responses=problems(400, 431, 503)
)
async def list_workflows(
    request: Request,
    api: Shared,
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """All workflows by id, each in its newest version."""
    most, bound = page_limit(limit, api.deps.settings.workflow_page_items_max), {"list": "workflows"}
    after = str(cursors.decode(cursor, bound, (str,))[0]) if cursor is not None else ""
    await reach_topic(api, "d", api.deps.catalog, min_position, wait)
    found = [defined for defined in api.deps.catalog.newest() if defined.id > after]
    page, following = cut(found, most, bound, lambda defined: [defined.id])
    items = [_shown(api, defined) for defined in page]
    return Json({"items": items, "next_cursor": following}, headers=page_headers(request, _position(api), following))


@router.get(
    "/api/v1/workflows/{workflow_id}",
    operation_id="workflows_get",
    response_model=WorkflowBody,
    responses=problems(400, 404, 431, 503),
)
async def get_workflow(
    api: Shared,
    workflow_id: WorkflowId,
    version: Version = None,
    as_of: AsOf = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """One workflow: its newest version, the one asked for, or the one that was the newest `as_of` a time."""
    at_ms = await past_ms(as_of, "as_of", api.deps)
    if version is not None and at_ms is not None:
        raise ParameterInvalid(FieldError("query/as_of", "not_with_version", "give version or as_of, not both"))
    await reach_topic(api, "d", api.deps.catalog, min_position, wait)
    defined = await find_definition(api, workflow_id, 1 if at_ms is not None else version)
    if at_ms is not None:
        defined = _then(api, defined, at_ms)
    return Json(_shown(api, defined), headers=_headers(api))


def _then(api: Api, first: Defined, at_ms: int) -> Defined:
    defined = api.deps.catalog.get_then(first.id, at_ms)
    if defined is None:
        raise WorkflowNotThen(workflow_id=first.id, at=time_text(at_ms / 1000), since=first.defined_at)
    return defined


def _position(api: Api) -> positions.Position:
    return {("d", 0): api.deps.catalog.position}


def _headers(api: Api) -> dict[str, str]:
    return {"Workflow-Position": positions.encode(_position(api))}


def _shown(api: Api, defined: Defined) -> dict[str, Any]:
    token = positions.encode(_position(api))
    return {**defined.definition, "version": defined.version, "defined_at": defined.defined_at, "position": token}
