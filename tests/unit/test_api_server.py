"""The HTTP server on a real socket: what httptools lets through, the API bounds; probes of the other roles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import orjson
import pytest

from api.http_server import HttpServer, bind
from api.metrics import MetricsPage, of_report
from api.ports import Component, Outgoing, ReadyReport
from api.probes_server import serve_probes
from schemas.errors import BadSetting
from tests.api.world import World, make_world, until

START = b'{"workflow_id": "greet"}'
HEAD = b"POST /api/v1/trigger HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 24\r\n"


@pytest.fixture
async def world() -> World:
    world = make_world()
    await world.define()
    return world


@pytest.fixture
async def server(world: World) -> AsyncIterator[HttpServer]:
    async with serving(world) as server:
        yield server


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[HttpServer]:
    server = HttpServer(world.app, bind("127.0.0.1", 0, setting="API_PORT"), grace_s=1.0)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def connect(server: HttpServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", httpx.URL(server.address).port)


async def talk(server: HttpServer, *pieces: bytes) -> bytes:
    """All that comes back until the server closes, or has nothing more to say."""
    reader, writer = await connect(server)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0.001)
    said = b""
    try:
        async with asyncio.timeout(2):
            while chunk := await reader.read(65_536):
                said += chunk
                if said.endswith(b"}"):
                    break
    finally:
        writer.close()
    return said


def status_and_code(said: bytes) -> tuple[int, str]:
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split()[1]), orjson.loads(body)["code"]


async def test_a_start_goes_through_a_real_socket(world: World, server: HttpServer) -> None:
    """In one piece, or byte by byte."""
    assert (await talk(server, HEAD + b"\r\n" + START)).startswith(b"HTTP/1.1 202 ")
    pieces = [bytes([byte]) for byte in HEAD + b"\r\n" + START]
    assert (await talk(server, *pieces)).startswith(b"HTTP/1.1 202 ")
    assert len(world.sent) == 2


async def test_an_endless_header_is_cut(world: World, server: HttpServer) -> None:
    """A header that never ends is answered with 431 while it comes in, instead of being kept."""
    reader, writer = await connect(server)
    writer.write(HEAD + b"X-Long: ")
    refused = False
    for _ in range(1_000):
        try:
            writer.write(b"x" * 16_384)
            await writer.drain()
        except ConnectionError:
            refused = True
        if refused or reader.at_eof():
            break
    else:
        pytest.fail("16 MB of one header were taken")
    writer.close()
    assert world.sent == []


async def test_a_head_over_its_bound_is_answered(server: HttpServer) -> None:
    """The 431 has the shape of every problem."""
    pieces = [b"x" * 40_000] * 3
    assert status_and_code(await talk(server, HEAD + b"X-Long: ", *pieces)) == (431, "headers_too_large")


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /api/v1/trigger HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /api/v1/trigger HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /health\r\n\r\n",
    ],
)
async def test_what_is_no_request_is_a_problem(server: HttpServer, text: bytes) -> None:
    """Bytes that httptools refuses, and HTTP/0.9 that it takes, get a 400 like any other, with its headers."""
    said = await talk(server, text)
    assert status_and_code(said) == (400, "request_malformed")
    assert b"\r\nx-content-type-options: nosniff\r\n" in said


async def test_a_client_sees_the_413_although_it_still_sends(world: World, server: HttpServer) -> None:
    """The answer is not lost to a broken connection."""
    async with httpx.AsyncClient(base_url=server.address) as client:
        answer = await client.post(
            "/api/v1/trigger", content=b"x" * 3_000_000, headers={"Content-Type": "application/json"}
        )
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert world.sent == []


async def test_a_client_that_leaves_in_the_middle_of_a_body_starts_nothing(
    world: World, server: HttpServer, caplog: pytest.LogCaptureFixture
) -> None:
    """And leaves no stack trace behind."""
    caplog.set_level(logging.INFO)
    _, writer = await connect(server)
    writer.write(HEAD + b"\r\n" + START[:10])
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.transport.abort()
    await until(lambda: any(" 499 " in record.getMessage() for record in caplog.records))
    assert world.sent == []
    assert [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR] == []


async def test_head_is_get_without_the_body(server: HttpServer) -> None:
    """Status and headers are those of the GET."""
    async with httpx.AsyncClient(base_url=server.address) as client:
        for path, status in (("/health", 200), ("/api/v1/runs/none", 404), ("/api/v1/trigger", 405)):
            head, get = await client.head(path), await client.get(path)
            assert (head.status_code, head.content) == (status, b"")
            assert head.headers["content-type"] == get.headers["content-type"]
            assert head.headers["content-length"] == get.headers["content-length"]


async def test_a_client_that_asks_first_is_told_before_it_sends(world: World, server: HttpServer) -> None:
    """Expect: 100-continue is answered with the 413, and never with a 100."""
    head = HEAD.replace(b"Content-Length: 24", b"Content-Length: 99999999\r\nExpect: 100-continue")
    assert (await talk(server, head + b"\r\n")).startswith(b"HTTP/1.1 413 ")
    said = await talk(server, HEAD + b"Expect: 100-continue\r\n\r\n", START)
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")
    assert len(world.sent) == 1


async def test_trailers_are_dropped(world: World, server: HttpServer) -> None:
    """Fields after a chunked body do not become headers."""
    head = HEAD.replace(b"Content-Length: 24", b"Transfer-Encoding: chunked")
    said = await talk(server, head + b"\r\n18\r\n" + START + b"\r\n0\r\nIdempotency-Key: " + b"k" * 300 + b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 202 ")
    assert len(world.sent) == 1


async def test_requests_under_way_end_before_the_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop waits for the answers that are owed."""
    asked, go_on = asyncio.Event(), asyncio.Event()
    send = world.commands.send

    async def slowly(command: Outgoing) -> dict[tuple[str, int], int]:
        asked.set()
        await go_on.wait()
        return await send(command)

    monkeypatch.setattr(world.commands, "send", slowly)
    async with serving(world) as server:
        talking = asyncio.create_task(talk(server, HEAD + b"\r\n" + START))
        await asked.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.05)
        assert not stopping.done()
        go_on.set()
        assert (await talking).startswith(b"HTTP/1.1 202 ")
        await stopping


async def test_a_port_in_use_is_a_bad_setting(server: HttpServer) -> None:
    """With the setting's name and what to do."""
    port = httpx.URL(server.address).port or 0
    with pytest.raises(BadSetting, match=f"API_PORT={port} cannot be used: the port is in use"):
        bind("127.0.0.1", port, setting="API_PORT")
    with pytest.raises(BadSetting, match="API_PORT"):
        bind("203.0.113.1", 0, setting="API_PORT")


async def test_other_roles_have_probes_too() -> None:
    """Worker and projector answer /health, /ready and /metrics, and nothing else."""
    report = ReadyReport(ready=True, status="degraded", components={"store": Component("degraded", "down")})
    page = MetricsPage("projector", lambda: of_report(report))
    probes = await serve_probes("127.0.0.1", 0, lambda: report, page)
    try:
        async with httpx.AsyncClient(base_url=probes.address) as client:
            for path in ("/health", "/livez"):
                assert (await client.get(path)).json() == {"status": "ok"}
            for path in ("/ready", "/readyz"):
                answer = await client.get(path)
                assert (answer.status_code, answer.json()["components"]["store"]["detail"]) == (200, "down")
            metrics = await client.get("/metrics")
            assert metrics.headers["content-type"].startswith("text/plain; version=")
            assert 'workflow_component_ok{component="store"} 0.0' in metrics.text
            report = ReadyReport(ready=False, status="draining", components={})
            assert (await client.get("/ready")).status_code == 503
            assert (await client.get("/api/v1/runs")).status_code == 404
            assert (await client.post("/health")).status_code == 405
    finally:
        await probes.stop()
