"""Lists of runs through the API: filters, pages, cursors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone

import httpx
import pytest

from api import cursors
from api.errors import CursorRefused
from schemas import position as positions
from schemas.identity import home
from tests.api.world import PARTITIONS, World, client_of, make_world, pointers, problem

RUNS = "/api/v1/runs"


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


async def many(world: World, count: int = 7) -> None:
    for number in range(count):
        story = world.story(f"r{number}", at_s=number, workflow_id="bill" if number % 2 else "greet")
        await world.tell(story)


async def walk(client: httpx.AsyncClient, path: str) -> list[str]:
    """All run ids of a list, by following the Link header."""
    seen: list[str] = []
    while True:
        answer = await client.get(path)
        assert answer.status_code == 200, answer.text
        seen += [item["run_id"] for item in answer.json()["items"]]
        if "next" not in answer.links:
            assert answer.json()["next_cursor"] is None
            return seen
        path = answer.links["next"]["url"]
        assert answer.json()["next_cursor"] in path


async def test_runs_are_listed_newest_first_in_pages(world: World, client: httpx.AsyncClient) -> None:
    """Every run once, over as many pages as it takes, each answer with a position."""
    await many(world)
    assert await walk(client, f"{RUNS}?limit=3") == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    position = positions.decode((await client.get(RUNS)).headers["workflow-position"])
    assert position == {("e", n): len(world.log.records[n]) for n in range(PARTITIONS) if world.folds[n].position}


async def test_a_page_that_is_exactly_full_is_the_last(world: World, client: httpx.AsyncClient) -> None:
    """No cursor that leads to an empty page."""
    await many(world, 4)
    assert (await client.get(f"{RUNS}?limit=4")).json()["next_cursor"] is None


async def test_filters_go_with_the_cursor(world: World, client: httpx.AsyncClient) -> None:
    """By workflow, status and time, page by page."""
    await many(world)
    story = world.story("open", at_s=3.5)
    await world.tell(story, [story.requested(world.log.epochs[home("open", PARTITIONS)])])
    assert await walk(client, f"{RUNS}?limit=1&workflow_id=bill") == ["r5", "r3", "r1"]
    assert await walk(client, f"{RUNS}?limit=1&status=PENDING") == ["open"]
    created = (await client.get(f"{RUNS}/r3")).json()["created_at"]
    assert await walk(client, f"{RUNS}?limit=2&created_after={created}") == ["r6", "r5", "r4", "open"]
    assert await walk(client, f"{RUNS}?created_before={created}&status=SUCCESS&workflow_id=greet") == ["r2", "r0"]
    elsewhere = datetime.fromisoformat(created).astimezone(timezone(timedelta(hours=2))).isoformat().replace("+", "%2B")
    assert await walk(client, f"{RUNS}?created_before={elsewhere}") == ["r2", "r1", "r0"]


async def test_a_cursor_belongs_to_its_filter(world: World, client: httpx.AsyncClient) -> None:
    """With another filter, or none, it is a 400 that names the filter."""
    await many(world)
    cursor = (await client.get(f"{RUNS}?limit=1&workflow_id=bill")).json()["next_cursor"]
    for query in ("workflow_id=greet", "", "workflow_id=bill&status=SUCCESS"):
        body = problem(await client.get(f"{RUNS}?limit=1&cursor={cursor}&{query}".rstrip("&")), 400, "cursor_refused")
        assert ("status=SUCCESS" if "status" in query else "workflow_id=bill") in body["detail"]
    other = (await client.get(f"{RUNS}/r1/events?limit=1")).json()["next_cursor"]
    problem(await client.get(f"{RUNS}?cursor={other}"), 400, "cursor_refused")
    problem(await client.get(f"/api/v1/workflows?cursor={cursor}"), 400, "cursor_refused")


@pytest.mark.parametrize("cursor", ["", "x", "ä", "bnVsbA", "W10", "W3t9LFtdXQ", "W3t9LCJhIl0", "x" * 3000])
async def test_a_text_that_is_no_cursor_is_a_400(client: httpx.AsyncClient, cursor: str) -> None:
    """Whatever it decodes to."""
    for path in (RUNS, "/api/v1/workflows", f"{RUNS}/r1/events"):
        problem(await client.get(path, params={"cursor": cursor}), 400, "cursor_refused")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "query/limit"),
        ("limit=501", "query/limit"),
        ("limit=ten", "query/limit"),
        ("limit=1&limit=2", "query/limit"),
        ("limit=99999999999999999999", "query/limit"),
        ("status=DONE", "query/status"),
        ("status=", "query/status"),
        ("workflow_id=-", "query/workflow_id"),
        ("workflow_id=a%00", "query/workflow_id"),
        ("created_after=yesterday", "query/created_after"),
        ("created_after=2026-01-01", "query/created_after"),
        ("created_after=2026-01-01T00:00:00", "query/created_after"),
        ("created_before=0001-01-01T00:00:00%2B23:59", "query/created_before"),
        ("created_before=9999-12-31T23:59:59-01:00", "query/created_before"),
        ("created_before=2026-02-30T00:00:00Z", "query/created_before"),
        ("stauts=FAILED", "query/stauts"),
    ],
)
async def test_a_wrong_parameter_is_named(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    """400 with the parameter, unknown ones included."""
    assert pointers(problem(await client.get(f"{RUNS}?{query}"), 400, "parameter_invalid")) == [pointer]


async def test_a_limit_over_its_bound_tells_the_bound(client: httpx.AsyncClient) -> None:
    """The answer names the limit and its setting."""
    error = problem(await client.get(f"{RUNS}?limit=501"), 400, "parameter_invalid")["errors"][0]
    assert error["limit"] == 500
    assert "WORKFLOW_PAGE_ITEMS_MAX" in error["detail"]


async def test_a_page_ends_before_it_gets_too_large(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large runs make short pages; the cursor leads on, and nothing is lost."""
    monkeypatch.setattr("api.pages.PAGE_BYTES_MAX", 5_000)
    for number in range(6):
        await world.tell(world.story(f"r{number}", at_s=number, payload={"x": "y" * 1_500}))
    assert len((await client.get(RUNS)).json()["items"]) == 2
    assert await walk(client, RUNS) == [f"r{number}" for number in range(5, -1, -1)]


async def test_a_long_page_is_gathered_from_several_queries(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many rows are asked of the store at once does not show."""
    monkeypatch.setattr("api.pages.ROWS_AT_ONCE", 2)
    await many(world)
    assert await walk(client, f"{RUNS}?limit=5") == ["r6", "r5", "r4", "r3", "r2", "r1", "r0"]


@pytest.mark.parametrize("after", [[2**63], ["2026-01-01T00:00:00.000Z", "a\0"]])
def test_a_cursor_that_no_store_could_be_asked_with(after: list[str | int]) -> None:
    """Somebody made it up: its key is one that no list of ours has."""
    bound = {"list": "runs"}
    with pytest.raises(CursorRefused):
        cursors.decode(cursors.encode(bound, after), bound, tuple(map(type, after)))


async def test_a_cursor_with_a_time_that_is_none(client: httpx.AsyncClient) -> None:
    """Made up with the right filters: refused before the store is asked."""
    bound = dict.fromkeys(("workflow_id", "status", "created_after", "created_before", "as_of"))
    made_up = cursors.encode({"list": "runs", **bound}, ["x", "r1"])
    problem(await client.get("/api/v1/runs", params={"cursor": made_up}), 400, "cursor_refused")
