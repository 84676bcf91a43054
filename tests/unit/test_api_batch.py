"""Many starts at once: all of them or none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pytest

from schemas.errors import OutcomeUnknown
from schemas.identity import keyed_run_id
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
