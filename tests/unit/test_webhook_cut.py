"""WORKFLOW_RESULT_OVERFLOW=cut: a result that is too large is cut, with a mark, and the step goes on."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from streams.webhook import call
from streams.webhook_request import WebhookRequest
from tests.webhooks import BYTES_MAX, answering, client_of_tests, failure, http, output, sockets


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of_tests() as client:
        yield client


async def answer(client: httpx.AsyncClient, raw: bytes, bytes_max: int = BYTES_MAX) -> Any:
    async with sockets(answering(raw)) as url:
        request = WebhookRequest.of(
            {"url": url}, idempotency_key="k", timeout_s=5, response_bytes_max=bytes_max, cut=True
        )
        return await call(client, request)


async def test_a_small_answer_is_whole(client: httpx.AsyncClient) -> None:
    """As without the setting: JSON stays JSON, and there is no mark."""
    result = output(await answer(client, http(b'{"a": 1}')))
    assert (result["body"], "cut" in result) == ({"a": 1}, False)


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        (http(b"x" * 50_000, "text/plain"), 50_000),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 50_000, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n" + b"x" * 50_000, 10**12),
        (http(gzip.compress(b"x" * 8_000_000), "text/plain", "200 OK", "Content-Encoding: gzip"), None),
        (http(b'["' + b"x" * 50_000 + b'"]'), 50_004),
        (http(b"x" * (BYTES_MAX - 10), "text/plain"), BYTES_MAX - 10),
    ],
    ids=["text", "without a length", "announced", "packed", "JSON", "with its headers"],
)
async def test_a_large_one_is_cut(client: httpx.AsyncClient, raw: bytes, size: int | None) -> None:
    """What fits is kept as text; the mark says how much that is, of how much where that is known, and the limit."""
    result = output(await answer(client, raw))
    kept = result["body"]
    assert set(kept) <= set('x["')
    assert result["cut"] == {"bytes": len(kept), "of": size, "limit": BYTES_MAX}
    assert BYTES_MAX - 10 <= len(orjson.dumps(result)) <= BYTES_MAX


@pytest.mark.parametrize("text", ["ü", "\x01", '"', "😀", "\\"])
async def test_it_is_cut_between_characters(client: httpx.AsyncClient, text: str) -> None:
    """However long a character is in UTF-8 or in JSON."""
    result = output(await answer(client, http((text * 20_000).encode(), "text/plain; charset=utf-8")))
    assert set(result["body"]) == {text}
    assert BYTES_MAX - 20 <= len(orjson.dumps(result)) <= BYTES_MAX


async def test_what_is_refused_for_another_reason_is_refused(client: httpx.AsyncClient) -> None:
    """The setting is about size alone."""
    assert failure(await answer(client, http(b'{"a": 1, "a": 2}'))).error["code"] == "response_refused"
    assert failure(await answer(client, http(b"", status="404 Not Found"))).error["code"] == "http_status"
    packed = http(b"no gzip" * 5_000, "text/plain", "200 OK", "Content-Encoding: gzip")
    assert failure(await answer(client, packed)).error["code"] == "response_refused"


async def test_headers_that_leave_no_room_fail_the_step(client: httpx.AsyncClient) -> None:
    """There is nothing to cut."""
    failed = failure(await answer(client, http(b"x", "text/plain", "200 OK", f"X: {'y' * 9_950}")))
    assert failed.error["code"] == "response_too_large"
    assert "WORKFLOW_RESULT_BYTES_MAX" in str(failed.error["message"])
