"""The past and its proof on real servers: through the API and the command line, held against the log itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ops.parts import ROOT, environment
from schemas.identity import digest
from schemas.settings import Settings
from tests.fleet import Fleet, platform
from tests.judging import judged, records
from tests.workload import delay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RUNS, COUNTS = "/api/v1/runs", "/api/v1/run-counts"
STATUS = {"RunRequested": "PENDING", "StepStarted": "RUNNING"}
FILTERS: list[dict[str, Any]] = [
    {"workflow_id": "slow"},
    {"status": "RUNNING"},
    {"status": "SUCCESS", "workflow_id": "noop"},
    {"status": "FAILED"},
    {"created_after": 0.7},
    {"created_before": 0.3},
    {"created_after": 0.8, "created_before": 0.2, "workflow_id": "slow", "status": "RUNNING"},
    {"workflow_id": "nobody"},
]
"""Query of a list and its counts; a number stands for the time of the run at that share of the whole list."""
Facts = dict[str, list[tuple[int, dict[str, Any], bytes]]]
"""Run id → (logged at, event, bytes) of each of its events, as they stand in the log."""


async def facts(settings: Settings) -> Facts:
    found: Facts = {}
    for log in (await records(settings))["workflow.events"].values():
        for record in log:
            event = orjson.loads(record.value or b"")
            if event["type"] != "PartitionTaken":
                found.setdefault(event["subject"], []).append((record.timestamp, event, record.value or b""))
    return found


def then(known: Facts, at_ms: int) -> dict[str, tuple[str, int]]:
    """Run id → status and seq after all that was logged up to then, of runs that had begun."""
    found = {}
    for run_id, events in known.items():
        status, seq = "", 0
        for logged_ms, event, _ in events:
            if logged_ms > at_ms:
                break
            seq = event["seq"]
            status = STATUS.get(event["type"], status)
            status = event["data"]["status"] if event["type"] == "RunCompleted" else status
        if seq:
            found[run_id] = status, seq
    return found


def time_of(ms: int) -> str:
    from schemas.events import time_text

    return time_text(ms / 1000)


def command_line(settings: Settings, *words: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-P", *words]
    return subprocess.run(line, env=environment(settings), input=given, capture_output=True, timeout=60, check=False)


async def test_the_past_is_what_the_log_says(settings: Settings, tmp_path: Path) -> None:
    """At moments all through a load, in the midst of which a workflow gets another version: single runs, lists and counts
    under every filter, and definitions are those of the log's prefix."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(30, rate=40)
        await fleet.define({"id": "noop", "name": "noop", "steps": [delay("only", 0)]})
        await fleet.trigger(30, rate=40)
        await judged(fleet)
        known = await facts(settings)
        times = sorted(logged_ms for events in known.values() for logged_ms, _, _ in events)
        async with httpx.AsyncClient(base_url=fleet.of("api")[0].address, timeout=30) as http:
            for at_ms in times[:: len(times) // 12]:
                await _at(http, known, at_ms)
            for run_id in list(known)[::6]:
                await _each_event(http, run_id, [event for _, event, _ in known[run_id]])
            await _versions(http, fleet, known)
        at_ms = times[len(times) // 2]
        word = [
            "-m",
            "ops",
            "runs",
            "list",
            "--as-of",
            time_of(at_ms),
            "--status",
            "RUNNING",
            "--limit",
            "200",
            "-o",
            "json",
        ]
        listed = await asyncio.to_thread(command_line, addressed(fleet), *word)
        running = {run["run_id"] for run in orjson.loads(listed.stdout)["items"]}
        assert running == {run_id for run_id, (status, _) in then(known, at_ms).items() if status == "RUNNING"}


async def _at(http: httpx.AsyncClient, known: Facts, at_ms: int) -> None:
    expected, time = then(known, at_ms), time_of(at_ms)
    listed = (await http.get(RUNS, params={"as_of": time, "limit": 500})).json()["items"]
    begun = {run["run_id"]: (run["status"], run["seq"]) for run in listed if run["seq"]}
    assert begun == expected
    assert {run["status"] for run in listed if not run["seq"]} <= {"PENDING"}
    counts = (await http.get(COUNTS, params={"as_of": time})).json()
    assert counts.pop("total") == len(listed)
    assert {status: count for status, count in counts.items() if count} == Counter(run["status"] for run in listed)
    for run in listed[:3]:
        assert (await http.get(f"{RUNS}/{run['run_id']}", params={"at": time})).json() == run
    for named in FILTERS:
        await _filtered(http, {"as_of": time} | _bounds(listed, named), listed)


def _bounds(listed: list[dict[str, Any]], named: dict[str, Any]) -> dict[str, str]:
    """A filter whose times are those of the list's runs, by their shares of its length."""
    return {
        name: value if isinstance(value, str) else listed[int(value * (len(listed) - 1))]["created_at"]
        for name, value in named.items()
        if listed or isinstance(value, str)
    }


async def _filtered(http: httpx.AsyncClient, params: dict[str, str], listed: list[dict[str, Any]]) -> None:
    """The filter's list is what it lets through of the whole one, page by page, and its counts are those of the list."""
    expected = [
        run
        for run in listed
        if params.get("workflow_id", run["workflow_id"]) == run["workflow_id"]
        and params.get("created_after", "") < run["created_at"] < params.get("created_before", "~")
    ]
    statuses = Counter(run["status"] for run in expected)
    counts = (await http.get(COUNTS, params={k: v for k, v in params.items() if k != "status"})).json()
    assert counts.pop("total") == len(expected)
    assert {status: count for status, count in counts.items() if count} == statuses
    expected = [run for run in expected if params.get("status", run["status"]) == run["status"]]
    found: list[dict[str, Any]] = []
    page: dict[str, Any] = {"next_cursor": None}
    while not found or page["next_cursor"]:
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else {}
        page = (await http.get(RUNS, params={**params, **cursor, "limit": 7})).json()
        found += page["items"]
        if not page["items"]:
            break
    assert found == expected


async def _each_event(http: httpx.AsyncClient, run_id: str, events: list[dict[str, Any]]) -> None:
    """After each of its events the run shows what its events up to then say, told here by hand."""
    results: dict[str, Any] = {}
    status = "PENDING"
    for event in events:
        data = event["data"]
        if event["type"] == "StepSucceeded":
            results[data["step"]] = data["output"]
        status = STATUS.get(event["type"], status)
        if event["type"] == "RunCompleted":
            status = data["status"]
        shown = (await http.get(f"{RUNS}/{run_id}", params={"at": event["seq"]})).json()
        assert (shown["seq"], shown["status"], shown["results"]) == (event["seq"], status, results)
        assert shown["payload"] == events[0]["data"]["payload"]


async def _versions(http: httpx.AsyncClient, fleet: Fleet, known: Facts) -> None:
    """A workflow at any time is the version that was the newest then, and runs stay with the version they were started in."""
    path = "/api/v1/workflows/noop"
    first, second = [(await http.get(path, params={"version": version})).json() for version in (1, 2)]
    for defined in (first, second):
        then_newest = (await http.get(path, params={"as_of": defined["defined_at"]})).json()
        assert then_newest["version"] == defined["version"]
    of_noop = [run_id for run_id, (workflow, _) in fleet.accepted.items() if workflow == "noop"]
    started = {run_id: known[run_id][0][1]["data"]["version"] for run_id in of_noop}
    assert set(started.values()) == {1, 2}
    for run_id, version in started.items():
        for at in ("1", "2"):
            assert (await http.get(f"{RUNS}/{run_id}", params={"at": at})).json()["version"] == version


def addressed(fleet: Fleet) -> Settings:
    """For commands that ask the API."""
    return fleet.settings.model_copy(update={"workflow_url": fleet.of("api")[0].address})


async def test_a_proof_holds_against_the_log(settings: Settings, tmp_path: Path) -> None:
    """The command's proof passes the script of the docs, its bytes are those of the log, and its head is the log's last word."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(10)
        await judged(fleet)
        known = await facts(settings)
        for run_id in fleet.accepted:
            made = await asyncio.to_thread(command_line, addressed(fleet), "-m", "ops", "runs", "proof", run_id)
            proof = orjson.loads(made.stdout)
            assert [item["value"].encode() for item in proof["items"]] == [value for _, _, value in known[run_id]]
            assert proof["head"]["digest"] == digest(known[run_id][-1][2])
            script = [str(ROOT / "docs" / "check_proof.py")]
            checked = await asyncio.to_thread(command_line, settings, *script, given=made.stdout)
            assert (checked.returncode, b"ended" in checked.stdout) == (0, True), checked.stderr
        proof["items"][1]["value"] += " "
        checked = await asyncio.to_thread(command_line, settings, *script, given=orjson.dumps(proof))
        assert (checked.returncode, b"Event 2 of run" in checked.stderr) == (1, True), checked.stderr
