"""Bodies of requests: bounded before, while and after they come in; clients that leave in the middle."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from api import body as bodies
from tests.api.exchange import JSON, TRIGGER, Exchange, exchange
from tests.api.world import World, client_of, make_world, pointers, problem

START = b'{"workflow_id": "greet"}'


@pytest.fixture
async def world() -> World:
    world = make_world(workflow_body_bytes_max=2_000, workflow_batch_bytes_max=4_000)
    await world.define()
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


async def test_a_body_that_is_declared_too_large_is_not_read(world: World) -> None:
    """413 from the Content-Length alone, with Connection: close, before a byte is asked for."""
    there = await exchange(world, START, headers=[(b"content-length", b"2001")])
    assert there.status == 413
    assert there.headers[b"connection"] == b"close"
    assert there.body["code"] == "too_large"
    assert "WORKFLOW_BODY_BYTES_MAX" in there.body["detail"]
    assert world.sent == []


async def test_the_answer_goes_out_before_the_rest_is_thrown_away(world: World) -> None:
    """The 413 is complete on the wire while the client still sends; what comes is dropped, and then it ends."""
    there = await exchange(world, b"x" * 1_000, b"x" * 1_000, headers=[(b"content-length", b"2000000")])
    assert [(message["type"], message.get("more_body")) for message in there.sent] == [
        ("http.response.start", None),
        ("http.response.body", True),
        ("http.response.body", False),
    ]
    assert there.received == 2


async def test_throwing_away_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never stops sending, or stalls, is left."""
    monkeypatch.setattr("api.responses.LINGER_BYTES_MAX", 2_000)
    monkeypatch.setattr("api.responses.LINGER_S", 0.05)
    endless = await exchange(world, *[b"x" * 500] * 9, headers=[(b"content-length", b"9999999")])
    assert (endless.status, endless.received) == (413, 4)
    stalled = await exchange(world, headers=[(b"content-length", b"9999999")])
    assert (stalled.status, stalled.received) == (413, 1)


async def test_a_body_without_length_is_bounded_while_it_comes(world: World) -> None:
    """Chunked bodies end with the same 413 as soon as they pass the bound."""
    there = await exchange(world, *[b" " * 900] * 4)
    assert there.status == 413
    assert there.body["code"] == "too_large"
    assert world.sent == []


async def test_a_body_at_its_bound_is_taken(world: World) -> None:
    """The bound itself is allowed, in one piece or in chunks."""
    text = START[:-1] + b" " * (2_000 - len(START)) + b"}"
    assert (await exchange(world, text, headers=[(b"content-length", b"2000")])).status == 202
    assert (await exchange(world, text[:700], text[700:])).status == 202
    assert len(world.sent) == 2


async def test_a_batch_has_a_bound_of_its_own(client: httpx.AsyncClient) -> None:
    """Larger than that of a single start, by its own setting."""
    items = [{"workflow_id": "greet"}] * 100
    assert (await client.post(f"{TRIGGER}/batch", json={"items": items})).status_code == 202
    body = problem(await client.post(f"{TRIGGER}/batch", json={"items": items * 2}), 413, "too_large")
    assert "WORKFLOW_BATCH_BYTES_MAX" in body["detail"]


@pytest.mark.parametrize("length", [b"-1", b"ten", b"1.5", b""])
async def test_a_length_that_is_none_is_a_400(world: World, length: bytes) -> None:
    """The header is named."""
    there = await exchange(world, START, headers=[(b"content-length", length)])
    assert (there.status, pointers(there.body)) == (400, ["header/Content-Length"])


async def test_an_encoded_body_is_a_415(world: World) -> None:
    """Gzip is not unpacked here: what unpacks has no bound."""
    there = await exchange(world, START, headers=[(b"content-encoding", b"gzip")])
    assert (there.status, there.body["code"]) == (415, "media_type_refused")


@pytest.mark.parametrize("chunks", [(), (START[:9],), (START[:9], START[9:12])])
async def test_a_client_that_leaves_in_the_middle_starts_nothing(
    world: World, caplog: pytest.LogCaptureFixture, chunks: tuple[bytes, ...]
) -> None:
    """No run, no answer, no stack trace: a line of the log says that it left."""
    caplog.set_level(logging.INFO)
    there = await exchange(world, *chunks, left=True)
    assert there.sent == []
    assert world.sent == []
    assert [record.getMessage().split()[2] for record in caplog.records if record.name == "api.access"] == ["499"]
    assert all(record.exc_info is None for record in caplog.records)


async def test_a_body_that_stops_coming_is_a_408(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection cannot hold a place for ever."""
    monkeypatch.setattr(bodies, "BODY_WAIT_S", 0.02)
    there = Exchange([{"type": "http.request", "body": b"{", "more_body": True}])
    scope = {"headers": [JSON], "method": "POST", "path": TRIGGER, "raw_path": TRIGGER.encode(), "query_string": b""}
    await world.app({"type": "http", "http_version": "1.1", "root_path": "", **scope}, there.receive, there.send)
    assert (there.status, there.body["code"], there.headers[b"connection"]) == (408, "body_too_slow", b"close")


async def test_all_bodies_together_are_bounded(world: World) -> None:
    """Past the bound of the process a body is refused with 503; what was held is given back."""
    world.app.state.api.bodies._bytes_max = 1_000
    there = await exchange(world, b" " * 600, b" " * 600)
    assert (there.status, there.body["code"]) == (503, "overloaded")
    assert (await exchange(world, START[:5], START[5:])).status == 202
