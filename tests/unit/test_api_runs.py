"""Looking at runs through the API: one, many, their history; never older than what was seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import orjson
import pytest

from api import reads
from schemas import position as positions
from schemas.errors import StoreAway
from schemas.identity import digest, home
from schemas.store import StoredRun
from tests.api.world import PARTITIONS, World, client_of, make_world, pointers, problem

RUNS = "/api/v1/runs"


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


async def test_a_finished_run_shows_everything(world: World, client: httpx.AsyncClient) -> None:
    """Status, results by step, steps with attempts and times, and a position."""
    story = world.story("r1", payload={"n": 1})
    await world.tell(story)
    body = (await client.get(f"{RUNS}/r1")).json()
    assert (body["run_id"], body["workflow_id"], body["version"], body["status"]) == ("r1", "greet", 1, "SUCCESS")
    assert (body["payload"], body["results"], body["error"]) == ({"n": 1}, {"step_0": None, "step_1": None}, None)
    assert [(step["name"], step["status"], step["attempts"]) for step in body["steps"]] == [
        ("step_0", "SUCCESS", 1),
        ("step_1", "SUCCESS", 1),
    ]
    assert body["created_at"] < body["started_at"] < body["finished_at"]
    assert body["position"] == f"e{home('r1', PARTITIONS)}.{len(world.log.records[home('r1', PARTITIONS)])}"


async def test_an_unknown_run_is_a_404(client: httpx.AsyncClient) -> None:
    """With the hint to pass the position."""
    assert "'nope'" in problem(await client.get(f"{RUNS}/nope"), 404, "run_unknown")["detail"]
    problem(await client.get(f"{RUNS}/nope/events"), 404, "run_unknown")


@pytest.mark.parametrize("run_id", ["-x", "a%20b", "x" * 129, "a%0A", "%C3%A9"])
@pytest.mark.parametrize("suffix", ["", "/events"])
async def test_a_bad_id_is_a_400(client: httpx.AsyncClient, run_id: str, suffix: str) -> None:
    """An id that no run can have is refused with the rule and its limit."""
    error = problem(await client.get(f"{RUNS}/{run_id}{suffix}"), 400, "parameter_invalid")["errors"][0]
    assert (error["pointer"], error["code"], error["limit"]) == ("path/run_id", "bad_id", 128)


async def test_an_accepted_start_is_never_a_404_for_its_caller(world: World, client: httpx.AsyncClient) -> None:
    """The read that is given the 202's position waits until the tables show the run, PENDING."""
    await world.define()
    started = (await client.post("/api/v1/trigger", json={"workflow_id": "greet", "payload": {"n": 1}})).json()
    reading = asyncio.create_task(client.get(f"{RUNS}/{started['run_id']}?min_position={started['position']}"))
    await asyncio.sleep(0.01)
    assert not reading.done()
    await world.show_pending(world.commands.sent[0])
    body = (await reading).json()
    assert (body["status"], body["payload"], body["seq"]) == ("PENDING", {"n": 1}, 0)
    assert body["position"] == started["position"]


READS = (
    *(f"{RUNS}/r1{suffix}" for suffix in ("", "/events", "/proof", "/why")),
    *(RUNS, "/api/v1/run-counts", "/api/v1/projections/runs/quarantine"),
)


async def test_a_wait_is_bounded(world: World, client: httpx.AsyncClient) -> None:
    """Tables that do not get there: 503 with Retry-After, on every kind of read, with what is lacking and where they stand."""
    await world.tell(world.story("r1"))
    partition = home("r1", PARTITIONS)
    at = world.folds[partition].position
    for path in READS:
        answer = await client.get(f"{path}?min_position=e{partition}.{at}-e{(partition + 1) % PARTITIONS}.999-d0.9")
        body = problem(answer, 503, "position_not_reached")
        other = (partition + 1) % PARTITIONS
        assert (body["min_position"], body["position"]) == (f"e{other}.999", f"e{other}.0")
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("wait", ["0", "0.01", "10ms", "0.01s", "0s"])
async def test_a_caller_may_wait_for_less(wait: str) -> None:
    """In seconds or with a unit. Even who does not want to wait is shown what is there."""
    world = make_world(workflow_position_wait_s=60)
    await world.tell(world.story("r1"))
    partition = home("r1", PARTITIONS)
    at = world.folds[partition].position
    async with client_of(world) as client:
        for path in READS:
            level = await client.get(path, params={"min_position": f"e{partition}.{at}", "wait": wait})
            assert level.status_code == 200, level.text
            async with asyncio.timeout(5):
                late = await client.get(path, params={"min_position": f"e{partition}.{at + 1}", "wait": wait})
            assert problem(late, 503, "position_not_reached")["position"] == f"e{partition}.{at}"


@pytest.mark.parametrize(
    ("wait", "code"),
    [
        ("0.06", "wait_too_long"),
        ("1s", "wait_too_long"),
        ("1h", "wait_too_long"),
        ("-1", "bad_duration"),
        ("nan", "bad_duration"),
        ("inf", "bad_duration"),
        ("1e3", "bad_duration"),
        ("", "bad_duration"),
        (" 1", "bad_duration"),
        ("1 s", "bad_duration"),
        ("1s\n", "bad_duration"),
        ("\u0661", "bad_duration"),
        ("9" * 400, "bad_duration"),
        ("99999d", "wait_too_long"),
    ],
)
async def test_a_wait_that_is_none_is_a_400(client: httpx.AsyncClient, wait: str, code: str) -> None:
    """On every read, also without a position; the bound is named."""
    for path in (*READS, "/api/v1/workflows", "/api/v1/workflows/greet"):
        body = problem(await client.get(path, params={"wait": wait}), 400, "parameter_invalid")
        assert pointers(body) == ["query/wait"]
        assert body["errors"][0]["code"] == code
        assert (
            (body["errors"][0]["limit"] == 0.05)
            == (code == "wait_too_long")
            == ("WORKFLOW_POSITION_WAIT_S" in body["detail"])
        )


async def test_many_waiters_ask_the_store_together(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred waiting reads are one loop that asks, and it ends with them."""
    asked = 0
    there = asyncio.Event()

    async def now() -> positions.Position:
        nonlocal asked
        asked += 1
        return {("e", 0): 5} if there.is_set() else {}

    monkeypatch.setattr(world.store, "positions", now)
    waiting = reads.Waiting(world.store)
    reaching = [asyncio.create_task(waiting.reach({("e", 0): 5}, 5.0)) for _ in range(100)]
    await asyncio.sleep(0.02)
    there.set()
    await asyncio.gather(*reaching)
    assert 1 < asked < 50
    before = asked
    await asyncio.sleep(0.05)
    assert asked == before


async def test_a_store_that_is_away_ends_the_wait(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A waiting read is told at once, and the next one asks anew."""

    async def away() -> positions.Position:
        raise StoreAway(reason="down")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "positions", away)
        problem(await client.get(f"{RUNS}?min_position=e0.1"), 503, "store_away")
    assert (await client.get(f"{RUNS}?min_position=e0.0")).status_code == 200


@pytest.mark.parametrize("token", ["x", "e0", "e0.", "e0.1-", "e0.1;t0.1", "e99.1", "d1.1", "e0.9999999999999999999"])
async def test_a_token_that_is_none_is_a_400(client: httpx.AsyncClient, token: str) -> None:
    """Only what an answer has given is a position."""
    for path in (RUNS, f"{RUNS}/r1", f"{RUNS}/r1/events", "/api/v1/workflows"):
        assert pointers(problem(await client.get(path, params={"min_position": token}), 400, "parameter_invalid")) == [
            "query/min_position"
        ]


async def test_an_etag_is_of_what_is_shown(world: World, client: httpx.AsyncClient) -> None:
    """304 while the run has not moved, 200 with the new state when it has."""
    story = world.story("r1")
    first = story.requested(world.log.epochs[home("r1", PARTITIONS)])
    await world.tell(story, [first])
    answer = await client.get(f"{RUNS}/r1")
    assert answer.headers["etag"].startswith('"1-')
    same = await client.get(f"{RUNS}/r1", headers={"If-None-Match": answer.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["etag"] == answer.headers["etag"]
    assert same.headers["workflow-position"] == answer.json()["position"]
    await world.tell(story, [story.completed(world.log.epochs[home("r1", PARTITIONS)])])
    moved = await client.get(f"{RUNS}/r1", headers={"If-None-Match": answer.headers["etag"]})
    assert (moved.status_code, moved.headers["etag"][:3]) == (200, '"2-')


async def test_the_same_events_shown_in_another_way_are_not_the_same(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a run came back from the quarantine, or a rebuild by another release."""
    await world.tell(world.story("r1"))
    etag = (await client.get(f"{RUNS}/r1")).headers["etag"]
    stored = await world.store.run("r1")
    assert stored is not None
    other = replace(stored, view={**stored.view, "set_aside": "an event that it does not know"})

    async def run(_run_id: str) -> StoredRun:
        return other

    monkeypatch.setattr(world.store, "run", run)
    shown = await client.get(f"{RUNS}/r1", headers={"If-None-Match": etag})
    assert (shown.status_code, shown.json()["set_aside"]) == (200, "an event that it does not know")


@pytest.mark.parametrize(
    ("given", "status"),
    [("W/{tag}", 304), ('"0", {tag}', 304), ("*", 304), ('"1"', 200), ("1", 200), ("", 200)],
)
async def test_if_none_match_is_read_as_http_has_it(
    world: World, client: httpx.AsyncClient, given: str, status: int
) -> None:
    """Weak tags, lists and the star."""
    story = world.story("r1")
    await world.tell(story, [story.requested(world.log.epochs[home("r1", PARTITIONS)])])
    tag = (await client.get(f"{RUNS}/r1")).headers["etag"]
    headers = {"If-None-Match": given.format(tag=tag)}
    assert (await client.get(f"{RUNS}/r1", headers=headers)).status_code == status


async def test_the_history_is_the_log(world: World, client: httpx.AsyncClient) -> None:
    """Each event as it stands there, with its place and digest; the chain can be followed."""
    story = world.story("r1")
    values = story.whole(world.log.epochs[home("r1", PARTITIONS)], output={"a": 1})
    await world.tell(story, values)
    items = (await client.get(f"{RUNS}/r1/events")).json()["items"]
    assert [item["seq"] for item in items] == list(range(1, 7))
    for item, value in zip(items, values, strict=True):
        place = {"digest": digest(value), "offset": item["offset"], "logged_at": item["logged_at"]}
        assert item == {**orjson.loads(value), **place}
    assert [item["prev"] for item in items] == [None, *(item["digest"] for item in items[:-1])]


async def test_the_history_is_paged_both_ways(world: World, client: httpx.AsyncClient) -> None:
    """Oldest or newest first, with cursor or `before_seq`, and by type."""
    await world.tell(world.story("r1"))

    async def seqs(query: str) -> list[int]:
        path, found = f"{RUNS}/r1/events?{query}", list[int]()
        while True:
            answer = await client.get(path)
            found += [item["seq"] for item in answer.json()["items"]]
            if "next" not in answer.links:
                return found
            path = answer.links["next"]["url"]

    assert await seqs("limit=4") == [1, 2, 3, 4, 5, 6]
    assert await seqs("limit=4&order=desc") == [6, 5, 4, 3, 2, 1]
    assert await seqs("limit=1&order=desc&before_seq=4") == [3, 2, 1]
    assert await seqs("limit=2&before_seq=4") == [1, 2, 3]
    assert await seqs("limit=1&type=StepStarted") == [2, 4]
    assert await seqs("limit=1&type=StepStarted&type=RunCompleted&order=desc") == [6, 4, 2]
    assert await seqs("type=Nothing") == []


async def test_a_pending_run_has_no_history_yet(world: World, client: httpx.AsyncClient) -> None:
    """An empty page, no 404."""
    await world.define()
    await client.post("/api/v1/trigger", json={"workflow_id": "greet"})
    await world.show_pending(world.commands.sent[0])
    assert (await client.get(f"{RUNS}/run-1/events")).json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("order=up", "query/order"),
        ("before_seq=0", "query/before_seq"),
        ("type=", "query/type/0"),
        ("after_seq=1", "query/after_seq"),
    ],
)
async def test_a_wrong_parameter_of_the_history_is_named(client: httpx.AsyncClient, query: str, pointer: str) -> None:
    """400 with the parameter."""
    assert pointers(problem(await client.get(f"{RUNS}/r1/events?{query}"), 400, "parameter_invalid")) == [pointer]


async def test_a_store_that_is_away_is_a_503(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Retry-After, and by the store's name."""

    async def away(run_id: str) -> StoredRun | None:
        raise StoreAway(reason="down")

    monkeypatch.setattr(world.store, "run", away)
    answer = await client.get(f"{RUNS}/r1")
    problem(answer, 503, "store_away")
    assert answer.headers["retry-after"] == "2"
