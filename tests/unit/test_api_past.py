"""Runs, lists, counts and workflows as they were, and the proof of a run, through the API."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from api.reads import instant
from schemas.events import time_text
from schemas.identity import home
from schemas.store import RunFilter
from tests.api.world import PARTITIONS, World, client_of, make_world, pointers, problem
from tests.histories import BASE_S

RUNS, COUNTS = "/api/v1/runs", "/api/v1/run-counts"
LATE = next(name for n in count() if home(name := f"late-{n}", PARTITIONS) == home("early", PARTITIONS))
SCRIPT = Path(__file__).parent.parent.parent / "docs" / "check_proof.py"


@pytest.fixture
async def world() -> World:
    """Run `early` has ended, its events 7 ms apart; a run that was asked for after that goes on."""
    world = make_world()
    world.now_s = BASE_S + 1000
    await world.tell(world.story("early", at_s=-1.0))
    late = world.story(LATE, at_s=0.05)
    await world.tell(late, late.whole(1)[:2])
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


async def logged(client: httpx.AsyncClient, run_id: str) -> list[str]:
    """When each event of a run was logged."""
    return [event["logged_at"] for event in (await client.get(f"{RUNS}/{run_id}/events")).json()["items"]]


async def test_a_run_at_each_of_its_events(client: httpx.AsyncClient) -> None:
    """By number and by time the same: the state after it, with an ETag and a position of its own."""
    now = (await client.get(f"{RUNS}/early")).json()
    times = await logged(client, "early")
    assert len(times) == now["seq"] == 6
    for seq, time in enumerate(times, 1):
        by_seq, by_time = [await client.get(f"{RUNS}/early", params={"at": at}) for at in (seq, time)]
        assert by_seq.json() == by_time.json()
        assert by_seq.json()["seq"] == seq
        assert by_seq.headers["etag"].startswith(f'"{seq}-')
    first, second, last = [(await client.get(f"{RUNS}/early?at={seq}")).json() for seq in (1, 2, 6)]
    assert (first["status"], first["started_at"], first["results"]) == ("PENDING", None, {})
    assert (second["status"], second["finished_at"], second["payload"]) == ("RUNNING", None, now["payload"])
    assert last == now


async def test_before_its_first_event_a_run_was_a_command(client: httpx.AsyncClient) -> None:
    """Asked for and not begun: PENDING, with nothing done."""
    then = (await client.get(f"{RUNS}/early?at=0")).json()
    assert (then["status"], then["seq"], then["steps"], then["workflow_id"]) == ("PENDING", 0, [], "greet")
    asked = (await client.get(f"{RUNS}/early")).json()["created_at"]
    assert (await client.get(f"{RUNS}/early", params={"at": asked})).json() == then


async def test_before_it_was_asked_for_a_waiting_run_was_not(world: World, client: httpx.AsyncClient) -> None:
    """A command that no worker has taken is shown from the moment of its request on."""
    await world.define()
    run_id = (await client.post("/api/v1/trigger", json={"workflow_id": "greet"})).json()["run_id"]
    await world.show_pending(world.commands.sent[-1])
    now = (await client.get(f"{RUNS}/{run_id}")).json()
    assert (await client.get(f"{RUNS}/{run_id}", params={"at": now["created_at"]})).json() == now
    before = await client.get(f"{RUNS}/{run_id}", params={"at": "2000-01-01T00:00:00Z"})
    assert "it was asked for at" in problem(before, 404, "run_not_then")["detail"]


@pytest.mark.parametrize(
    ("at", "detail"),
    [("2000-01-01T00:00:00Z", "it was asked for at"), ("7", "its last event is number 6, not 7")],
)
async def test_what_never_was_is_a_404(client: httpx.AsyncClient, at: str, detail: str) -> None:
    """A time before the run, and a number that it has not reached."""
    assert detail in problem(await client.get(f"{RUNS}/early", params={"at": at}), 404, "run_not_then")["detail"]


@pytest.mark.parametrize(
    "at", ["yesterday", "-1", "1.5", "", "2026-01-01", "2026-01-01T00:00:00", "9" * 11, "2999-01-01T00:00:00Z", "²"]
)
@pytest.mark.parametrize(("path", "name"), [(f"{RUNS}/early", "at"), (RUNS, "as_of"), (COUNTS, "as_of")])
async def test_what_is_no_time_that_has_passed_is_a_400(
    client: httpx.AsyncClient, path: str, name: str, at: str
) -> None:
    """Nonsense, times without an offset, and times to come."""
    assert pointers(problem(await client.get(path, params={name: at}), 400, "parameter_invalid")) == [f"query/{name}"]


@pytest.mark.parametrize(
    "wrong", ["2016-12-31T23:58:60Z", "2016-12-31T23:59:61Z", "2016-12-31T23:00:00+02:60", "0000-01-01T00:00:00Z"]
)
async def test_what_looks_like_a_time_is_a_400(client: httpx.AsyncClient, wrong: str) -> None:
    """Seconds and offsets that no clock has, and a year that no calendar has."""
    assert pointers(problem(await client.get(COUNTS, params={"as_of": wrong}), 400, "parameter_invalid")) == [
        "query/as_of"
    ]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000000Z"),
        ("2017-01-01T01:59:60.25+02:00", "2017-01-01T00:00:00.250000Z"),
        ("2016-12-31t23:59:59.1234567890123z", "2016-12-31T23:59:59.123456Z"),
        ("2017-01-01 05:29:00-18:31", "2017-01-02T00:00:00.000000Z"),
    ],
)
def test_a_time_in_every_way_that_is_legal(text: str, same: str) -> None:
    """Leap seconds, any number of digits, offsets."""
    assert instant(text, "as_of") == same


async def test_a_history_with_a_hole_is_no_past(
    world: World, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where events are missing nobody is shown another past than the log's."""
    times = await logged(client, "early")
    history = world.store._data.history["early"]
    del history[:2]
    for path, query in (
        (f"{RUNS}/early", {"at": times[0]}),
        (f"{RUNS}/early", {"at": "2"}),
        (f"{RUNS}/early", {"at": times[3]}),
        (RUNS, {"as_of": times[2]}),
    ):
        problem(await client.get(path, params=query), 500, "history_damaged")
    history.clear()
    monkeypatch.setattr(world.store, "standing", _nowhere)
    problem(await client.get(f"{RUNS}/early", params={"at": "3"}), 500, "history_damaged")
    problem(await client.get(f"{RUNS}/early/why"), 500, "history_damaged")


async def _nowhere(_run_id: str) -> None:
    """The row of its last event is not there."""


async def test_lists_and_counts_of_a_time(world: World, client: httpx.AsyncClient) -> None:
    """Items, the filter's status and the counts are those of then; pages keep to their time."""
    times = await logged(client, "early")
    then = (await client.get(RUNS, params={"as_of": times[2]})).json()["items"]
    assert [(run["run_id"], run["status"], run["seq"]) for run in then] == [("early", "RUNNING", 3)]
    assert (await client.get(RUNS, params={"as_of": times[2], "status": "SUCCESS"})).json()["items"] == []
    counts = (await client.get(COUNTS, params={"as_of": times[2]})).json()
    assert counts == {"total": 1, "PENDING": 0, "RUNNING": 1, "SUCCESS": 0, "FAILED": 0, "CANCELLED": 0}
    now = (await client.get(COUNTS)).json()
    assert (now["total"], now["SUCCESS"], now["RUNNING"]) == (2, 1, 1)
    assert (await client.get(COUNTS, params={"workflow_id": "nobody"})).json()["total"] == 0
    page = (await client.get(RUNS, params={"as_of": time_text(world.now_s), "limit": 1})).json()
    assert [run["run_id"] for run in page["items"]] == [LATE]
    other = {"as_of": times[2], "limit": 1, "cursor": page["next_cursor"]}
    problem(await client.get(RUNS, params=other), 400, "cursor_refused")
    rest = await client.get(RUNS, params={"as_of": time_text(world.now_s), "limit": 1, "cursor": page["next_cursor"]})
    assert [run["run_id"] for run in rest.json()["items"]] == ["early"]


async def test_a_workflow_as_it_was(world: World, client: httpx.AsyncClient) -> None:
    """The version that was the newest then; before the first there was none."""
    first, second = await world.define(steps=1), await world.define(steps=2)
    world.catalog.catalog._versions["greet"][1:] = [replace(second, logged_ms=int(BASE_S * 1000))]
    path = "/api/v1/workflows/greet"
    assert (await client.get(path, params={"as_of": first.defined_at})).json()["version"] == 1
    assert (await client.get(path, params={"as_of": time_text(BASE_S)})).json()["version"] == 2
    missing = problem(await client.get(path, params={"as_of": "2000-01-01T00:00:00Z"}), 404, "workflow_not_then")
    assert first.defined_at in missing["detail"]
    both = await client.get(path, params={"as_of": first.defined_at, "version": 1})
    assert pointers(problem(both, 400, "parameter_invalid")) == ["query/as_of"]
    problem(await client.get("/api/v1/workflows/nobody?as_of=2026-01-01T00:00:00Z"), 404, "definition_unknown")


def check(proof: Any = None, files: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """What the script says of a proof, or of files that hold its pages."""
    line, text = [sys.executable, "-I", str(SCRIPT), *files], json.dumps(proof)
    return subprocess.run(line, input=text, capture_output=True, text=True, timeout=30, check=False)


async def test_a_proof_is_checked_with_nothing_of_ours(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Whole or in pages; of an ended run and of one that goes on."""
    whole = (await client.get(f"{RUNS}/early/proof")).json()
    assert [item["seq"] for item in whole["items"]] == [1, 2, 3, 4, 5, 6]
    said = check(whole)
    assert (said.returncode, "6 events" in said.stdout, "ended" in said.stdout) == (0, True, True), said.stderr
    assert "goes on" in check((await client.get(f"{RUNS}/{LATE}/proof")).json()).stdout
    files, query = list[str](), ""
    while True:
        page = await client.get(f"{RUNS}/early/proof?limit=4{query}")
        file = tmp_path / f"{len(files)}.json"
        file.write_bytes(page.content)
        files.append(str(file))
        if page.json()["next_cursor"] is None:
            break
        query = f"&cursor={page.json()['next_cursor']}"
    assert len(files) == 2
    assert check(files=files).returncode == 0
    assert check(files=files[:-1]).returncode == 1
    assert len(SCRIPT.read_text().splitlines()) <= 30
    problem(await client.get(f"{RUNS}/nobody/proof"), 404, "run_unknown")


async def test_a_start_that_no_worker_has_taken_has_a_proof_without_events(
    world: World, client: httpx.AsyncClient
) -> None:
    """As it is a run to all other reads: with the position of its 202 it is never unknown."""
    await world.define()
    started = (await client.post("/api/v1/trigger", json={"workflow_id": "greet"})).json()
    await world.show_pending(world.commands.sent[0])
    path = f"{RUNS}/{started['run_id']}/proof"
    proof = (await client.get(path, params={"min_position": started["position"]})).json()
    assert (proof["items"], proof["head"]) == ([], {"seq": 0, "digest": None, "done": False})
    assert check(proof).returncode == 0


def other_byte(proof: Any, _other: Any) -> None:
    proof["items"][2]["value"] = proof["items"][2]["value"].replace('"attempt":1', '"attempt":2')


def other_byte_and_its_digest(proof: Any, _other: Any) -> None:
    from schemas.identity import digest

    other_byte(proof, None)
    proof["items"][2]["digest"] = digest(proof["items"][2]["value"].encode())


def last_one_changed_and_its_digest(proof: Any, _other: Any) -> None:
    from schemas.identity import digest

    last = proof["items"][-1]
    last["value"] = last["value"].replace("SUCCESS", "FAILED")
    last["digest"] = digest(last["value"].encode())


def no_json(proof: Any, _other: Any) -> None:
    proof["items"][0]["value"] = "x" + proof["items"][0]["value"][1:]


def another_name_of_a_field(proof: Any, _other: Any) -> None:
    proof["items"][0]["value"] = proof["items"][0]["value"].replace("subject", "subjecT")


def two_exchanged(proof: Any, _other: Any) -> None:
    items = proof["items"]
    items[1], items[2] = items[2], items[1]


def one_missing(proof: Any, _other: Any) -> None:
    del proof["items"][3]


def first_missing(proof: Any, _other: Any) -> None:
    del proof["items"][0]


def end_cut(proof: Any, _other: Any) -> None:
    del proof["items"][-1]


def one_twice(proof: Any, _other: Any) -> None:
    proof["items"].insert(2, proof["items"][2])


def of_another_run(proof: Any, other: Any) -> None:
    proof["items"] = other["items"]


def another_head(proof: Any, other: Any) -> None:
    proof["head"] = other["head"]


@pytest.mark.parametrize(
    "tamper",
    [
        other_byte,
        other_byte_and_its_digest,
        last_one_changed_and_its_digest,
        no_json,
        another_name_of_a_field,
        two_exchanged,
        one_missing,
        first_missing,
        end_cut,
        one_twice,
        of_another_run,
        another_head,
    ],
)
async def test_whatever_is_changed_is_found(client: httpx.AsyncClient, tamper: Callable[[Any, Any], None]) -> None:
    """The script goes red and names the event or the head."""
    proof, other = [(await client.get(f"{RUNS}/{run}/proof")).json() for run in ("early", LATE)]
    before = orjson.dumps(proof)
    tamper(proof, other)
    assert orjson.dumps(proof) != before
    said = check(proof)
    assert (said.returncode, "of run early" in said.stderr or "Run early" in said.stderr) == (1, True), said.stderr


async def test_the_bytes_are_those_of_the_log(world: World, client: httpx.AsyncClient) -> None:
    """Nothing is written anew between log and proof."""
    proof = (await client.get(f"{RUNS}/early/proof")).json()
    for item in proof["items"]:
        assert item["value"].encode() == world.log.records[proof["partition"]][item["offset"]].value
    assert await world.store.counts(RunFilter()) == {"SUCCESS": 1, "RUNNING": 1}
