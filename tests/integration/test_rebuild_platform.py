"""Rebuilds of a platform that works: asked for through the API, shared, killed, resumed, and begun by a new release."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from ops.client import Exit
from ops.parts import environment
from projections.rows import PROJECTION_VERSION
from projections.stores import open_store
from schemas.settings import Settings
from tests.fleet import Fleet, platform, until
from tests.judging import judged, records
from tests.workload import ENDS

RUNS = "/api/v1/projections/runs"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def ask(fleet: Fleet, method: str, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=fleet.of("api")[0].address, timeout=30) as http:
        return await http.request(method, path)


async def phase(fleet: Fleet) -> tuple[str | None, dict[str, Any] | None]:
    last = (await ask(fleet, "GET", RUNS)).json()["rebuild"]
    return (None, None) if last is None else (last["phase"], last)


async def done(fleet: Fleet, within_s: float = 60.0) -> dict[str, Any]:
    """The rebuild, once it is done."""

    async def is_done() -> bool:
        at, last = await phase(fleet)
        assert at not in ("failed", "cancelled"), last
        return at == "done"

    await until(is_done, "the rebuild is done", within_s)
    last = (await phase(fleet))[1]
    assert last is not None
    return last


def command_line(settings: Settings, *words: str, **more: Any) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-P", "-m", "ops", *words]
    env = environment(settings.model_copy(update=more))
    return subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def finished(process: subprocess.Popen[bytes], within_s: float = 60.0) -> tuple[int, str, str]:
    out, err = await asyncio.to_thread(process.communicate, None, within_s)
    return process.returncode, out.decode(), err.decode()


@asynccontextmanager
async def reading(fleet: Fleet, run_id: str) -> AsyncIterator[list[int]]:
    """A run is asked for all the time; the statuses of the answers."""
    seen: list[int] = []

    async def read() -> None:
        while True:
            seen.append((await ask(fleet, "GET", f"/api/v1/runs/{run_id}")).status_code)
            await asyncio.sleep(0.02)

    task = asyncio.ensure_future(read())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_rebuild_under_load(settings: Settings, tmp_path: Path) -> None:
    """Asked for through the API, done by the projectors' own processes while runs start and are read; all rows were equal,
    and `workflow verify` finds none that differs."""
    async with platform(settings, tmp_path, projectors=2) as fleet:
        await fleet.trigger(60)
        await fleet.ended()
        first = next(iter(fleet.accepted))
        async with fleet.load(rate=30), reading(fleet, first) as seen:
            begun = await ask(fleet, "POST", f"{RUNS}/rebuild")
            assert begun.status_code == 202, begun.text
            last = await done(fleet)
            await fleet.more(20)
        assert last["id"] == begun.json()["id"]
        report = last["report"]
        assert (report["differing"], report["missing"], report["extra"], report["differences"]) == (0, 0, 0, [])
        assert report["equal"] >= 60
        assert set(seen) == {200}
        assert len(seen) > 2
        await judged(fleet)
        code, out, err = await finished(command_line(settings, "verify"))
        assert (code, "agree with the log" in out) == (0, True), err


async def test_nothing_is_sent_by_a_rebuild(settings: Settings, tmp_path: Path) -> None:
    """No record in any topic and no webhook, although every run is folded again."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(40)
        await judged(fleet)
        topics, deliveries = await records(settings), fleet.deliveries()
        assert (await ask(fleet, "POST", f"{RUNS}/rebuild")).status_code == 202
        last = await done(fleet)
        assert last["report"]["equal"] == 40
        code, out, _ = await finished(command_line(settings, "rebuild", "-o", "json", "--parallel", "2"))
        assert (code, orjson.loads(out)["equal"]) == (0, 40)
        await asyncio.sleep(1)
        assert await records(settings) == topics
        assert fleet.deliveries() == deliveries


@pytest.mark.long
async def test_killed_and_resumed(settings: Settings, tmp_path: Path) -> None:
    """`workflow rebuild` and its helpers are killed in the middle: the tables serve on, and the next start goes on from there."""
    slow = {"workflow_projector_batch_max": 1}
    told: Any = {"projector": {"workflow_rebuild_helps": False}}
    async with platform(settings, tmp_path, told=told) as fleet:
        await fleet.trigger(300, rate=200)
        await judged(fleet)
        process = command_line(settings, "rebuild", "--parallel", "2", **slow)

        async def in_the_middle() -> bool:
            _, last = await phase(fleet)
            return last is not None and last["phase"] == "folding" and 0 < last["events"] < last["total"]

        await until(in_the_middle, "some events are folded again", 30, every_s=0.01)
        process.send_signal(signal.SIGKILL)
        await finished(process)
        before = (await phase(fleet))[1]
        assert before is not None
        await judged(fleet)
        code, out, err = await finished(command_line(settings, "rebuild", "-o", "json"), 90)
        assert code == 0, err
        assert "Going on with the rebuild" in err
        report = orjson.loads(out)
        assert (report["id"], report["equal"], report["differences"]) == (before["id"], 300, [])
        await judged(fleet)


@pytest.mark.long
async def test_what_was_left_is_finished_by_a_projector(settings: Settings, tmp_path: Path) -> None:
    """An operator's rebuild is killed and not begun again: a projector goes on with it."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(300, rate=200)
        await judged(fleet)
        process = command_line(settings, "rebuild", "--parallel", "1", workflow_projector_batch_max=1)

        async def folding() -> bool:
            last = (await phase(fleet))[1]
            return last is not None and last["phase"] == "folding" and last["events"] > 0

        await until(folding, "some events are folded again", 30, every_s=0.01)
        process.send_signal(signal.SIGKILL)
        await finished(process)
        last = await done(fleet, 90)
        assert (last["report"]["equal"], last["report"]["differences"]) == (300, [])
        await judged(fleet)


async def test_cancelled(settings: Settings, tmp_path: Path) -> None:
    """Through the API, while the command line works on it: that ends and says so, and the tables serve on."""
    told: Any = {"projector": {"workflow_rebuild_helps": False}}
    async with platform(settings, tmp_path, told=told) as fleet:
        await fleet.trigger(100, rate=200)
        await judged(fleet)
        process = command_line(settings, "rebuild", workflow_projector_batch_max=1)

        async def folding() -> bool:
            return (await phase(fleet))[0] == "folding"

        await until(folding, "it folds", 30, every_s=0.01)
        assert (await ask(fleet, "POST", f"{RUNS}/cancel")).json()["phase"] == "cancelled"
        code, _, err = await finished(process)
        assert (code, "was cancelled" in err) == (Exit.ENDED_BADLY, True), err
        await fleet.trigger(10)
        await judged(fleet)
        code, out, _ = await finished(command_line(settings, "projections", "list"))
        assert (code, "cancelled" in out) == (0, True), out


async def test_a_new_release_makes_its_tables_by_itself(settings: Settings, tmp_path: Path) -> None:
    """Deployed beside the one before: the old projector serves until the new tables take over, and ends then; reads and
    starts go on."""
    async with platform(settings, tmp_path, projectors=0) as fleet:
        fleet.build = "the_release_before"
        old = fleet.start("projector")
        await old.ready()
        fleet.build = None
        await fleet.trigger(60)
        await fleet.ended()
        first = next(iter(fleet.accepted))
        store = open_store(settings)
        assert await store.projection_version() == PROJECTION_VERSION - 1
        async with fleet.load(rate=20), reading(fleet, first) as seen:
            old.told_to_end = True
            new = fleet.start("projector")
            await new.ready()
            await fleet.more(20)
        assert set(seen) == {200}
        await judged(fleet)
        assert await store.projection_version() == PROJECTION_VERSION
        await store.close()
        last = await done(fleet)
        assert (last["by"], last["report"]["differing"]) == (f"the release of projection {PROJECTION_VERSION}", 0)

        async def ended() -> bool:
            return not old.alive

        await until(ended, "the old projector ends", 30)
        assert "others have its partitions" in old.log.read_text()
        for there in (True, False):
            assert (await ask(fleet, "GET", RUNS)).json()["old_tables"] is there
            again = command_line(settings, "projections", "drop-old")
            assert (await finished(again))[0] == 0


async def test_runs_that_cannot_be_folded_are_quarantined_and_tried_again(settings: Settings, tmp_path: Path) -> None:
    """An older projector meets an event that it cannot fold: those runs are set aside, listed by API and command line, the
    others go on; `retry` with this release shows them as the log says."""
    async with platform(settings, tmp_path, projectors=0) as fleet:
        fleet.build = "ignorant_of_failed_steps"
        old = fleet.start("projector")
        await old.ready()
        fleet.build = None
        await fleet.trigger(80)
        await fleet.ended()
        failed = {run for run, (workflow, _) in fleet.accepted.items() if ENDS[workflow] == "FAILED"}
        assert failed

        async def quarantined() -> dict[str, str]:
            page = (await ask(fleet, "GET", f"{RUNS}/quarantine?limit=500")).json()
            return {item["run_id"]: item["reason"] for item in page["items"]}

        async def others_ended() -> bool:
            runs = (await ask(fleet, "GET", "/api/v1/runs?limit=500&status=SUCCESS")).json()["items"]
            return {run["run_id"] for run in runs} >= fleet.accepted.keys() - (await quarantined()).keys()

        async def all_found() -> bool:
            return failed <= (await quarantined()).keys()

        await until(all_found, "the failed runs are in the quarantine", 30)
        await until(others_ended, "all others are shown to their ends", 30)
        found = await quarantined()
        assert all("it is from the future" in reason for reason in found.values())
        assert (await ask(fleet, "GET", RUNS)).json()["quarantined"] == len(found)
        one = f"/api/v1/runs/{next(iter(failed))}"
        aside = await ask(fleet, "GET", one)
        assert "from the future" in aside.json()["set_aside"]
        why = (await ask(fleet, "GET", f"{one}/why")).json()
        assert (why["code"], why["status"]) == ("finished", "FAILED")  # this API can fold it, and tells what decides

        async def counted() -> bool:
            async with httpx.AsyncClient(timeout=30) as http:
                lines = (await http.get(f"{old.address}/metrics")).text.splitlines()
            told = [float(line.split()[-1]) for line in lines if line.startswith("workflow_runs_quarantined ")]
            return told == [len(found)]

        await until(counted, "the projector's metric counts them", 30)
        code, out, _ = await finished(command_line(settings, "projections", "quarantine"))
        assert (code, all(run in out for run in found)) == (0, True)
        assert await old.stop() == 0
        fleet.start("projector")
        named = [next(iter(failed)), "nobody", next(iter(failed))]
        code, out, err = await finished(command_line(settings, "projections", "retry", *named))
        assert (code, out) == (Exit.NOT_FOUND, "Runs: 1 shown again, 0 still set aside.\n"), err
        assert "Not set aside: 'nobody'." in err
        code, out, err = await finished(command_line(settings, "projections", "retry"))
        assert (code, out) == (0, f"Runs: {len(found) - 1} shown again, 0 still set aside.\n"), err
        assert await quarantined() == {}
        again = await ask(fleet, "GET", one)
        assert (again.json()["seq"], again.json()["set_aside"]) == (aside.json()["seq"], None)
        assert again.headers["etag"] != aside.headers["etag"]
        code, out, err = await finished(command_line(settings, "verify"))
        assert (code, "agree with the log" in out) == (0, True), err
        await fleet.trigger(20)
        await judged(fleet)
