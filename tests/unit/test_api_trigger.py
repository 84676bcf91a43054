"""Starting runs through the API: what is sent, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from schemas.errors import BrokerAway, OutcomeUnknown
from schemas.identity import home, keyed_run_id
from tests.api.world import PARTITIONS, World, client_of, make_world, pointers, problem

TRIGGER = "/api/v1/trigger"
BATCH = "/api/v1/trigger/batch"


@pytest.fixture
async def world() -> World:
    world = make_world()
    await world.define()
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


async def test_a_start_is_sent_with_the_version_that_was_checked(world: World, client: httpx.AsyncClient) -> None:
    """202 with the run's id and a position; the command names the newest version and carries the payload."""
    await world.define(steps=3)
    answer = await client.post(TRIGGER, json={"workflow_id": "greet", "payload": {"n": 1}})
    assert answer.status_code == 202
    assert answer.json() == {"run_id": "run-1", "status": "triggered", "position": f"t{home('run-1', PARTITIONS)}.1"}
    assert answer.headers["location"] == "/api/v1/runs/run-1"
    assert answer.headers["workflow-position"] == answer.json()["position"]
    assert world.sent[0]["type"] == "TriggerRun"
    assert world.sent[0]["data"] == {"run_id": "run-1", "workflow_id": "greet", "version": 2, "payload": {"n": 1}}


async def test_a_start_may_name_an_older_version(world: World, client: httpx.AsyncClient) -> None:
    """`version` in the body pins that version."""
    await world.define(steps=3)
    assert (await client.post(TRIGGER, json={"workflow_id": "greet", "version": 1})).status_code == 202
    assert world.sent[0]["data"]["version"] == 1


async def test_a_payload_arrives_exact(world: World, client: httpx.AsyncClient) -> None:
    """Integers past 2^53, floats and text are sent as they came."""
    body = b'{"workflow_id": "greet", "payload": {"big": 9007199254740993, "low": -9223372036854775808, "x": 0.1, "t": "\\ud83d\\ude00"}}'
    answer = await client.post(TRIGGER, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
    assert world.sent[0]["data"]["payload"] == {"big": 2**53 + 1, "low": -(2**63), "x": 0.1, "t": "😀"}


async def test_an_unknown_workflow_is_a_404(world: World, client: httpx.AsyncClient) -> None:
    """Nothing is sent for a workflow that nobody defined, or a version that it has not."""
    body = problem(await client.post(TRIGGER, json={"workflow_id": "nope"}), 404, "definition_unknown")
    assert "'nope'" in body["detail"]
    body = problem(await client.post(TRIGGER, json={"workflow_id": "greet", "version": 9}), 404, "definition_unknown")
    assert "version 9" in body["detail"]
    assert world.sent == []


async def test_a_definition_of_another_process_is_found(world: World, client: httpx.AsyncClient) -> None:
    """Before a 404 the topic is read to its end: it may have been defined elsewhere a moment ago."""
    world.catalog.behind.append(
        world.catalog.catalog.next_record({"id": "elsewhere", "steps": []}, "2026-01-01T00:00:00.000Z")
    )
    assert (await client.post(TRIGGER, json={"workflow_id": "elsewhere"})).status_code == 202


async def test_a_404_needs_a_broker_that_answers(world: World, client: httpx.AsyncClient) -> None:
    """Kafka away: an unknown workflow is not called unknown, because it cannot be known."""
    world.catalog.failure = BrokerAway(address="kafka:9092", reason="no answer")
    answer = await client.post(TRIGGER, json={"workflow_id": "nope"})
    problem(answer, 503, "broker_away")
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/workflow_id", "missing"),
        ({"workflow_id": 5}, "/workflow_id", "bad_id"),
        ({"workflow_id": "-greet"}, "/workflow_id", "bad_id"),
        ({"workflow_id": "greet\n"}, "/workflow_id", "bad_id"),
        ({"workflow_id": "g" * 129}, "/workflow_id", "bad_id"),
        ({"workflow_id": "greet", "payload": []}, "/payload", "not_an_object"),
        ({"workflow_id": "greet", "payload": None}, "/payload", "not_an_object"),
        ({"workflow_id": "greet", "version": 0}, "/version", "bad_version"),
        ({"workflow_id": "greet", "version": True}, "/version", "bad_version"),
        ({"workflow_id": "greet", "version": 1.0}, "/version", "bad_version"),
        ({"workflow_id": "greet", "version": 2**40}, "/version", "bad_version"),
        ({"workflow_id": "greet", "a/b~": 1}, "/a~1b~0", "unknown_field"),
        ([], "", "not_an_object"),
        ("greet", "", "not_an_object"),
    ],
)
async def test_a_wrong_body_names_the_field(
    world: World, client: httpx.AsyncClient, body: Any, pointer: str, code: str
) -> None:
    """422 with a pointer to what is wrong, and nothing is sent."""
    answer = problem(await client.post(TRIGGER, json=body), 422, "body_invalid")
    assert [(error["pointer"], error["code"]) for error in answer["errors"]] == [(pointer, code)]
    assert world.sent == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b'{"workflow_id": "greet", "workflow_id": "greet"}', "duplicate_key"),
        (b'{"workflow_id": "greet", "payload": {"n": 9223372036854775808}}', "integer_out_of_range"),
        (b'{"workflow_id": "greet", "payload": {"n": 1e400}}', "float_out_of_range"),
        (b'{"workflow_id": "greet", "payload": {"n": NaN}}', "not_a_number"),
        (b'{"workflow_id": "greet", "payload": {"n": "\\u0000"}}', "nul_character"),
        (b'{"workflow_id": "greet", "payload": {"n": "\\ud800"}}', "lone_surrogate"),
        (b'{"workflow_id": "greet", "payload": ' + b'{"a":' * 40 + b"1" + b"}" * 41, "too_deep"),
        (b"\xff\xfe", "not_utf8"),
    ],
)
async def test_json_that_no_store_can_hold_is_a_400(
    world: World, client: httpx.AsyncClient, text: bytes, code: str
) -> None:
    """The one table of JSON holds at the API, and nothing is sent."""
    answer = await client.post(TRIGGER, content=text, headers={"Content-Type": "application/json"})
    assert problem(answer, 400, "json_refused")["errors"][0]["code"] == code
    assert world.sent == []


async def test_a_json_refusal_names_place_and_limit(client: httpx.AsyncClient) -> None:
    """The pointer leads to the value, and the limit is the bound that it passed."""
    text = b'{"workflow_id": "greet", "payload": {"n": [0, 9223372036854775808]}}'
    answer = await client.post(TRIGGER, content=text, headers={"Content-Type": "application/json"})
    error = problem(answer, 400, "json_refused")["errors"][0]
    assert (error["pointer"], error["limit"]) == ("/payload/n/1", 2**63 - 1)


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
async def test_a_body_that_is_not_declared_to_be_json_is_a_415(
    world: World, client: httpx.AsyncClient, content_type: str | None
) -> None:
    """What curl -d sends without a header is refused with a hint."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    body = problem(
        await client.post(TRIGGER, content=b'{"workflow_id": "greet"}', headers=headers), 415, "media_type_refused"
    )
    assert "application/json" in body["detail"]
    assert world.sent == []


async def test_a_charset_beside_the_type_is_taken(client: httpx.AsyncClient) -> None:
    """`application/json; charset=utf-8` is JSON."""
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert (await client.post(TRIGGER, content=b'{"workflow_id": "greet"}', headers=headers)).status_code == 202


async def test_the_payload_has_its_own_bound() -> None:
    """A payload over its bound is a 413 that names bound and setting."""
    world = make_world(workflow_payload_bytes_max=100)
    await world.define()
    async with client_of(world) as client:
        at_bound = {"workflow_id": "greet", "payload": {"x": "y" * 92}}
        assert (await client.post(TRIGGER, json=at_bound)).status_code == 202
        over = {"workflow_id": "greet", "payload": {"x": "y" * 93}}
        body = problem(await client.post(TRIGGER, json=over), 413, "too_large")
        assert "101 bytes" in body["detail"]
        assert "WORKFLOW_PAYLOAD_BYTES_MAX" in body["detail"]
    assert len(world.sent) == 1


async def test_payload_definition_and_envelope_must_fit_a_record() -> None:
    """The sum is checked before the 202: a run that could never begin is refused."""
    world = make_world(workflow_record_bytes_max=64 * 1024, workflow_payload_bytes_max=64 * 1024)
    long = {
        "id": "long",
        "name": "long",
        "description": "d" * 9_000,
        "steps": [{"name": "a", "type": "delay", "config": {"duration": 0}}],
    }
    await world.catalog.define(long)
    await world.define()
    async with client_of(world) as client:
        payload = {"x": "y" * 40_000}
        assert (await client.post(TRIGGER, json={"workflow_id": "greet", "payload": payload})).status_code == 202
        body = problem(await client.post(TRIGGER, json={"workflow_id": "long", "payload": payload}), 413, "too_large")
        assert "WORKFLOW_RECORD_BYTES_MAX" in body["detail"]
    assert len(world.sent) == 1


async def test_kafka_away_is_a_clean_503(world: World, client: httpx.AsyncClient) -> None:
    """When nothing was sent, the answer says so."""
    world.commands.failure = BrokerAway(address="kafka:9092", reason="no connection; nothing was written")
    answer = await client.post(TRIGGER, json={"workflow_id": "greet"})
    assert "nothing was written" in problem(answer, 503, "broker_away")["detail"]
    assert answer.headers["retry-after"] == "2"


@pytest.mark.parametrize(
    ("key", "advice"), [("k1", "same Idempotency-Key is safe"), (None, "GET /api/v1/runs/run-1 tells")]
)
async def test_an_unknown_outcome_is_called_unknown(
    world: World, client: httpx.AsyncClient, key: str | None, advice: str
) -> None:
    """Once a send had begun, the 503 names the run that may start and says how to repeat it safely."""
    world.commands.failure = OutcomeUnknown(reason="no answer within 10 s")
    answer = await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed(key) if key else {})
    body = problem(answer, 503, "outcome_unknown")
    assert advice in body["detail"]
    assert body["run_ids"] == [keyed_run_id("", "greet", key) if key else "run-1"]
    assert answer.headers["retry-after"]


async def test_unknown_query_parameters_are_named(world: World, client: httpx.AsyncClient) -> None:
    """A start has no query."""
    body = problem(await client.post(f"{TRIGGER}?wait=1", json={"workflow_id": "greet"}), 400, "parameter_invalid")
    assert pointers(body) == ["query/wait"]
    assert world.sent == []
