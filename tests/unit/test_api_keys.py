"""Idempotency keys: one key, one run, whoever asks and however often."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from api.app import build_app
from schemas.errors import OutcomeUnknown, StoreAway
from schemas.identity import keyed_run_id
from tests.api.world import World, client_of, make_world, pointers, problem

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


async def test_after_an_unknown_outcome_the_repeat_is_the_same_run(world: World, client: httpx.AsyncClient) -> None:
    """The key leads to the same id, so that the log settles whether it was started before."""
    world.commands.failure = OutcomeUnknown(reason="no answer")
    unknown = (await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))).json()
    world.commands.failure = None
    again = await client.post(TRIGGER, json={"workflow_id": "greet"}, headers=keyed("k1"))
    assert again.json()["run_id"] == unknown["run_ids"][0]
