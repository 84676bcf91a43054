"""The projection through the API: looked at, rebuilt, cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from projections import rebuild
from projections.board import Rebuild
from projections.rows import PROJECTION_VERSION
from tests.api.world import PARTITIONS, World, client_of, make_world, problem

PROJECTIONS = "/api/v1/projections"
RUNS = f"{PROJECTIONS}/runs"


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


async def work(world: World, rebuild_id: str) -> None:
    """As a process does that takes part."""
    await rebuild.work(world.settings, world.store, world.topics, lambda _: None, rebuild_id)


async def test_it_shows_how_far_the_tables_are(world: World, client: httpx.AsyncClient) -> None:
    """Their version, that of the program, and how many events they do not hold."""
    for partition in range(PARTITIONS):
        await world.project(partition)
    shown = (await client.get(RUNS)).json()
    assert shown == {
        "name": "runs",
        "version": PROJECTION_VERSION,
        "code_version": PROJECTION_VERSION,
        "state": "live",
        "behind": 0,
        "quarantined": 0,
        "partitions": [{"partition": n, "position": 1, "behind": 0} for n in range(PARTITIONS)],
        "rebuild": None,
        "old_tables": False,
    }
    assert (await client.get(PROJECTIONS)).json() == {"items": [shown]}
    world.log.take(0)
    behind = (await client.get(RUNS)).json()
    assert (behind["behind"], behind["partitions"][0]) == (1, {"partition": 0, "position": 1, "behind": 1})


async def test_a_rebuild_is_asked_for_done_and_reported(world: World, client: httpx.AsyncClient) -> None:
    """202 at once; whoever works on it brings it to its end; the report stands in the projection."""
    await world.tell(world.story("r1"))
    answer = await client.post(f"{RUNS}/rebuild")
    begun = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, RUNS)
    assert (begun["phase"], begun["by"], begun["report"], begun["partitions"]) == ("preparing", "the API", None, [])
    assert (await client.post(f"{RUNS}/rebuild")).json()["id"] == begun["id"]
    assert (await client.get(RUNS)).json()["state"] == "rebuilding"
    await work(world, begun["id"])
    shown = (await client.get(RUNS)).json()
    done = shown["rebuild"]
    assert (shown["state"], done["phase"], done["id"]) == ("live", "done", begun["id"])
    assert done["report"] == {"equal": 1, "differing": 0, "missing": 0, "extra": 0, "differences": []}
    assert done["events"] == done["total"] == sum(part["events"] for part in done["partitions"]) > 0
    assert {part["worker"] for part in done["partitions"]} == {None}
    assert (await client.get("/api/v1/runs/r1")).json()["status"] == "SUCCESS"
    assert (await client.post(f"{RUNS}/rebuild")).json()["id"] != begun["id"]


async def test_a_rebuild_is_cancelled_once(client: httpx.AsyncClient) -> None:
    """The second time there is none."""
    begun = (await client.post(f"{RUNS}/rebuild")).json()
    cancelled = (await client.post(f"{RUNS}/cancel")).json()
    assert (cancelled["id"], cancelled["phase"]) == (begun["id"], "cancelled")
    problem(await client.post(f"{RUNS}/cancel"), 409, "no_rebuild")


async def test_that_of_a_newer_release_is_left_alone(world: World, client: httpx.AsyncClient) -> None:
    """During its deployment the API of the release before neither begins one nor takes it over."""
    newer = Rebuild("x", "folding", "a newer release", PROJECTION_VERSION + 1, 0.0)
    await world.store.board().change(lambda _old, _now: (newer, None))
    problem(await client.post(f"{RUNS}/rebuild"), 409, "rebuild_of_another")
    assert (await client.get(RUNS)).json()["rebuild"]["by"] == "a newer release"


async def test_runs_that_cannot_be_folded_are_in_the_quarantine(world: World, client: httpx.AsyncClient) -> None:
    """Page by page, each with the reason; the others are not there."""
    for n in range(5):
        story = world.story(f"r{n}")
        await world.tell(story, [story.event(1, "RunRequested", {"workflow_id": 7}) if n else story.whole(1)[0]])
    assert (await client.get(RUNS)).json()["quarantined"] == 4
    seen, query = list[str](), ""
    while True:
        page = (await client.get(f"{RUNS}/quarantine?limit=3{query}")).json()
        assert all("cannot be folded" in item["reason"] for item in page["items"])
        seen += [item["run_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"&cursor={page['next_cursor']}"
    assert seen == ["r1", "r2", "r3", "r4"]


async def test_other_names_are_a_404(client: httpx.AsyncClient) -> None:
    """Which says the one that there is."""
    for answer in (
        await client.get(f"{PROJECTIONS}/walks"),
        await client.get(f"{PROJECTIONS}/walks/quarantine"),
        await client.post(f"{PROJECTIONS}/walks/rebuild"),
        await client.post(f"{PROJECTIONS}/walks/cancel"),
    ):
        assert "there is runs" in problem(answer, 404, "projection_unknown")["detail"]


async def test_stores_in_memory_have_nothing_to_rebuild() -> None:
    """They are made anew by each start."""
    async with client_of(make_world(storage_backend="memory")) as client:
        for answer in (await client.get(PROJECTIONS), await client.post(f"{RUNS}/rebuild")):
            assert "STORAGE_BACKEND=memory" in problem(answer, 409, "no_shared_tables")["detail"]


async def test_a_broker_that_is_away_is_a_503(world: World, client: httpx.AsyncClient) -> None:
    """Where the log ends is not known then."""
    world.topics.away = True
    problem(await client.get(RUNS), 503, "broker_away")
