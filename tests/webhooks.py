"""What the tests of webhooks share: requests, receivers made of bare sockets, and looks at results."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx
import orjson

from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from schemas.jsontext import JSON
from streams.allowed import AllowList
from streams.webhook import ERROR_BODY_BYTES_MAX, call
from streams.webhook_client import new_client
from streams.webhook_request import WebhookRequest

BYTES_MAX = 10_000
LOOPBACK = AllowList.parse("127.0.0.1,localhost")
"""The receivers of tests listen there."""
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def client_of_tests(connections_max: int = 2) -> httpx.AsyncClient:
    """A client that may call this machine."""
    return new_client(connections_max=connections_max, allowed=LOOPBACK)


def configured(config: dict[str, JSON], timeout_s: float = 5.0) -> WebhookRequest:
    return WebhookRequest.of(config, idempotency_key="run-1:step", timeout_s=timeout_s, response_bytes_max=BYTES_MAX)


def request(url: JSON, timeout_s: float = 5.0, **config: JSON) -> WebhookRequest:
    return configured({"url": url, **config}, timeout_s)


def output(result: EffectResult) -> dict[str, Any]:
    assert isinstance(result, EffectSucceeded), result
    assert isinstance(result.output, dict)
    assert len(orjson.dumps(result.output)) <= BYTES_MAX
    return result.output


def failure(result: EffectResult) -> EffectFailed:
    assert isinstance(result, EffectFailed), result
    assert len(orjson.dumps(result.error)) < 4 * ERROR_BODY_BYTES_MAX
    return result


@asynccontextmanager
async def sockets(handler: Handler) -> AsyncIterator[str]:
    """A TCP server whose connections are left to `handler` once the request's header was read."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(raw: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return handler


def http(body: bytes, content_type: str = "application/json", status: str = "200 OK", *more: str) -> bytes:
    head = "\r\n".join(
        [
            f"HTTP/1.1 {status}",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *more,
        ]
    )
    return head.encode() + b"\r\n\r\n" + body


async def answer(client: httpx.AsyncClient, raw: bytes) -> EffectResult:
    async with sockets(answering(raw)) as url:
        return await call(client, request(url))
