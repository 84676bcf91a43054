"""The outermost layer: ids of requests, bounds before the body, clients that leave, and mistakes of our own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import Message

from api import body as bodies
from api import middleware
from api.ports import Component, ReadyReport
from tests.api.world import World, client_of, make_world, pointers, problem

TRIGGER = "/api/v1/trigger"
START = b'{"workflow_id": "greet"}'
JSON = (b"content-type", b"application/json")


@pytest.fixture
async def world() -> World:
    world = make_world(workflow_body_bytes_max=2_000, workflow_batch_bytes_max=4_000)
    await world.define()
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


class Exchange:
    """One request as the server hands it to the app: message by message."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = list(messages)
        self.received = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        self.received += 1
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> Any:
        return orjson.loads(b"".join(message.get("body", b"") for message in self.sent[1:]))


async def exchange(
    world: World, *chunks: bytes, left: bool = False, headers: Iterable[tuple[bytes, bytes]] = (), **scope: Any
) -> Exchange:
    """POST /api/v1/trigger with a body in chunks; `left`: the client leaves before the last one."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": left or n < len(chunks)}
        for n, chunk in enumerate(chunks, 1)
    ]
    if left:
        messages.append({"type": "http.disconnect"})
    there = Exchange(messages)
    request = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": TRIGGER,
        "raw_path": TRIGGER.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [JSON, *headers],
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
        **scope,
    }
    await world.app(request, there.receive, there.send)
    return there


async def test_a_request_id_is_taken_over(client: httpx.AsyncClient) -> None:
    """A sane one comes back, on answers and on problems."""
    assert (await client.get("/health", headers={"X-Request-Id": "abc-1"})).headers["x-request-id"] == "abc-1"
    answer = await client.get("/nothing", headers={"X-Request-Id": "abc-2"})
    assert problem(answer, 404, "path_unknown")["request_id"] == "abc-2"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "-a", "a\x7f"])
async def test_a_request_id_that_is_not_sane_is_replaced(client: httpx.AsyncClient, given: str) -> None:
    """What could break a log line or a header is not repeated."""
    assert (await client.get("/health", headers={"X-Request-Id": given})).headers["x-request-id"] not in ("", given)


async def test_each_request_is_logged_with_its_id(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    """Method, path as it came, status and id; no line break of the caller's; probes stay out of it."""
    caplog.set_level(logging.INFO, "api.access")
    await client.get("/api/v1/runs/a%0Ab", headers={"X-Request-Id": "id-1"})
    await client.get("/health")
    lines = [record.getMessage() for record in caplog.records if record.name == "api.access"]
    assert len(lines) == 1
    assert lines[0].startswith("GET /api/v1/runs/a%0Ab 400 ")
    assert lines[0].endswith("request_id=id-1")


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


async def test_requests_at_once_are_bounded(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound there is a 503 with Retry-After, and the probes are still answered."""
    monkeypatch.setattr(middleware, "REQUESTS_MAX", 0)
    answer = await client.get("/api/v1/runs")
    problem(answer, 503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    for probe in sorted(middleware.PROBES):
        assert (await client.get(probe)).status_code == 200


async def test_headers_and_address_are_bounded(client: httpx.AsyncClient) -> None:
    """431 and 414 with their limits."""
    answer = await client.get("/health", headers={f"X-{n}": "y" * 8_000 for n in range(9)})
    assert str(middleware.HEADERS_BYTES_MAX) in problem(answer, 431, "headers_too_large")["detail"]
    answer = await client.get("/api/v1/runs?cursor=" + "c" * middleware.URI_BYTES_MAX)
    assert str(middleware.URI_BYTES_MAX) in problem(answer, 414, "uri_too_long")["detail"]


async def test_an_old_protocol_is_refused(world: World) -> None:
    """HTTP/0.9 has no headers and no status."""
    there = await exchange(world, http_version="0.9", method="GET", path="/health", raw_path=b"/health")
    assert (there.status, there.body["code"]) == (400, "request_malformed")


async def test_unknown_paths_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    """404 and 405, the latter with Allow; a trailing slash is another path."""
    problem(await client.get("/api/v1/nothing"), 404, "path_unknown")
    problem(await client.get("/api/v1/runs/"), 404, "path_unknown")
    for method, path, allowed in (
        ("GET", TRIGGER, "POST"),
        ("DELETE", "/api/v1/runs/r1", "GET"),
        ("PUT", "/health", "GET"),
        ("DELETE", "/api/v1/workflows", "GET, POST"),
    ):
        answer = await client.request(method, path)
        problem(answer, 405, "method_refused")
        assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/api/v1/runs/r1", TRIGGER])
async def test_a_mistake_of_ours_is_a_500_without_its_insides(
    world: World,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    path: str,
) -> None:
    """The answer says nothing of the cause; the log has it beside the request id."""

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(world.store, "run", broken)
    monkeypatch.setattr(world.commands, "send", broken)
    request = client.get(path) if "runs" in path else client.post(path, json={"workflow_id": "greet"})
    answer = await request
    assert "secret" not in answer.text
    body = problem(answer, 500, "internal_error")
    failed = [record for record in caplog.records if record.exc_info]
    assert [body["request_id"] in record.getMessage() for record in failed] == [True]


async def test_the_root_leads_to_the_docs(client: httpx.AsyncClient) -> None:
    """A browser at / sees the documentation."""
    answer = await client.get("/", follow_redirects=True)
    assert (answer.status_code, answer.url.path) == (200, "/docs")


async def test_health_is_the_process_alone(world: World, client: httpx.AsyncClient) -> None:
    """Whatever /ready says, and by its alias."""
    world.health.answer = ReadyReport(ready=False, status="starting", components={})
    for path in ("/health", "/livez"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("ready", "said", "status"),
    [(True, "ready", 200), (True, "degraded", 200), (False, "starting", 503), (False, "draining", 503)],
)
async def test_ready_tells_what_is_degraded_without_turning_red(
    world: World, client: httpx.AsyncClient, ready: bool, said: str, status: int
) -> None:
    """503 only before the start is over and after the stop has begun."""
    parts = {"kafka": Component("degraded", "no answer"), "store": Component("ok")}
    world.health.answer = ReadyReport(ready=ready, status=said, components=parts)
    for path in ("/ready", "/readyz"):
        answer = await client.get(path)
        assert answer.status_code == status
        assert answer.json() == {
            "status": said,
            "components": {
                "kafka": {"state": "degraded", "detail": "no answer"},
                "store": {"state": "ok", "detail": ""},
            },
        }
