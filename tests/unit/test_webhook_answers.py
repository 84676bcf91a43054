"""Webhooks: answers of every kind, from sockets that do not behave."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest

from schemas.jsontext import DEPTH_MAX, JSON
from streams.webhook import ERROR_BODY_BYTES_MAX, call
from tests.webhooks import BYTES_MAX, answer, client_of_tests, failure, http, output, request, sockets


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of_tests() as client:
        yield client


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (http(b'{"n": 9007199254740993}'), {"n": 2**53 + 1}),
        (http(b"[1]", "application/problem+json; charset=utf-8"), [1]),
        (http(b"[1]", "text/plain"), "[1]"),
        (http(b"", "application/json"), None),
        (http(b"a\0b\xff", "text/plain"), "a\ufffdb\ufffd"),
        (http(b"\xe9", "text/plain; charset=iso-8859-1"), "é"),
        (http("é".encode(), "text/plain; charset=no-such-thing"), "é"),
        (http("é".encode(), "text/plain; charset=unicode_escape"), "é"),
        (http(gzip.compress(b'{"a": 1}'), "application/json", "200 OK", "Content-Encoding: gzip"), {"a": 1}),
        (http(zlib.compress(b"text"), "text/plain", "200 OK", "Content-Encoding: deflate"), "text"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[1]", [1]),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + http(b"[2]"), [2]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n2\r\n[3\r\n1\r\n]\r\n0\r\n\r\n",
            [3],
        ),
    ],
)
async def test_the_body_of_an_answer_is_taken_by_its_kind(client: httpx.AsyncClient, raw: bytes, body: JSON) -> None:
    """JSON is read, text is made sound, nothing is null."""
    assert output(await answer(client, raw))["body"] == body


@pytest.mark.parametrize(
    ("body", "pointer", "reason"),
    [
        (rb'{"a": ["\u0000"]}', "/a/0", "nul_character"),
        (rb'{"a": "\ud800"}', "/a", "lone_surrogate"),
        (b'{"n": 18446744073709551616}', "/n", "integer_out_of_range"),
        (b"[1e400]", "/0", "float_out_of_range"),
        (b"[NaN]", "/0", "not_a_number"),
        (b'{"a": 1, "a": 2}', "/a", "duplicate_key"),
        (b"[" * 5_000, "", "too_deep"),
        (b"[" * DEPTH_MAX + b"]" * DEPTH_MAX, "/0" * (DEPTH_MAX - 1), "too_deep"),
        (b"<html>", "", "not_json"),
        (b"\xff", "", "not_utf8"),
    ],
)
async def test_json_that_no_store_can_hold_is_refused_for_good(
    client: httpx.AsyncClient, body: bytes, pointer: str, reason: str
) -> None:
    """The error names the pointer and the reason; asking again would not help."""
    failed = failure(await answer(client, http(body)))
    assert (failed.error["code"], failed.retryable) == ("response_refused", False)
    details = failed.error["details"]
    assert isinstance(details, dict)
    assert (details["pointer"], details["reason"], details["status"]) == (pointer, reason, 200)


@pytest.mark.parametrize(
    "raw",
    [
        http(b"x" * (BYTES_MAX + 1), "text/plain"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (BYTES_MAX + 1),
        http(gzip.compress(b"x" * 8_000_000), "text/plain", "200 OK", "Content-Encoding: gzip"),
        http(b"\x01" * (BYTES_MAX - 500), "text/plain"),
    ],
    ids=["sent", "announced", "until the end", "packed", "longer as JSON"],
)
async def test_an_answer_past_the_bound_fails_for_good(client: httpx.AsyncClient, raw: bytes) -> None:
    """The bound holds for what is read, what is unpacked and what is kept."""
    failed = failure(await answer(client, raw))
    assert (failed.error["code"], failed.retryable) == ("response_too_large", False)
    assert failed.error["details"] == {"status": 200, "limit": BYTES_MAX}


async def test_what_is_packed_is_not_unpacked_past_the_bound(client: httpx.AsyncClient) -> None:
    """A small answer does not become a large one in memory."""
    raw = http(gzip.compress(b"x" * 8_000_000), "text/plain", "200 OK", "Content-Encoding: gzip")
    tracemalloc.start()
    try:
        failure(await answer(client, raw))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


async def test_a_gigabyte_is_not_read(client: httpx.AsyncClient) -> None:
    """The connection is closed once the bound is passed."""
    written, closed = 0, asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with suppress(OSError):
            while written < 1 << 30:
                writer.write(b"x" * 65_536)
                await writer.drain()
                written += 65_536
        closed.set()

    async with sockets(endless) as url:
        assert failure(await call(client, request(url))).error["code"] == "response_too_large"
        await asyncio.wait_for(closed.wait(), 10)
    assert written < 64 << 20


@pytest.mark.parametrize(
    "raw",
    [
        http(b"not gzip", "text/plain", "200 OK", "Content-Encoding: gzip"),
        http(gzip.compress(b"cut off")[:-6], "text/plain", "200 OK", "Content-Encoding: gzip"),
        http(b"x", "text/plain", "200 OK", "Content-Encoding: br"),
    ],
)
async def test_an_encoding_that_cannot_be_read_is_refused_for_good(client: httpx.AsyncClient, raw: bytes) -> None:
    """Broken packing and packings that were not asked for."""
    failed = failure(await answer(client, raw))
    assert (failed.error["code"], failed.retryable) == ("response_refused", False)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"\x00\xff" * 1_000,
        b"HTTP/1.1 200 OK\r\nX",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
async def test_a_broken_answer_may_pass(client: httpx.AsyncClient, raw: bytes) -> None:
    """Whatever is no whole HTTP answer is a failure of the connection."""
    failed = failure(await answer(client, raw))
    assert (failed.error["code"], failed.retryable) == ("connection_failed", True)


async def test_a_reset_connection_may_pass(client: httpx.AsyncClient) -> None:
    """A reset in the middle of the body."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab")
        await writer.drain()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with sockets(reset) as url:
        failed = failure(await call(client, request(url)))
    assert (failed.error["code"], failed.retryable) == ("connection_failed", True)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://no-such-host.invalid/", "http://bücher.invalid/", "https://127.0.0.1:1/"]
)
async def test_a_receiver_that_is_not_there_may_pass(client: httpx.AsyncClient, url: str) -> None:
    """No listener, no such name."""
    failed = failure(await call(client, request(url)))
    assert (failed.error["code"], failed.retryable) == ("connection_failed", True)


async def test_plain_http_on_the_other_side_of_tls_may_pass(client: httpx.AsyncClient) -> None:
    """A failed handshake is a failure of the connection."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(http(b"", status="400 Bad Request"))
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        failed = failure(await call(client, request(f"https://127.0.0.1:{port}/")))
    assert (failed.error["code"], failed.retryable) == ("connection_failed", True)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"])
async def test_an_answer_that_drips_is_late(client: httpx.AsyncClient, head: bytes) -> None:
    """The timeout is for the attempt as a whole, however often a byte comes."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with sockets(drip) as url:
        failed = failure(await call(client, request(url, timeout_s=0.2)))
    assert (failed.error["code"], failed.retryable) == ("timeout", True)
    assert "within 0.2 s" in str(failed.error["message"])


@pytest.mark.parametrize(
    "piece",
    [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"],
    ids=["continue", "hints"],
)
async def test_answers_before_the_answer_without_end_are_late(client: httpx.AsyncClient, piece: bytes) -> None:
    """They cost time until the attempt's is over, and no memory."""

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with sockets(endless) as url:
        assert failure(await call(client, request(url, timeout_s=0.3))).error["code"] == "timeout"


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Header: value\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100),
        (b"HTTP/1.1 200 ", b"O" * 100),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 100),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"y" * 100),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: y\r\n"),
    ],
    ids=["headers", "a header", "a reason", "a chunk's length", "a chunk's extension", "trailers"],
)
async def test_what_is_around_a_body_is_bounded(client: httpx.AsyncClient, head: bytes, piece: bytes) -> None:
    """Headers, trailers and the edges of chunks without end are given up after 100 kB, long before the timeout."""
    written, closed = 0, asyncio.Event()

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(head)
        with suppress(OSError):
            while written < 64 << 20:
                writer.write(piece * 100)
                await writer.drain()
                written += len(piece) * 100
        closed.set()

    async with sockets(endless) as url:
        failed = failure(await call(client, request(url, timeout_s=30)))
        await asyncio.wait_for(closed.wait(), 10)
    assert (failed.error["code"], failed.retryable) == ("connection_failed", True)
    assert written < 16 << 20


async def test_an_error_counts_by_its_status_even_if_its_body_drips(client: httpx.AsyncClient) -> None:
    """A 404 whose body never ends is a 404, with what came of the body."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\nno such")
        await writer.drain()
        await asyncio.Event().wait()

    async with sockets(drip) as url:
        failed = failure(await call(client, request(url, timeout_s=0.3)))
    assert (failed.error["code"], failed.retryable) == ("http_status", False)
    assert failed.error["details"] == {"status": 404, "body": "no such"}


async def test_of_an_error_only_the_start_of_the_body_is_kept(client: httpx.AsyncClient) -> None:
    """The piece is bounded and sound."""
    failed = failure(await answer(client, http(b"\0" + b"x" * 100_000, "text/plain", "500 Internal Server Error")))
    details = failed.error["details"]
    assert isinstance(details, dict)
    assert details["body"] == "\ufffd" + "x" * (ERROR_BODY_BYTES_MAX - 1)
