"""/health, /ready and /metrics for processes that serve nothing else: workers and projectors."""

from __future__ import annotations

from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import MethodRefused, PathUnknown
from api.http_server import HttpServer, bind
from api.ids import new_id
from api.metrics import MetricsPage
from api.middleware import Edge
from api.ports import ReadyReport
from api.probes import health_body, ready_body
from api.responses import Json, Problem

GRACE_S = 1.0


class ProbesApp:
    """A small ASGI app of five paths."""

    def __init__(self, ready: Callable[[], ReadyReport], metrics: MetricsPage) -> None:
        self._ready, self._metrics = ready, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        match path:
            case _ if path not in ("/health", "/livez", "/ready", "/readyz", "/metrics"):
                answer: Response = Problem(PathUnknown(path=path[:200]), scope["request_id"])
            case _ if method != "GET":
                refused = MethodRefused(path=path, method=method, allowed="GET", headers={"Allow": "GET"})
                answer = Problem(refused, scope["request_id"])
            case "/health" | "/livez":
                answer = Json(health_body())
            case "/metrics":
                page, media_type = self._metrics.render(_accept(scope))
                answer = Response(page, headers={"Content-Type": media_type, "Cache-Control": "no-store"})
            case _:
                status, body = ready_body(self._ready())
                answer = Json(body, status)
        await answer(scope, receive, send)


def _accept(scope: Scope) -> str:
    return ",".join(Headers(scope=scope).getlist("accept"))


async def serve_probes(host: str, port: int, ready: Callable[[], ReadyReport], metrics: MetricsPage) -> HttpServer:
    """Serve them on `port` (0: a free one) until `stop` of what is returned; its `address` says where.

    Raises BadSetting when the port cannot be had.
    """
    server = HttpServer(
        Edge(ProbesApp(ready, metrics), new_id=new_id),
        bind(host, port, setting="WORKFLOW_HEALTH_PORT"),
        grace_s=GRACE_S,
    )
    await server.start()
    return server
