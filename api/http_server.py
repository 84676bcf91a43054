"""uvicorn as a part that is started and stopped like the others, with the head of a request bounded while it comes in."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Generator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from api.errors import HeadersTooLarge, RequestMalformed, RequestRefused
from api.headers import SECURE
from api.ids import new_id
from api.middleware import HEADERS_BYTES_MAX, URI_BYTES_MAX
from api.problems import problem_type
from api.responses import PROBLEM_JSON, problem_json
from schemas.errors import BadSetting

KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 2_048
_HEAD_BYTES_MAX: Final = URI_BYTES_MAX + HEADERS_BYTES_MAX
_SECURE: Final = b"".join(name + b": " + value + b"\r\n" for name, value in SECURE)


class BoundedProtocol(HttpToolsProtocol):
    """httptools keeps an endless head in memory; here it ends with a 431. Trailers are dropped."""

    _head_bytes = 0
    _in_head = False

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES_MAX:
                self._refuse(HeadersTooLarge(limit=HEADERS_BYTES_MAX))

    def send_400_response(self, msg: str) -> None:
        self._refuse(RequestMalformed(reason=msg.rstrip(".").lower()))

    def _refuse(self, error: RequestRefused) -> None:
        """Answer before there is a request that an app could be asked about, and close."""
        self._in_head = False
        if self.transport.is_closing():
            return
        request_id = new_id()
        body = problem_json(error, request_id)
        head = f"content-type: {PROBLEM_JSON}\r\ncontent-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n"
        self.transport.write(STATUS_LINE[problem_type(error).status] + head.encode("ascii") + _SECURE + b"\r\n" + body)
        self.transport.close()


class _Server(uvicorn.Server):
    """Signals are the process's own business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves one app on one socket."""

    def __init__(self, app: ASGIApp, listening: socket.socket, *, grace_s: float) -> None:
        """`grace_s`: how long requests under way may take after `stop`."""
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(grace_s)),
        )
        self._socket = listening
        self._server = _Server(config)
        self._serving: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """http://host:port"""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Return when connections are taken."""
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http")
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise RuntimeError("the HTTP server ended before it started")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Take no more connections, let requests under way end, close."""
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving


def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """A listening address. Raises BadSetting, naming the setting, when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        in_use = error.errno == errno.EADDRINUSE
        reason = (
            "the port is in use by another process"
            if in_use
            else f"{host}:{port} cannot be listened on ({error.strerror})"
        )
        raise BadSetting(name=setting, value=port, reason=reason) from error
    return listening
