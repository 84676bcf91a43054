"""Why a run is where it is, through the API: the store's run, the broker's word, the API's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, get_args

import httpx
import pytest

from api.ports import Outgoing
from api.why_body import WhyBody
from schemas.commands import TriggerRun, encode
from schemas.errors import StoreAway
from schemas.events import time_text
from schemas.identity import home
from streams.reasons import FIELDS, Reason, Worker
from tests.api.world import PARTITIONS, World, client_of, make_world, pointers, problem
from tests.histories import BASE_S, Story

R1 = home("r1", PARTITIONS)


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


async def why(client: httpx.AsyncClient, run_id: str = "r1", **query: str) -> dict[str, Any]:
    answer = await client.get(f"/api/v1/runs/{run_id}/why", params=query)
    assert answer.status_code == 200, answer.text
    WhyBody.model_validate_json(answer.content, strict=True)
    body: dict[str, Any] = answer.json()
    assert (body["run_id"], body["position"]) == (run_id, answer.headers["workflow-position"])
    return body


async def told(world: World, *events: tuple[str, dict[str, Any]]) -> Story:
    """A run to which this has happened."""
    story, epoch = world.story("r1"), world.log.epochs[R1]
    await world.tell(story, [story.requested(epoch), *(story.event(epoch, type_, data) for type_, data in events)])
    return story


async def delayed(world: World) -> Story:
    """A run that waits for a minute."""
    return await told(world, ("StepStarted", {"step": "step_0", "attempt": 1, "until": time_text(BASE_S + 60)}))


async def test_a_delay(world: World, client: httpx.AsyncClient) -> None:
    """Until when, and since when by the log's own time."""
    await delayed(world)
    body = await why(client)
    assert (body["code"], body["step"], body["until"]) == ("delay", "step_0", time_text(BASE_S + 60))
    assert body["since"] == time_text(world.log.records[R1][-1].timestamp / 1000)
    assert body["position"] == f"e{R1}.{len(world.log.records[R1])}"
    assert (body["partition"], body["worker"]["member"], body["tables_behind"]) == (R1, "w-1", None)


@pytest.mark.parametrize(
    ("worker", "behind", "code"),
    [
        (Worker("owned", "w-1", "h"), 0, "overdue"),
        (Worker("none"), 0, "no_worker"),
        (Worker("unknown", detail="no answer within 2 s"), None, "overdue"),
        (Worker("none"), 3, "tables_behind"),
    ],
)
async def test_what_is_around_a_run_decides_what_is_said(
    world: World, client: httpx.AsyncClient, worker: Worker, behind: int | None, code: str
) -> None:
    """The same run, long after its time: whom the broker names, and what the tables lack."""
    await delayed(world)
    world.now_s = BASE_S + 600
    world.owners.answer = worker
    world.owners.events = None if behind is None else len(world.log.records[R1]) + behind
    body = await why(client)
    assert (body["code"], body["worker"]["state"], body["tables_behind"]) == (code, worker.state, behind)


async def test_tables_ahead_of_what_the_broker_said(world: World, client: httpx.AsyncClient) -> None:
    """An end that was read a moment before the tables moved on is no lag."""
    await delayed(world)
    world.owners.events = 1
    assert (await why(client))["tables_behind"] == 0


async def test_a_default_timeout_is_that_of_the_settings() -> None:
    """The timeout of an attempt, counted from when the log took it."""
    world = make_world(workflow_step_timeout_s=7.0)
    await told(world, ("StepStarted", {"step": "step_0", "attempt": 1}))
    async with client_of(world) as other:
        body = await why(other)
    taken = world.log.records[R1][-1].timestamp / 1000
    assert (body["code"], body["until"]) == ("step_running", time_text(taken + 7))


async def test_a_finished_run(world: World, client: httpx.AsyncClient) -> None:
    """Says how and when, as the run itself does."""
    await world.tell(world.story("r1"))
    body, run = await why(client), (await client.get("/api/v1/runs/r1")).json()
    assert (body["code"], body["status"], body["since"]) == ("finished", run["status"], run["finished_at"])
    assert body["position"] == run["position"]


async def test_an_accepted_start(world: World, client: httpx.AsyncClient) -> None:
    """Waits to be taken; with the position of its 202 it is never unknown."""
    await world.define()
    started = (await client.post("/api/v1/trigger", json={"workflow_id": "greet"})).json()
    await world.show_pending(world.commands.sent[0])
    body = await why(client, started["run_id"], min_position=started["position"])
    assert (body["code"], body["before"], body["position"]) == ("command_waits", 0, started["position"])
    world.owners.answer = Worker("none")
    body = await why(client, started["run_id"])
    assert (body["code"], body["next_event"]) == ("no_worker", "RunRequested")
    world.owners.commands = 1
    assert (await why(client, started["run_id"]))["code"] == "tables_behind"


async def test_a_start_whose_version_is_not_defined(world: World, client: httpx.AsyncClient) -> None:
    """Another process may have defined it a moment ago, or nobody ever does."""
    run_id = "r1"
    command = TriggerRun(run_id, run_id, "greet", 9, {}, time_text(BASE_S))
    await world.show_pending(Outgoing(run_id, encode(command)))
    body = await why(client, run_id)
    assert (body["code"], body["detail"]) == ("definition_waits", "version 9 of workflow 'greet'")


async def test_a_run_that_tables_do_not_have_and_may_lack(world: World, client: httpx.AsyncClient) -> None:
    """Nobody can say that there is none while they are behind."""
    path = "/api/v1/runs/r1/why"
    world.owners.events = (await world.store.positions()).get(("e", R1), 0)
    assert problem(await client.get(path), 404, "run_unknown")["detail"] == "There is no run 'r1'."
    events, world.owners.events = world.owners.events, None
    assert "is not known now" in problem(await client.get(path), 404, "run_unknown")["detail"]
    world.owners.events = events
    world.owners.events, world.owners.commands = world.owners.events + 2, 1
    assert f"lack 3 records of partition {R1}" in problem(await client.get(path), 404, "run_unknown")["detail"]


async def test_an_api_whose_clock_is_wrong(world: World, client: httpx.AsyncClient) -> None:
    """Calls nothing overdue, and knows what has passed, by the clock of the store."""
    await delayed(world)
    world.store.clock = lambda: BASE_S + 5
    world.now_s = BASE_S + 3600
    assert (await why(client))["code"] == "delay"
    world.now_s = BASE_S - 3600
    answer = await client.get("/api/v1/runs", params={"as_of": time_text(BASE_S + 5)})
    assert (answer.status_code, len(answer.json()["items"])) == (200, 1)
    late = await client.get("/api/v1/runs", params={"as_of": time_text(BASE_S + 60)})
    assert pointers(problem(late, 400, "parameter_invalid")) == ["query/as_of"]


async def test_a_start_that_becomes_a_run_between_two_looks(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is looked at once more."""
    await delayed(world)
    standing, looks = world.store.standing, [None]

    async def late(run_id: str) -> Any:
        return looks.pop() if looks else await standing(run_id)

    monkeypatch.setattr(world.store, "standing", late)
    assert (await why(client))["code"] == "delay"


async def test_what_is_refused(world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown runs, ids that are none, positions that do not come, parameters that there are not, a store that is away."""
    problem(await client.get("/api/v1/runs/nope/why"), 404, "run_unknown")
    body = problem(await client.get("/api/v1/runs/-x/why"), 400, "parameter_invalid")
    assert pointers(body) == ["path/run_id"]
    await delayed(world)
    problem(await client.get("/api/v1/runs/r1/why?min_position=e0.999"), 503, "position_not_reached")
    assert pointers(problem(await client.get("/api/v1/runs/r1/why?at=1"), 400, "parameter_invalid")) == ["query/at"]

    async def away(run_id: str) -> None:
        raise StoreAway(reason=f"down for {run_id}")

    monkeypatch.setattr(world.store, "standing", away)
    problem(await client.get("/api/v1/runs/r1/why"), 503, "store_away")


def test_the_documented_shape_has_every_code_and_field() -> None:
    """A new reason is not forgotten in the API's description."""
    assert set(get_args(WhyBody.model_fields["code"].annotation)) == {kind.code for kind in get_args(Reason)}
    assert set(FIELDS) <= WhyBody.model_fields.keys()
