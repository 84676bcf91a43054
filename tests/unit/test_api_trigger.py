"""Starting runs through the API: what is sent, what is answered, what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from api.app import build_app
from schemas.errors import BrokerAway, OutcomeUnknown, StoreAway
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


async def test_a_key_names_one_run(world: World, client: httpx.AsyncClient) -> None:
    """The same key and body again are answered with the same run, marked as replayed, without a second command."""
    body = {"workflow_id": "greet", "payload": {"n": 1}}
    first = await client.post(TRIGGER, json=body, headers=keyed("k1"))
    again = await client.post(TRIGGER, json=body, headers=keyed("k1"))
    assert first.json()["run_id"] == keyed_run_id("", "greet", "k1")
    assert (again.status_code, again.json()) == (202, first.json())
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(world.sent) == 1


async def test_a_key_is_known_from_the_tables_too(world: World, client: httpx.AsyncClient) -> None:
    """Another process answers the repeat from the run's row: same id, and the position of the run's last event."""
    run_id = keyed_run_id("", "greet", "k1")
    story = world.story(run_id, payload={"n": 1})
    await world.tell(story)
    answer = await client.post(TRIGGER, json={"workflow_id": "greet", "payload": {"n": 1}}, headers=keyed("k1"))
    assert (answer.status_code, answer.json()["run_id"]) == (202, run_id)
    assert answer.headers["idempotent-replayed"] == "true"
    assert answer.json()["position"].startswith("e")
    assert world.sent == []


async def test_a_pending_run_counts_as_known(world: World, client: httpx.AsyncClient) -> None:
    """A command that no worker has taken yet answers the repeat as well."""
    await client.post(TRIGGER, json={"workflow_id": "greet", "payload": {"n": 1}}, headers=keyed("k1"))
    await world.show_pending(world.commands.sent[0])
    other = build_app(world.app.state.api.deps)  # another process: nothing remembered
    async with httpx.AsyncClient(transport=httpx.ASGITransport(other), base_url="http://b") as second:
        answer = await second.post(TRIGGER, json={"workflow_id": "greet", "payload": {"n": 1}}, headers=keyed("k1"))
        assert answer.headers["idempotent-replayed"] == "true"
        problem(
            await second.post(TRIGGER, json={"workflow_id": "greet", "payload": {"n": 2}}, headers=keyed("k1")),
            422,
            "idempotency_key_reused",
        )
    assert len(world.sent) == 1


@pytest.mark.parametrize("shown", [False, True])
async def test_a_known_key_with_another_payload_is_a_422(world: World, client: httpx.AsyncClient, shown: bool) -> None:
    """Whether this process remembers the start or the tables show it: the key is taken."""
    if shown:
        await world.tell(world.story(keyed_run_id("", "greet", "k1"), payload={"n": 1}))
    else:
        await client.post(TRIGGER, json={"workflow_id": "greet", "payload": {"n": 1}}, headers=keyed("k1"))
    before = len(world.sent)
    for payload in ({"n": 2}, {"n": True}, {}, {"n": 1, "m": 2}):
        answer = await client.post(TRIGGER, json={"workflow_id": "greet", "payload": payload}, headers=keyed("k1"))
        assert pointers(problem(answer, 422, "idempotency_key_reused")) == ["/payload"]
    assert len(world.sent) == before


async def test_a_known_key_with_another_version_is_a_422(world: World, client: httpx.AsyncClient) -> None:
    """Naming another version than the run has is another start; naming none is the same one."""
    await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))
    await world.define(steps=3)
    assert (await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))).status_code == 202
    assert (
        await client.post(TRIGGER, json={"workflow_id": "greet", "version": 1}, headers=keyed("k1"))
    ).status_code == 202
    answer = await client.post(TRIGGER, json={"workflow_id": "greet", "version": 2}, headers=keyed("k1"))
    assert pointers(problem(answer, 422, "idempotency_key_reused")) == ["/version"]
    assert len(world.sent) == 1


async def test_the_order_of_keys_does_not_make_another_payload(world: World, client: httpx.AsyncClient) -> None:
    """Two texts of the same JSON value are the same start."""
    for text in (
        b'{"workflow_id":"greet","payload":{"a":1,"b":2}}',
        b'{"payload": {"b": 2, "a": 1}, "workflow_id": "greet"}',
    ):
        answer = await client.post(TRIGGER, content=text, headers={"Content-Type": "application/json", **keyed("k1")})
        assert answer.status_code == 202
    assert len(world.sent) == 1


async def test_the_same_key_for_two_workflows_is_two_runs(world: World, client: httpx.AsyncClient) -> None:
    """A key belongs to a workflow."""
    await world.define("bill")
    first = await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))
    second = await client.post(TRIGGER, json={"workflow_id": "bill"}, headers=keyed("k1"))
    assert first.json()["run_id"] != second.json()["run_id"]


@pytest.mark.parametrize("key", ["", "k" * 256, "a\x7f", "ключ"])
async def test_a_key_that_cannot_be_one_is_a_400(world: World, client: httpx.AsyncClient, key: str) -> None:
    """Keys are 1 to 255 printable ASCII characters."""
    headers = [(b"Content-Type", b"application/json"), (b"Idempotency-Key", key.encode())]
    answer = await client.post(TRIGGER, content=b'{"workflow_id": "greet"}', headers=headers)
    error = problem(answer, 400, "parameter_invalid")["errors"][0]
    assert (error["pointer"], error["limit"]) == ("header/Idempotency-Key", 255)
    assert world.sent == []


async def test_two_keys_are_a_400(client: httpx.AsyncClient) -> None:
    """A request has one key."""
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(await client.post(TRIGGER, content=b'{"workflow_id": "greet"}', headers=headers), 400, "parameter_invalid")


async def test_a_keyed_start_needs_the_store(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the tables a repeat cannot be told from a new start: 503, nothing sent. A start without a key goes on."""

    async def away(run_id: str) -> None:
        raise StoreAway(reason="down")

    monkeypatch.setattr(world.store, "run", away)
    problem(await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1")), 503, "store_away")
    assert world.sent == []
    assert (await client.post(TRIGGER, json={"workflow_id": "greet"})).status_code == 202


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


async def test_after_an_unknown_outcome_the_repeat_is_the_same_run(world: World, client: httpx.AsyncClient) -> None:
    """The key leads to the same id, so that the log settles whether it was started before."""
    world.commands.failure = OutcomeUnknown(reason="no answer")
    unknown = (await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))).json()
    world.commands.failure = None
    again = await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))
    assert again.json()["run_id"] == unknown["run_ids"][0]


async def test_unknown_query_parameters_are_named(world: World, client: httpx.AsyncClient) -> None:
    """A start has no query."""
    body = problem(await client.post(f"{TRIGGER}?wait=1", json={"workflow_id": "greet"}), 400, "parameter_invalid")
    assert pointers(body) == ["query/wait"]
    assert world.sent == []


async def test_a_batch_is_sent_whole(world: World, client: httpx.AsyncClient) -> None:
    """202 with the ids in the order of the items and one position over all partitions."""
    items = [{"workflow_id": "greet", "payload": {"n": n}} for n in range(20)]
    answer = await client.post(BATCH, json={"items": items})
    assert answer.status_code == 202
    assert answer.json()["run_ids"] == [f"run-{n}" for n in range(1, 21)]
    assert [command["data"]["payload"] for command in world.sent] == [{"n": n} for n in range(20)]
    assert answer.json()["position"].count("-") == PARTITIONS - 1


async def test_one_invalid_item_stops_the_whole_batch(world: World, client: httpx.AsyncClient) -> None:
    """422 with a pointer to every mistake, and nothing is sent."""
    good: dict[str, Any] = {"workflow_id": "greet"}
    items: list[Any] = [
        good,
        {"workflow_id": "greet", "payload": 5},
        good,
        7,
        {"workflow_id": "greet", "x": 1, "version": 0},
    ]
    body = problem(await client.post(BATCH, json={"items": items}), 422, "body_invalid")
    assert pointers(body) == ["/items/1/payload", "/items/3", "/items/4/x", "/items/4/version"]
    assert world.sent == []


async def test_unknown_workflows_of_a_batch_are_all_named(world: World, client: httpx.AsyncClient) -> None:
    """An item that names no workflow, or no version of it, stops the batch."""
    items = [{"workflow_id": "greet"}, {"workflow_id": "nope"}, {"workflow_id": "greet", "version": 7}]
    body = problem(await client.post(BATCH, json={"items": items}), 422, "body_invalid")
    assert pointers(body) == ["/items/1/workflow_id", "/items/2/version"]
    assert world.sent == []


async def test_a_batch_has_bounds() -> None:
    """Too many items, none, or an item over its payload's bound: 422 naming the bound."""
    world = make_world(workflow_batch_items_max=3, workflow_payload_bytes_max=50)
    await world.define()
    async with client_of(world) as client:
        items = [{"workflow_id": "greet"}] * 4
        error = problem(await client.post(BATCH, json={"items": items}), 422, "body_invalid")["errors"][0]
        assert (error["pointer"], error["limit"]) == ("/items", 3)
        assert pointers(problem(await client.post(BATCH, json={"items": []}), 422, "body_invalid")) == ["/items"]
        assert pointers(problem(await client.post(BATCH, json={}), 422, "body_invalid")) == ["/items"]
        assert pointers(problem(await client.post(BATCH, json={"items": items[:1], "x": 1}), 422, "body_invalid")) == [
            "/x"
        ]
        large = [*items[:2], {"workflow_id": "greet", "payload": {"x": "y" * 50}}]
        error = problem(await client.post(BATCH, json={"items": large}), 422, "body_invalid")["errors"][0]
        assert (error["pointer"], error["limit"]) == ("/items/2/payload", 50)
    assert world.sent == []


async def test_the_first_hundred_errors_of_a_batch_are_shown(client: httpx.AsyncClient) -> None:
    """The list of errors is bounded, and the detail tells how many there are."""
    body = problem(await client.post(BATCH, json={"items": [0] * 500}), 422, "body_invalid")
    assert len(body["errors"]) == 100
    assert "(and 499 more)" in body["detail"]


async def test_a_batch_may_be_repeated_with_its_key(world: World, client: httpx.AsyncClient) -> None:
    """The header's key and an item's number name the run; an item's own key is the key of a single start."""
    items = [{"workflow_id": "greet"}, {"workflow_id": "greet", "idempotency_key": "mine"}]
    first = await client.post(BATCH, json={"items": items}, headers=keyed("b1"))
    again = await client.post(BATCH, json={"items": items}, headers=keyed("b1"))
    assert first.json()["run_ids"] == again.json()["run_ids"]
    assert first.json()["run_ids"][1] == keyed_run_id("", "greet", "mine")


async def test_one_key_twice_in_a_batch_is_one_start_or_a_mistake(world: World, client: httpx.AsyncClient) -> None:
    """With equal payloads it is sent once; with different ones the batch is refused."""
    item = {"workflow_id": "greet", "idempotency_key": "k", "payload": {"n": 1}}
    answer = await client.post(BATCH, json={"items": [item, item]})
    assert len(set(answer.json()["run_ids"])) == len(world.sent) == 1
    other = {**item, "payload": {"n": 2}}
    body = problem(await client.post(BATCH, json={"items": [item, other]}), 422, "body_invalid")
    assert pointers(body) == ["/items/1/idempotency_key"]


async def test_a_batch_of_unknown_outcome_names_all_ids(world: World, client: httpx.AsyncClient) -> None:
    """503 with every id that may have been started."""
    world.commands.failure = OutcomeUnknown(reason="no answer")
    answer = await client.post(BATCH, json={"items": [{"workflow_id": "greet"}] * 3})
    body = problem(answer, 503, "outcome_unknown")
    assert body["run_ids"] == ["run-1", "run-2", "run-3"]
    assert "each" in body["detail"]


async def test_large_bodies_are_parsed_all_the_same(world: World, client: httpx.AsyncClient) -> None:
    """A batch that is parsed beside the event loop gives the same commands and the same refusals."""
    items = [{"workflow_id": "greet", "payload": {"x": "y" * 3000, "n": n}} for n in range(200)]
    assert (await client.post(BATCH, json={"items": items})).status_code == 202
    assert len(world.sent) == 200
    text = orjson.dumps({"items": items}).replace(b'"n":7}', b'"n":NaN}')
    answer = await client.post(BATCH, content=text, headers={"Content-Type": "application/json"})
    assert problem(answer, 400, "json_refused")["errors"][0]["pointer"] == "/items/7/payload/n"
