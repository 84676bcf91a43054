"""The app, put together from what it is handed."""

from __future__ import annotations

from itertools import chain
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import ASGIApp

from api.access import Access
from api.backlog import Backlogs
from api.body import BODIES_BYTES_MAX, Bodies
from api.build import release
from api.errors import FieldError, InternalError, MethodRefused, ParameterInvalid, PathUnknown, RequestRefused
from api.headers import origins
from api.ids import new_id
from api.metrics import MetricsPage, of_report
from api.middleware import Edge
from api.openapi import describe
from api.ports import Deps
from api.reads import Waiting
from api.recent import RecentStarts
from api.responses import Problem
from api.routes import docs, keys, metrics, probes, problem_pages, projections, runs, trigger, ui, why, workflows
from api.routing import Api, plain
from api.scopes import scope_of
from api.starts import ID_RULE
from api.traffic import Traffic
from schemas.errors import WorkflowError


class _App(FastAPI):
    """FastAPI inside our own outermost layer, which answers starts by itself."""

    def build_middleware_stack(self) -> ASGIApp:
        direct = {("POST", "/api/v1/trigger"): plain(trigger.trigger, scope_of("trigger"), trigger.QUERY)}
        app = super().build_middleware_stack()
        api: Api = self.state.api
        return Edge(app, new_id=new_id, direct=direct, origins=origins(api.deps.settings), traffic=api.traffic)

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = describe(self, self.state.api.deps.settings)
        return self.openapi_schema


def build_app(deps: Deps) -> FastAPI:
    """The API as an ASGI app. It starts and stops nothing: who hands in `deps` does."""
    app = _App(
        title="Workflow platform",
        version=release(),
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    traffic = Traffic()
    app.state.api = Api(
        deps=deps,
        bodies=Bodies(
            depth_max=deps.settings.workflow_json_depth_max,
            bytes_max=max(BODIES_BYTES_MAX, 2 * deps.settings.workflow_batch_bytes_max),
        ),
        waiting=Waiting(deps.store),
        recent=RecentStarts(),
        backlogs=Backlogs(deps.store, deps.settings.workflow_pending_runs_max),
        traffic=traffic,
        metrics=MetricsPage("api", lambda: chain(of_report(deps.health.report()), traffic.samples())),
        access=None if deps.keys is None else Access(deps.keys, per_second=deps.settings.workflow_rate_limit),
    )
    for router in (
        trigger.router,
        runs.router,
        why.router,
        workflows.writing,
        workflows.router,
        keys.writing,
        keys.router,
        projections.router,
        docs.router,
        ui.router,
        probes.router,
        metrics.router,
        problem_pages.router,
    ):
        app.router.routes.extend(
            router.routes
        )  # included routers are matched anew for each request: 20 µs of the hot path
    app.add_exception_handler(WorkflowError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _failed)
    return app


async def _refused(request: Request, error: Exception) -> Problem:
    assert isinstance(error, WorkflowError)
    return Problem(error, request.scope["request_id"])


async def _failed(request: Request, error: Exception) -> Problem:  # noqa: ARG001 - the outermost layer logs it
    return Problem(InternalError(), request.scope["request_id"])


async def _invalid(request: Request, error: Exception) -> Problem:
    """Path and query parameters; bodies are read by the routes themselves."""
    assert isinstance(error, RequestValidationError)
    return Problem(ParameterInvalid(*(_parameter(each) for each in error.errors())), request.scope["request_id"])


def _parameter(error: dict[str, Any]) -> FieldError:
    context = error.get("ctx", {})
    limit = next(
        (context[name] for name in ("le", "ge", "max_length", "min_length") if isinstance(context.get(name), int)), None
    )
    pointer = "/".join(str(part) for part in error["loc"])
    if error["type"] == "string_pattern_mismatch":  # only ids have patterns
        return FieldError(pointer, "bad_id", ID_RULE, 128)
    return FieldError(pointer, error["type"], error["msg"], limit)


def _methods(request: Request) -> list[str]:
    """What the path takes, over all routes: the router names those of the first one only."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.methods and route.path_regex.match(request.scope["path"]):
            found |= route.methods
    return sorted(found)


async def _http(request: Request, error: Exception) -> Problem:
    """What Starlette itself refuses: unknown paths and methods."""
    assert isinstance(error, HTTPException)
    path = request.scope["path"][:200]
    refused: RequestRefused
    match error.status_code:
        case 404:
            refused = PathUnknown(path=path)
        case 405:
            allowed = ", ".join(_methods(request))
            refused = MethodRefused(path=path, method=request.method, allowed=allowed, headers={"Allow": allowed})
        case _:
            refused = RequestRefused(reason=str(error.detail))
    return Problem(refused, request.scope["request_id"])
