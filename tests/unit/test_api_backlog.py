"""The bound on a workflow's unfinished runs: what is in the tables, and what was accepted and is not there yet."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from api import backlog
from api.backlog import Backlogs
from schemas.errors import BrokerAway, StoreAway
from schemas.position import Position
from tests.api.world import World, client_of, make_world, problem

TRIGGER = "/api/v1/trigger"
BATCH = "/api/v1/trigger/batch"


@pytest.fixture
async def world() -> World:
    world = make_world(workflow_pending_runs_max=3)
    await world.define()
    await world.define("other")
    return world


async def start(client: httpx.AsyncClient, workflow_id: str = "greet") -> httpx.Response:
    return await client.post(TRIGGER, json={"workflow_id": workflow_id})


async def test_further_starts_are_refused(world: World) -> None:
    """429 with the setting, the bound and when to come again; nothing is sent, and other workflows go on."""
    async with client_of(world) as client:
        for _ in range(3):
            assert (await start(client)).status_code == 202
        refused = await start(client)
        body = problem(refused, 429, "backlog_full")
        assert all(word in body["detail"] for word in ("'greet'", "3", "WORKFLOW_PENDING_RUNS_MAX"))
        assert refused.headers["retry-after"] == "5"
        assert (await start(client, "other")).status_code == 202
    assert len(world.sent) == 4


async def test_a_batch_fits_whole_or_not_at_all(world: World) -> None:
    """One start too many in it, and nothing is sent, also of the workflows that have room."""
    async with client_of(world) as client:
        items = [{"workflow_id": "other"}, *({"workflow_id": "greet"} for _ in range(4))]
        problem(await client.post(BATCH, json={"items": items}), 429, "backlog_full")
        assert world.sent == []
        assert (await client.post(BATCH, json={"items": items[:4]})).status_code == 202


async def test_runs_that_have_ended_make_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tables show as ended does not count; what they do not show yet does, and those that wait."""
    monkeypatch.setattr(backlog, "SURE_S", 0.0)
    async with client_of(world) as client:
        for _ in range(3):
            await start(client)
        for command in world.commands.sent:
            await world.show_pending(command)
        problem(await start(client), 429, "backlog_full")
        await world.tell(world.story(world.commands.sent[0].run_id, workflow_id="greet"))
        assert (await start(client)).status_code == 202
        problem(await start(client), 429, "backlog_full")


async def test_without_a_bound_nothing_is_asked() -> None:
    """0 is none."""
    world = make_world(workflow_pending_runs_max=0)
    await world.define()

    async def never(workflow_id: str, *, limit: int) -> int:
        raise AssertionError(workflow_id, limit)

    world.store.unfinished = never  # type: ignore[method-assign]
    async with client_of(world) as client:
        assert [(await start(client)).status_code for _ in range(5)] == [202] * 5


class Away:
    """A store that does not answer."""

    async def positions(self) -> Position:
        raise StoreAway(store="postgres", reason="gone")


async def test_a_store_that_is_away_refuses_nothing_by_itself() -> None:
    """What was accepted here counts all the same, and a start that failed does not."""
    backlogs = Backlogs(Away(), 2)  # type: ignore[arg-type]

    async def sent() -> Position:
        await asyncio.sleep(0)
        return {("t", 0): 1}

    async def lost() -> Position:
        raise BrokerAway(address="127.0.0.1:1", reason="gone")

    for _ in range(3):
        with pytest.raises(BrokerAway):
            await backlogs.send({"greet": 1}, lost)
    results = await asyncio.gather(*(backlogs.send({"greet": 1}, sent) for _ in range(4)), return_exceptions=True)
    assert [isinstance(result, dict) for result in results].count(True) == 2


async def test_a_count_that_is_fresh_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand starts within a second ask the store once."""
    world = make_world()
    await world.define()
    asked, unfinished = [], world.store.unfinished

    async def counting(workflow_id: str, *, limit: int) -> int:
        asked.append((workflow_id, limit))
        return await unfinished(workflow_id, limit=limit)

    monkeypatch.setattr(world.store, "unfinished", counting)
    monkeypatch.setattr(backlog, "FRESH_S", 60.0)
    async with client_of(world) as client:
        for _ in range(50):
            await start(client)
            await asyncio.sleep(0)
    assert asked == [("greet", world.settings.workflow_pending_runs_max)]
