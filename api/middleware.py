"""The outermost layer of every request: its id, the bounds that come before any reading, the headers of every answer,
and the last word on errors."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import HeadersTooLarge, InternalError, Overloaded, RequestMalformed, RequestRefused, UriTooLong
from api.headers import secured, shared_with
from api.responses import Problem
from api.traffic import Traffic
from schemas.errors import WorkflowError

log = logging.getLogger("api.access")

Handler = Callable[[Request], Awaitable[Response]]

URI_BYTES_MAX: Final = 32 * 1024
HEADERS_BYTES_MAX: Final = 64 * 1024
REQUESTS_MAX: Final = 2_000
"""Requests at once in one process; the probes are answered beyond it."""
PROBES: Final = frozenset({"/health", "/livez", "/ready", "/readyz"})
_QUIET: Final = PROBES | {"/metrics"}
"""Asked every few seconds, and told in the log only when something is wrong, or everything is wanted."""
CLIENT_GONE: Final = 499
"""What the log says of a request whose client left before its end."""

_TOKEN: Final = re.compile(r"wfk_[0-9a-zA-Z_]*")
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,127}")


class Edge:
    """Pure ASGI. Puts `request_id` into the scope; answers what escapes the app as a problem, never as a stack trace.

    `direct`: handlers by method and path that are called without the app around them: its layers are a third of what
    a start costs. `origins`: whose pages may call the app from a browser. `traffic`: where requests are counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        new_id: Callable[[], str],
        direct: Mapping[tuple[str, str], Handler] | None = None,
        origins: tuple[str, ...] = (),
        traffic: Traffic | None = None,
    ) -> None:
        self.app = app
        self._new_id = new_id
        self._inner = shared_with(origins, Direct(app, dict(direct or {})) if direct else app)
        self._traffic = Traffic() if traffic is None else traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if scope["method"] == "HEAD":  # a GET; the server leaves the body out
            scope = {**scope, "method": "GET"}
        header_bytes, given_id = _headers(scope)
        request_id = given_id or self._new_id()
        scope["request_id"] = request_id
        answer = _Answer(send, request_id, scope)
        began = time.perf_counter()
        self._traffic.running += 1
        try:
            refused = self._refused(scope, header_bytes)
            if refused is not None:
                await Problem(refused, request_id)(scope, receive, answer)
            else:
                await self._inner(scope, receive, answer)
        except ClientDisconnect:
            answer.status = answer.status or CLIENT_GONE
        except Exception:
            log.exception("request %s failed", request_id, extra={"request_id": request_id})
            if not answer.status:
                await Problem(InternalError(), request_id)(scope, receive, answer)
            elif not answer.complete:
                raise
        finally:
            self._traffic.running -= 1
            took_s = time.perf_counter() - began
            self._traffic.answered(scope, answer.status, took_s)
            _log(scope, answer.status, request_id, took_s)

    def _refused(self, scope: Scope, header_bytes: int) -> RequestRefused | None:
        """What can be said before anything of the body is read."""
        if header_bytes > HEADERS_BYTES_MAX:
            return HeadersTooLarge(limit=HEADERS_BYTES_MAX, headers={"Connection": "close"})
        if len(scope["raw_path"]) + len(scope["query_string"]) > URI_BYTES_MAX:
            return UriTooLong(limit=URI_BYTES_MAX, headers={"Connection": "close"})
        if scope["http_version"] not in ("1.1", "1.0"):
            return RequestMalformed(reason=f"it says HTTP/{scope['http_version']}", headers={"Connection": "close"})
        if self._traffic.running > REQUESTS_MAX and scope["path"] not in PROBES:
            return Overloaded(what=f"{self._traffic.running} requests", limit=REQUESTS_MAX)
        return None


class Direct:
    """The app, but for what `handlers` answer."""

    def __init__(self, app: ASGIApp, handlers: dict[tuple[str, str], Handler]) -> None:
        self.app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._handlers.get((scope["method"], scope["path"]))
        if handler is None:
            await self.app(scope, receive, send)
            return
        scope["direct"] = scope["path"]  # its route's template, for the metrics
        answer = await _answer(handler, Request(scope, receive, send))
        await answer(scope, receive, send)


async def _answer(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except WorkflowError as error:
        return Problem(error, request.scope["request_id"])


class _Answer:
    """The way out: adds the headers of every answer and remembers the status."""

    __slots__ = ("_id", "_request", "_send", "complete", "status")

    def __init__(self, send: Send, request_id: str, request: Scope) -> None:
        self._send = send
        self._request = request
        self._id = (b"x-request-id", request_id.encode("latin-1"))
        self.status = 0
        self.complete = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            headers += secured(headers)
            headers.append(self._id)
            if "limit_headers" in self._request:
                headers += self._request["limit_headers"]
        else:
            self.complete = not message.get("more_body", False)
        await self._send(message)


def _headers(scope: Scope) -> tuple[int, str | None]:
    """Bytes of all headers, and the request id that they give, if it is a sane one."""
    size, request_id = 0, None
    for name, value in scope["headers"]:
        size += len(name) + len(value) + 4
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            request_id = value.decode("ascii")
    return size, request_id


def _log(scope: Scope, status: int, request_id: str, took_s: float) -> None:
    level = logging.WARNING if status >= 500 else logging.DEBUG if scope["path"] in _QUIET else logging.INFO
    if log.isEnabledFor(level):
        path = scope["raw_path"].decode("ascii", "replace")  # as it came: no line break of the caller's in the log
        path = _TOKEN.sub("wfk_***", path)
        took_ms = took_s * 1000
        key = scope.get("api_key")
        log.log(
            level,
            "%s %s %d %.1f ms%s request_id=%s",
            scope["method"],
            path,
            status,
            took_ms,
            "" if key is None else f" key={key.name}",
            request_id,
            extra={"request_id": request_id},
        )
