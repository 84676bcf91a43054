"""The corpus against the API of a whole platform: what is wrong is refused and leaves nothing, what is odd comes back exact."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import httpx
import orjson
import pytest

from tests import servers
from tests.api.client import define, delay, ended, platform_settings, start
from tests.api.platform import Platform, Process
from tests.hostile.addresses import MALFORMED, TARGETS, UNRESOLVED
from tests.hostile.corpus import REFUSED_REQUESTS
from tests.hostile.platform import Caller, bad_signs, ends, exchanged, listener
from tests.hostile.requests import RUNS, Case
from tests.hostile.texts import LEGAL
from tests.hostile.wire import TOKENS, WIRE
from tests.judging import differences

UNREACHED = {"connection_failed", "address_denied"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(
    kafka: servers.Address, postgres: servers.Address, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """One platform for the whole corpus, whose webhooks may go to public addresses alone. At its end no log tells of a
    mistake of ours, and `verify` finds nothing."""
    name, folder = f"hostile_{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("platform")
    dsn = asyncio.run(servers.create_database(postgres.address, name))
    settings = platform_settings(kafka.address, dsn, name, folder).model_copy(update={"webhook_allow": ""})
    platform = Platform(settings, folder)
    try:
        platform.start("api", "worker", "projector")
        yield platform
        assert bad_signs([process.log for process in platform.processes]) == []
        assert asyncio.run(differences(settings)) == []
    finally:
        platform.close()
        asyncio.run(servers.delete_topics(kafka.address, f"{name}."))
        asyncio.run(servers.drop_database(postgres.address, name))


@pytest.fixture
def api(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.of("api")[0].address, timeout=30) as client:
        yield client


@pytest.fixture
def odd(api: httpx.Client) -> str:
    """The workflow that the cases name. Making it once more changes nothing."""
    answer = api.post("/api/v1/workflows", json={"id": "odd", "name": "Odd", "steps": [delay("a")]})
    assert answer.status_code in {200, 201}
    return "odd"


def test_what_is_refused_leaves_nothing(platform: Platform, api: httpx.Client, odd: str) -> None:
    """Each wrong request gets the status and the problem that its case states, and no topic has grown."""
    ended(api, start(api, odd))
    before = asyncio.run(ends(platform.settings))
    caller = Caller(platform.of("api")[0].address)
    answers = {case.name: caller.ask(case).told for case in REFUSED_REQUESTS}
    caller.close()
    expected = {case.name: case.expected for case in REFUSED_REQUESTS}
    assert {name: told for name, told in answers.items() if told != expected[name]} == {}
    assert asyncio.run(ends(platform.settings)) == before


def test_bytes_that_are_no_request_leave_nothing(platform: Platform, api: httpx.Client, odd: str) -> None:
    """Broken, smuggled and cut requests get a clean status or a closed connection, and the API goes on."""
    ended(api, start(api, odd))
    before = asyncio.run(ends(platform.settings))
    address = platform.of("api")[0].address
    answers = {name: exchanged(address, wire.sent) for name, wire in WIRE.items()}
    expected = {name: [wire.status] if wire.status else [] for name, wire in WIRE.items()}
    assert {name: (told, expected[name]) for name, told in answers.items() if told != expected[name]} == {}
    assert asyncio.run(ends(platform.settings)) == before
    assert api.get("/ready").status_code == 200


def test_what_is_odd_comes_back_exact(api: httpx.Client, odd: str) -> None:
    """Legal texts and numbers are in the run as they were sent, and in its first event."""
    started = {
        name: start(api, odd, {"odd": value}, **{"Idempotency-Key": f"key {n}"})
        for n, (name, value) in enumerate(LEGAL.items())
    }
    for name, told in started.items():
        run = ended(api, told)
        event = api.get(f"{RUNS}/{told['run_id']}/events").json()["items"][0]
        expected = orjson.dumps({"odd": LEGAL[name]})
        assert run["status"] == "SUCCESS", name
        assert (orjson.dumps(run["payload"]), orjson.dumps(event["data"]["payload"])) == (expected, expected), name


def test_a_description_comes_back_exact(api: httpx.Client) -> None:
    """Whatever text may be a payload may describe a workflow."""
    texts = {name: text for name, text in LEGAL.items() if isinstance(text, str) and len(text) <= 10_000}
    for n, (name, text) in enumerate(texts.items()):
        body = {"id": f"described-{n}", "name": "Odd", "description": text, "steps": [delay("a")]}
        assert api.post("/api/v1/workflows", json=body).status_code == 201, name
        assert api.get(f"/api/v1/workflows/described-{n}").json()["description"] == text, name


def test_who_is_not_let_in_leaves_nothing(platform: Platform) -> None:
    """Each Authorization that is none gets a 401, for a read and for a start."""
    (guarded,) = _guarded(platform)
    before = asyncio.run(ends(platform.settings))
    caller = Caller(guarded.address)
    for method, path, body in (("GET", RUNS, None), ("POST", "/api/v1/trigger", b'{"workflow_id":"odd"}')):
        cases = [
            Case(name, "401 not_authenticated", method, path, body, ((b"Authorization", token),))
            for name, token in TOKENS.items()
        ]
        answers = {case.name: caller.ask(case).told for case in cases}
        assert {name: told for name, told in answers.items() if told != "401 not_authenticated"} == {}
    caller.close()
    assert asyncio.run(ends(platform.settings)) == before


def _guarded(platform: Platform) -> list[Process]:
    """An API that asks for keys."""
    open_settings = platform.settings
    platform.settings = open_settings.model_copy(update={"workflow_auth": "keys"})
    try:
        return platform.start("api")
    finally:
        platform.settings = open_settings


def test_no_webhook_gets_into_the_network(api: httpx.Client) -> None:
    """Every form of an address that is not public fails its run by name, and nobody was connected to."""
    call = {
        "name": "call",
        "type": "webhook",
        "config": {"url": "${payload.url}"},
        "retry": {"max_attempts": 1},
    }
    workflow = define(api, "ssrf", [call])
    with listener() as target:
        urls = {name: f"http://{host}:{target.port}/" for name, host in TARGETS.items()}
        for table in (UNRESOLVED, MALFORMED):
            urls |= {name: url.replace("{port}", str(target.port)) for name, url in table.items()}
        started = {name: start(api, workflow, {"url": url}) for name, url in urls.items()}
        runs = {name: ended(api, told) for name, told in started.items()}
        assert target.connections == 0
    assert {name for name, run in runs.items() if run["status"] != "FAILED"} == set()
    codes = {name: run["error"]["code"] for name, run in runs.items()}
    assert {name: codes[name] for name in TARGETS if codes[name] != "address_denied"} == {}
    assert {name: codes[name] for name in UNRESOLVED if codes[name] not in UNREACHED} == {}
    assert {name: codes[name] for name in MALFORMED if codes[name] != "config_invalid"} == {}


def test_the_listener_counts() -> None:
    """It would have seen a connection over IPv4 and over IPv6."""
    with listener() as target:
        for host in ("127.0.0.1", "[::1]"):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"http://{host}:{target.port}/")
        assert target.connections == 2
