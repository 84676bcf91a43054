"""HTTP/1.1 over bare sockets: as little work as possible on the measuring side."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Self, cast

import orjson


class Answer(NamedTuple):
    """Status and body of an answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Unreadable(Exception):
    """An answer that this reader does not understand, or a connection that was closed before its answer."""


class Answers:
    """Answers out of the bytes of a connection, one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Answer | None:
        """The answer, once all of it has come."""
        buffer = self._buffer = self._buffer + data if self._buffer else data
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0 or not head.startswith(b"http/1.1 "):
            raise Unreadable(f"no content-length in {bytes(head[:200])!r}")
        length_end = head.find(b"\r\n", at + 2)
        total = end + 4 + int(head[at + 17 : length_end if length_end >= 0 else end])
        if len(buffer) < total:
            return None
        self._buffer = buffer[total:]
        return Answer(int(head[9:12]), buffer[end + 4 : total])


def request(method: str, host: str, path: str, body: Any = None, key: str = "") -> bytes:
    """The bytes of a request; `body` is sent as JSON, `key` as the caller's API key."""
    content = b"" if body is None else orjson.dumps(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n"
    if key:
        head += f"Authorization: Bearer {key}\r\n"
    if body is not None:
        head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    return head.encode("ascii") + b"\r\n" + content


class Client(asyncio.Protocol):
    """One keep-alive connection: one call at a time."""

    def __init__(self) -> None:
        self._answers = Answers()
        self._waiting: asyncio.Future[Answer] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        _, client = await asyncio.get_running_loop().create_connection(cls, host, port)
        return client

    async def call(self, raw: bytes, *, timeout_s: float = 30.0) -> Answer:
        assert self._waiting is None, "one call at a time"
        if self._transport is None or self._transport.is_closing():
            raise Unreadable("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(raw)
        try:
            return await asyncio.wait_for(self._waiting, timeout_s)
        finally:
            self._waiting = None

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answers.feed(data)
        if answer is not None and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unreadable(f"the connection was closed: {exc}"))
