"""The outermost layer: ids of requests, bounds before the body, clients that leave, and mistakes of our own."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import httpx
import pytest

from api import middleware
from api.ports import Component, ReadyReport
from tests.api.exchange import TRIGGER, exchange
from tests.api.world import World, client_of, make_world, problem

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
