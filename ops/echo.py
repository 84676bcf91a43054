"""A small HTTP receiver on the loopback: what webhooks of the demo, of the README and of the tests are sent to.

Any path answers 200 with {"method", "path", "query", "headers", "body"} of the request. Besides:
`/status/503` answers that status (`?retry_after=2` adds the header), `/delay/2.5` answers after 2.5 s,
`/flaky/KEY/2` answers 503 twice for each KEY and then 200.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
RECEIVED_MAX: Final = 10_000
KEYS_MAX: Final = 10_000
DELAY_MAX_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Received:
    """One request. `body` is its JSON value if it is JSON, else its text; `time_s` is seconds since 1970."""

    time_s: float
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


class Echo:
    """The receiver, serving inside `async with`; port 0 takes a free one.

    `received` holds the last requests, oldest first; `journal` is a file that gets each of them as a line of JSON.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, journal: Path | None = None) -> None:
        self.host, self.port = host, port
        self.received: deque[Received] = deque(maxlen=RECEIVED_MAX)
        self._journal_path = journal
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._journal = None if self._journal_path is None else self._journal_path.open("ab", buffering=0)
        self._server = await asyncio.start_server(self._connected, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        if self._journal is not None:
            self._journal.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, EOFError):
                while await self._served(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the end of `async with`; the streams' own callback would report it
        finally:
            self._connections.discard(task)
            writer.close()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection stays open for another."""
        try:
            request = await _read(reader)
        except ValueError as error:
            writer.write(_response(HTTPStatus.BAD_REQUEST, {"error": str(error)}, close=True))
            await writer.drain()
            return False
        self._note(request)
        return await self._answered(request, writer)

    async def _answered(self, request: Received, writer: asyncio.StreamWriter) -> bool:
        status, headers, body = await self._answer(request)
        writer.write(_response(status, None if request.method == "HEAD" else body, headers))
        await writer.drain()
        return request.headers.get("connection", "").lower() != "close"

    def _note(self, request: Received) -> None:
        self.received.append(request)
        if self._journal is not None:
            self._journal.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))

    async def _answer(self, request: Received) -> tuple[int, dict[str, str], Any]:
        echoed = {name: getattr(request, name) for name in ("method", "path", "query", "headers", "body")}
        headers = {"Retry-After": request.query["retry_after"]} if "retry_after" in request.query else {}
        match request.path.strip("/").split("/"):
            case ["status", status] if status.isdecimal() and 200 <= int(status) <= 599:
                return int(status), headers, echoed
            case ["delay", delay_s]:
                with suppress(ValueError):
                    await asyncio.sleep(min(float(delay_s), DELAY_MAX_S))
                return 200, headers, echoed
            case ["flaky", key, times] if times.isdecimal():
                return (503 if self._fails(key, int(times)) else 200), headers, echoed
            case _:
                return 200, headers, echoed

    def _fails(self, key: str, times: int) -> bool:
        failures = self._failures.get(key, 0)
        if failures >= times:
            return False
        self._failures[key] = failures + 1
        if len(self._failures) > KEYS_MAX:
            self._failures.popitem(last=False)
        return True


async def _read(reader: asyncio.StreamReader) -> Received:
    """The next request. ValueError: what came is none; EOFError: nothing more comes."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.LimitOverrunError:
        raise ValueError("the header is too long") from None
    first, *lines = head[:-4].split("\r\n")
    method, target, version = (*first.split(" "), "", "")[:3]
    if not version.startswith("HTTP/1."):
        raise ValueError(f"{first[:100]!r} is no HTTP/1 request")
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
        raise ValueError(f"a body needs a Content-Length of at most {BODY_BYTES_MAX}")
    raw = await reader.readexactly(int(length))
    url = urlsplit(target)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    return Received(time.time(), method, unquote(url.path), query, headers, _body(raw, headers))


def _body(raw: bytes, headers: Mapping[str, str]) -> Any:
    if "json" in headers.get("content-type", ""):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(raw)
    return raw.decode(errors="replace")


def _response(status: int, body: Any, headers: Mapping[str, str] | None = None, *, close: bool = False) -> bytes:
    content = b"" if body is None or status in {204, 304} else orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status not in {204, 304}:
        lines.append(f"Content-Length: {len(content)}")
    if close:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", errors="replace") + content
