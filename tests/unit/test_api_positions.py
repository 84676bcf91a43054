"""Read your writes, everywhere: each write tells a position, each read can wait for one and tells where it stood."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import position as positions
from tests.api.calls import CALLS, call, callable_world
from tests.api.world import World, client_of, pointers, problem
from tests.histories import definition

FAR = "d0.99-e0.99-k0.99"
API = {name: (method, path) for name, (method, path, _) in CALLS.items() if path.startswith("/api/v1/")}
READS = [name for name, (method, _) in API.items() if method == "GET"]
STARTS = ("trigger", "trigger_batch")
WRITES = [name for name, (method, _) in API.items() if method != "GET"]


@pytest.fixture
async def world() -> World:
    return await callable_world()


async def operations(world: World) -> dict[str, dict[str, Any]]:
    """Every operation under the API's path, as its document shows it."""
    async with client_of(world) as client:
        document = (await client.get("/api/v1/openapi.json")).json()
    return {
        operation["operationId"]: operation
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if path.startswith("/api/v1/")
    }


async def test_the_document_forgets_no_operation(world: World) -> None:
    """A position with each good answer and with none other; two parameters on what reads, and on what starts runs of a
    definition, none on other writes."""
    found = await operations(world)
    assert found.keys() == API.keys()
    for name, operation in found.items():
        told = {
            status for status, response in operation["responses"].items() if "Workflow-Position" in response["headers"]
        }
        assert told == {status for status in operation["responses"] if status < "400"}, name
        parameters = {parameter["name"] for parameter in operation.get("parameters", [])}
        waits = name in (*READS, *STARTS)
        assert parameters & {"min_position", "wait"} == ({"min_position", "wait"} if waits else set()), name


@pytest.mark.parametrize("name", READS)
async def test_a_read_waits_for_a_position_and_tells_one(world: World, name: str) -> None:
    """And says so when it has waited in vain."""
    async with client_of(world, world.keys.add("boss", "admin")) as client:
        token = (await call(client, name)).headers["Workflow-Position"]
        assert positions.encode(positions.decode(token)) == token
        again = {"min_position": token, "wait": "0.01"}
        assert (await call(client, name, again)).status_code == 200
        answer = await call(client, name, {"min_position": FAR, "wait": "0.01"})
        problem(answer, 503, "position_not_reached")


@pytest.mark.parametrize("name", WRITES)
async def test_a_write_tells_a_position(world: World, name: str) -> None:
    boss = world.keys.add("boss", "admin")
    async with client_of(world, boss) as client:
        if name == "projections_cancel":
            await call(client, "projections_rebuild")
        answer = await (client.delete(f"/api/v1/keys/{boss.id}") if name == "keys_revoke" else call(client, name))
        assert answer.is_success, answer.text
        token = answer.headers["Workflow-Position"]
        assert positions.encode(positions.decode(token)) == token


@pytest.mark.parametrize("name", STARTS)
async def test_a_start_waits_for_the_definition_that_it_is_to_have(world: World, name: str) -> None:
    """Another process has taken a new version: who names its position gets it, and who names none may get the one before."""
    second = definition("greet", 3)
    world.catalog.behind.append(world.catalog.catalog.next_record(second, "2026-01-02T00:00:00.000Z", None))
    async with client_of(world, world.keys.add("boss", "admin")) as client:
        await call(client, name)
        answer = await call(client, name, {"min_position": "d0.2"})
        assert answer.status_code == 202, answer.text
        assert [command["data"]["version"] for command in world.sent] == [1, 2]
        problem(await call(client, name, {"min_position": "d0.9", "wait": "0.01"}), 503, "position_not_reached")
        wrong = problem(await call(client, name, {"min_position": "nonsense"}), 400, "parameter_invalid")
        assert pointers(wrong) == ["query/min_position"]
        unknown = problem(await call(client, name, {"limit": "1"}), 400, "parameter_invalid")
        assert "min_position, wait" in unknown["errors"][0]["detail"]
    assert len(world.sent) == 2
