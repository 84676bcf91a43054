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

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RUNS, COUNTS = "/api/v1/runs", "/api/v1/run-counts"
STATUS = {"RunRequested": "PENDING", "StepStarted": "RUNNING"}
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
    """At moments all through a load: single runs, lists by status and counts are those of the log's prefix."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(60, rate=40)
        await judged(fleet)
        known = await facts(settings)
        times = sorted(logged_ms for events in known.values() for logged_ms, _, _ in events)
        async with httpx.AsyncClient(base_url=fleet.of("api")[0].address, timeout=30) as http:
            for at_ms in times[:: len(times) // 12]:
                await _at(http, known, at_ms)
            run_id, events = next(iter(known.items()))
            for _, event, _ in events:
                shown = (await http.get(f"{RUNS}/{run_id}", params={"at": event["seq"]})).json()
                assert shown["seq"] == event["seq"]
            version = (await http.get("/api/v1/workflows/noop", params={"as_of": time_of(times[0])})).json()["version"]
            assert version == 1
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
