"""What operators and their tools ask: whether the process lives, and whether it wants traffic."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import RedirectResponse

from api.bodies import HealthBody, ReadyBody
from api.openapi import problems
from api.probes import health_body, ready_body
from api.responses import Json
from api.routing import Shared, StrictRoute

router = APIRouter(route_class=StrictRoute, tags=["probes"])


@router.get(
    "/livez", operation_id="livez", response_model=HealthBody, responses=problems(400, 431), include_in_schema=False
)
@router.get("/health", operation_id="health", response_model=HealthBody, responses=problems(400, 431))
async def health() -> Json:
    """The process and its event loop, and nothing that they depend on."""
    return Json(health_body())


@router.get(
    "/readyz",
    operation_id="readyz",
    response_model=ReadyBody,
    responses={503: {"model": ReadyBody}, **problems(400, 431)},
    include_in_schema=False,
)
@router.get(
    "/ready",
    operation_id="ready",
    response_model=ReadyBody,
    responses={503: {"model": ReadyBody}, **problems(400, 431)},
)
async def ready(api: Shared) -> Json:
    """200 once the process has started and until it is told to stop.

    Kafka or a store that is away, or a projection that is behind, shows as `degraded` and leaves the answer at 200: all
    replicas must not drop at once.
    """
    status, body = ready_body(api.deps.health.report())
    return Json(body, status)


@router.get("/", operation_id="root", include_in_schema=False)
async def root() -> RedirectResponse:
    return RedirectResponse("docs")
