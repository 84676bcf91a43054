"""What Prometheus asks."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from api.openapi import problems
from api.routing import Shared, StrictRoute

_FORMATS: Final = ("text/plain", "application/openmetrics-text")

router = APIRouter(route_class=StrictRoute, tags=["probes"])


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {"description": "Metrics", "content": {name: {"schema": {"type": "string"}} for name in _FORMATS}},
        **problems(400, 431),
    },
)
async def metrics(request: Request, api: Shared) -> Response:
    """The metrics of this API process, in the text format of Prometheus or in that of OpenMetrics, as `Accept` says."""
    page, media_type = api.metrics.render(",".join(request.headers.getlist("accept")))
    return Response(page, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
