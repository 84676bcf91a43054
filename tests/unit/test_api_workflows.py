"""Defining workflows through the API, and looking at them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.definitions import id_from_name
from schemas.errors import BrokerAway, OutcomeUnknown
from schemas.identity import WORKFLOW_ID
from tests.api.world import World, client_of, make_world, pointers, problem

WORKFLOWS = "/api/v1/workflows"
STEP = {"name": "wait", "type": "delay", "config": {"duration": "50ms"}}


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


def posted(**fields: Any) -> dict[str, Any]:
    return {"id": "greet", "name": "Greet", "steps": [STEP], **fields}


async def test_a_definition_gets_a_version(client: httpx.AsyncClient) -> None:
    """201 with the definition, its version, a Location and a position."""
    answer = await client.post(WORKFLOWS, json=posted(description="hello"))
    assert answer.status_code == 201
    body = answer.json()
    assert (body["id"], body["version"], body["description"], body["steps"]) == ("greet", 1, "hello", [STEP])
    assert answer.headers["location"] == "/api/v1/workflows/greet?version=1"
    assert answer.headers["workflow-position"] == body["position"] == "d0.1"


async def test_the_same_body_again_is_the_same_version(client: httpx.AsyncClient) -> None:
    """200, and no new version, however the text is laid out."""
    await client.post(WORKFLOWS, json=posted())
    again = await client.post(WORKFLOWS, json=dict(reversed(posted(description="").items())))
    assert (again.status_code, again.json()["version"]) == (200, 1)


async def test_a_changed_body_is_a_new_version(client: httpx.AsyncClient) -> None:
    """Each change counts up, also one that goes back to an older text."""
    for version, description in enumerate(["a", "b", "a"], 1):
        answer = await client.post(WORKFLOWS, json=posted(description=description))
        assert (answer.status_code, answer.json()["version"]) == (201, version)


async def test_without_an_id_the_name_makes_one(client: httpx.AsyncClient) -> None:
    """The same name, the same workflow: repeating the request stays safe."""
    body = {"name": "User Onboarding", "steps": [STEP]}
    first = await client.post(WORKFLOWS, json=body)
    assert (first.status_code, first.json()["id"]) == (201, "user-onboarding")
    assert (await client.post(WORKFLOWS, json=body)).status_code == 200


@pytest.mark.parametrize("name", ["Ünïcode", "日本語", "---", "x" * 200, "a", "A.b_c", "É" * 200])
def test_every_name_makes_a_sound_id(name: str) -> None:
    """Whatever the name is, the id is one that paths and topics take."""
    assert WORKFLOW_ID.match(id_from_name(name))
    assert id_from_name(name) == id_from_name(name)


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        (posted(id="a b"), "/id", "value_error"),
        (posted(id=5), "/id", "string_type"),
        ({"id": "greet", "steps": [STEP]}, "/name", "missing"),
        (posted(name=""), "/name", "string_too_short"),
        (posted(steps=[]), "/steps", "too_short"),
        (posted(steps={}), "/steps", "tuple_type"),
        (posted(extra=1), "/extra", "unknown_field"),
        (posted(steps=[STEP, STEP]), "/steps", "value_error"),
        (posted(steps=[{**STEP, "type": "teleport"}]), "/steps/0", "union_tag_invalid"),
        (posted(steps=[{**STEP, "config": {}}]), "/steps/0/config/duration", "missing"),
        (posted(steps=[{**STEP, "config": {"duration": "2 parsecs"}}]), "/steps/0/config/duration", "value_error"),
        (posted(steps=[{**STEP, "config": {"duration": 1, "for": 2}}]), "/steps/0/config/for", "unknown_field"),
        (
            posted(steps=[{"name": "c", "type": "webhook", "config": {"url": "ftp://x"}}]),
            "/steps/0/config/url",
            "value_error",
        ),
        (
            posted(
                steps=[{"name": "c", "type": "webhook", "config": {"url": "http://x"}, "retry": {"max_attempts": 0}}]
            ),
            "/steps/0/retry/max_attempts",
            "greater_than_equal",
        ),
        (
            posted(steps=[{**STEP, "config": {"duration": "${payload.x"}}]),
            "/steps/0/config/duration",
            "template_refused",
        ),
        (
            posted(steps=[{"name": "c", "type": "webhook", "config": {"url": "http://x", "body": {"a": ["${1 +}"]}}}]),
            "/steps/0/config/body/a/0",
            "expression_invalid",
        ),
        ([], "", "model_type"),
    ],
)
async def test_a_mistake_is_named_at_its_place(
    world: World, client: httpx.AsyncClient, body: Any, pointer: str, code: str
) -> None:
    """422 with a pointer into the body as it was posted; nothing is defined."""
    answer = problem(await client.post(WORKFLOWS, json=body), 422, "body_invalid")
    assert [(error["pointer"], error["code"]) for error in answer["errors"]] == [(pointer, code)]
    assert world.catalog.newest() == []


async def test_all_mistakes_are_told_at_once(client: httpx.AsyncClient) -> None:
    """Fields and expressions alike."""
    steps = [
        {"name": "1st", "type": "delay", "config": {"duration": -1}},
        {"name": "b", "type": "webhook", "config": {"url": "http://x/${payload.", "headers": {"a": "${)}"}}},
    ]
    body = problem(await client.post(WORKFLOWS, json=posted(steps=steps)), 422, "body_invalid")
    assert set(pointers(body)) == {
        "/steps/0/name",
        "/steps/0/config/duration",
        "/steps/1/config/url",
        "/steps/1/config/headers/a",
    }


async def test_a_limit_is_told(client: httpx.AsyncClient) -> None:
    """An error that comes of a bound carries it."""
    body = problem(await client.post(WORKFLOWS, json=posted(name="n" * 201)), 422, "body_invalid")
    assert body["errors"][0]["limit"] == 200


async def test_a_definition_has_bounds() -> None:
    """Its size and its number of steps are settings, named by the refusal."""
    world = make_world(workflow_definition_bytes_max=2_000, workflow_steps_max=3)
    async with client_of(world) as client:
        body = problem(await client.post(WORKFLOWS, json=posted(description="d" * 2_000)), 413, "too_large")
        assert "WORKFLOW_DEFINITION_BYTES_MAX" in body["detail"]
        steps = [{**STEP, "name": f"s{n}"} for n in range(4)]
        error = problem(await client.post(WORKFLOWS, json=posted(steps=steps)), 422, "body_invalid")["errors"][0]
        assert (error["pointer"], error["limit"]) == ("/steps", 3)


def call(**config: Any) -> dict[str, Any]:
    return {"name": "c", "type": "webhook", "config": {"url": "http://x", **config}}


@pytest.mark.parametrize(
    ("setting", "limit", "body", "pointer"),
    [
        ("workflow_name_chars_max", 200, posted(name="n" * 201), "/name"),
        ("workflow_name_chars_max", 5, posted(name="sixsix"), "/name"),
        ("workflow_name_chars_max", 5, posted(id="sixsix"), "/id"),
        ("workflow_name_chars_max", 200, posted(id="i" * 201), "/id"),
        ("workflow_name_chars_max", 5, posted(steps=[{**STEP, "name": "sixsix"}]), "/steps/0/name"),
        ("workflow_name_chars_max", 200, posted(steps=[{**STEP, "name": "s" * 201}]), "/steps/0/name"),
        ("workflow_description_chars_max", 10_000, posted(description="d" * 10_001), "/description"),
        ("workflow_description_chars_max", 0, posted(description="d"), "/description"),
        ("workflow_steps_max", 200, posted(steps=[{**STEP, "name": f"s{n}"} for n in range(201)]), "/steps"),
        ("workflow_steps_max", 1, posted(steps=[STEP, {**STEP, "name": "b"}]), "/steps"),
        ("workflow_delay_max_s", 60, posted(steps=[{**STEP, "config": {"duration": "61s"}}]), "/steps/0/config/duration"),
        ("workflow_delay_max_s", 60, posted(steps=[{**STEP, "config": {"duration": 61}}]), "/steps/0/config/duration"),
        ("workflow_delay_max_s", 60, posted(steps=[call(retry={"max": "2m"})]), "/steps/0/config/retry/max"),
        ("workflow_delay_max_s", 60, posted(steps=[{**call(), "retry": {"initial": "2m"}}]), "/steps/0/retry/initial"),
        ("workflow_expression_bytes_max", 4_096, posted(steps=[call(body="${'" + "x" * 4_095 + "'}")]), "/steps/0/config/body"),
        ("workflow_expression_bytes_max", 16, posted(steps=[call(body=["${1 + 2 + 3 + 4 + 5}"])]), "/steps/0/config/body/0"),
        ("workflow_expression_bytes_max", 4_096, posted(steps=[call(body="${" + "x" * 20_000 + "}")]), "/steps/0/config/body"),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_limit_and_its_setting(setting: str, limit: int, body: Any, pointer: str) -> None:
    """Once, at its place, whether the setting is at its default or lower."""
    async with client_of(make_world(**{setting: limit})) as client:
        error, *more = problem(await client.post(WORKFLOWS, json=body), 422, "body_invalid")["errors"]
    assert (error["pointer"], error["limit"], more) == (pointer, limit, [])
    assert f"{limit}" in error["detail"]
    assert f"(setting {setting.upper()})" in error["detail"]


@pytest.mark.parametrize(
    "body",
    [
        posted(name="n" * 200, description="d" * 10_000),
        posted(steps=[{**STEP, "config": {"duration": "60s"}}, call(retry={"initial": 1, "max": "1m"})]),
        posted(steps=[call(body="${'" + "x" * 4_094 + "'}")]),
    ],
)
async def test_what_is_at_its_limit_is_taken(body: Any) -> None:
    """A bound is the most that is allowed."""
    async with client_of(make_world(workflow_delay_max_s=60)) as client:
        assert (await client.post(WORKFLOWS, json=body)).status_code == 201


@pytest.mark.parametrize(
    ("config", "pointer", "says"),
    [
        ({"body": {"a": "${'a' + secrets.X}"}}, "/steps/0/config/body/a", "expressions cannot read secrets"),
        ({"body": "${secrets['X']}"}, "/steps/0/config/body", "a secret stands by itself"),
        ({"body": "${secrets.X.size()}"}, "/steps/0/config/body", "a secret stands by itself"),
        ({"method": "${secrets.X}"}, "/steps/0/config/method", "a secret cannot stand here"),
        ({"sign_with": "a b"}, "/steps/0/config/sign_with", "the name of a secret"),
        ({"url": "http://me:pass@x"}, "/steps/0/config/url", "user name"),
        ({"headers": {"Host": "x"}}, "/steps/0/config/headers", "'Host': the platform sets"),
        ({"headers": {"X": "a\nb"}}, "/steps/0/config/headers", "'X': its value holds a line break"),
    ],
)
async def test_what_cannot_be_sent_is_no_definition(
    world: World, client: httpx.AsyncClient, config: dict[str, Any], pointer: str, says: str
) -> None:
    """Where no value is needed to see it, it is refused when it is posted."""
    (error,) = problem(await client.post(WORKFLOWS, json=posted(steps=[call(**config)])), 422, "body_invalid")["errors"]
    assert error["pointer"] == pointer
    assert says in error["detail"]
    assert world.catalog.newest() == []


async def test_references_to_secrets_are_taken(client: httpx.AsyncClient) -> None:
    """In url, headers and body, and shown as they were written."""
    step = call(url="${secrets.URL}/x", headers={"X": "k ${secrets.K}"}, body=["${secrets.A}"], sign_with="S")
    answer = await client.post(WORKFLOWS, json=posted(steps=[step]))
    assert (answer.status_code, answer.json()["steps"]) == (201, [step])


async def test_too_many_expressions_are_refused(client: httpx.AsyncClient) -> None:
    """Each is compiled before the definition is taken, so their number has a bound."""
    body = {"name": "c", "type": "webhook", "config": {"url": "http://x", "body": ["${1}" * 100] * 11}}
    errors = problem(await client.post(WORKFLOWS, json=posted(steps=[body])), 422, "body_invalid")["errors"]
    assert [(error["code"], error["limit"]) for error in errors] == [("too_many", 1_000)]


@pytest.mark.parametrize(
    ("failure", "code"),
    [(BrokerAway(address="k", reason="r"), "broker_away"), (OutcomeUnknown(reason="r"), "outcome_unknown")],
)
async def test_kafka_away_is_a_503(world: World, client: httpx.AsyncClient, failure: Exception, code: str) -> None:
    """A definition that cannot be written is not answered as if it were."""
    world.catalog.failure = failure
    answer = await client.post(WORKFLOWS, json=posted())
    problem(answer, 503, code)
    assert answer.headers["retry-after"]


async def test_versions_can_be_read(client: httpx.AsyncClient) -> None:
    """The newest one, or any by its number."""
    for description in ("one", "two"):
        await client.post(WORKFLOWS, json=posted(description=description))
    assert (await client.get(f"{WORKFLOWS}/greet")).json()["description"] == "two"
    first = (await client.get(f"{WORKFLOWS}/greet?version=1")).json()
    assert (first["description"], first["version"]) == ("one", 1)
    problem(await client.get(f"{WORKFLOWS}/greet?version=3"), 404, "definition_unknown")
    problem(await client.get(f"{WORKFLOWS}/other"), 404, "definition_unknown")


@pytest.mark.parametrize(
    "path", [f"{WORKFLOWS}/-x", f"{WORKFLOWS}/a%00", f"{WORKFLOWS}/{'x' * 129}", f"{WORKFLOWS}/a%0A"]
)
async def test_a_bad_id_is_a_400(client: httpx.AsyncClient, path: str) -> None:
    """An id that no workflow can have is refused with the rule and its limit."""
    error = problem(await client.get(path), 400, "parameter_invalid")["errors"][0]
    assert (error["pointer"], error["code"], error["limit"]) == ("path/workflow_id", "bad_id", 128)


async def test_the_list_is_paged_by_id(client: httpx.AsyncClient) -> None:
    """Each workflow once, in its newest version, in the order of ids."""
    for name in ("d", "a", "c", "b", "a"):
        await client.post(WORKFLOWS, json=posted(id=name, description=name * 2))
    await client.post(WORKFLOWS, json=posted(id="a", description="new"))
    seen: list[tuple[str, int]] = []
    page = (await client.get(f"{WORKFLOWS}?limit=3")).json()
    seen += [(item["id"], item["version"]) for item in page["items"]]
    page = (await client.get(f"{WORKFLOWS}?limit=3&cursor={page['next_cursor']}")).json()
    seen += [(item["id"], item["version"]) for item in page["items"]]
    assert seen == [("a", 2), ("b", 1), ("c", 1), ("d", 1)]
    assert page["next_cursor"] is None


async def test_a_read_waits_for_a_definition_of_another_process(world: World, client: httpx.AsyncClient) -> None:
    """With the position of its 201 a definition is visible at every process; one from the future is a 503."""
    value = world.catalog.catalog.next_record({"id": "new", "name": "new", "steps": []}, "2026-01-01T00:00:00.000Z")
    world.catalog.behind.append(value)
    assert [item["id"] for item in (await client.get(f"{WORKFLOWS}?min_position=d0.1")).json()["items"]] == ["new"]
    answer = await client.get(f"{WORKFLOWS}/new?min_position=d0.5")
    body = problem(answer, 503, "position_not_reached")
    assert (body["min_position"], body["position"]) == ("d0.5", "d0.1")
    assert answer.headers["retry-after"] == "1"


async def test_definitions_do_not_wait_for_the_tables(client: httpx.AsyncClient) -> None:
    """The part of a position that is about runs is no matter of definitions."""
    await client.post(WORKFLOWS, json=posted())
    assert (await client.get(f"{WORKFLOWS}?min_position=t0.99-e1.5-d0.1")).status_code == 200
