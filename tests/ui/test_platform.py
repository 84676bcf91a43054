"""The pages on a whole platform: its real progress, lag and quarantine, seen in a browser while they happen."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import pytest
from playwright.async_api import expect

from ops.parts import environment
from schemas.settings import Settings
from tests.fleet import Fleet, Told, platform, until
from tests.judging import judged
from tests.ui.browser import NEEDS_CHROMIUM, column, screen
from tests.workload import ENDS, mix

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow, pytest.mark.timeout(240)]

RUNS: Final = 500
NO_HELP: Final[Told] = {"projector": {"workflow_rebuild_helps": False}}


async def test_a_rebuild_is_begun_cancelled_watched_and_read(settings: Settings, tmp_path: Path) -> None:
    """A cancelled one leaves the tables as they are; the next shows its progress and the process that works on it; its report
    names the run whose row was changed by hand, and leads to it."""
    async with platform(settings, tmp_path, told=NO_HELP) as fleet:
        await fleet.trigger(RUNS, mix(kinds=("noop",)), rate=200)
        await judged(fleet)
        run_id = next(iter(fleet.accepted))
        async with screen(fleet.of("api")[0].address) as shown:
            await shown.open("projections")
            await shown.begin_rebuild()
            await shown.shows("no process works on it")
            await shown.cancel_rebuild()
            await judged(fleet)
            await changed_by_hand(settings, run_id)
            await shown.begin_rebuild()
            await shown.shows("no process works on it")
            async with frozen_in_the_middle(fleet) as (pid, events):
                bar = shown.page.get_by_role("progressbar", name="All events")
                await expect(bar).to_have_attribute("value", str(events))
                assert 0.0 < await bar.evaluate("bar => bar.position") < 1.0
                await shown.shows("one process works on it", "events/s", "s left", f", process {pid}")
            await expect(shown.page.get_by_text("Done: the new tables serve.")).to_be_visible(timeout=60_000)
            await expect(shown.page.get_by_text("workflow projections drop-old")).to_be_visible()
            assert await shown.page.locator(".report dd").all_inner_texts() == [str(RUNS - 1), "1", "0", "0"]
            ((run, _, stored, folded),) = await shown.rows("The first differences")
            assert (run, "FAILED" in stored, "SUCCESS" in folded) == (run_id, True, True)
            await shown.page.get_by_role("link", name=run_id).click()
            await expect(shown.page.locator("h1")).to_contain_text("SUCCESS")
        await judged(fleet)


@asynccontextmanager
async def frozen_in_the_middle(fleet: Fleet) -> AsyncIterator[tuple[int, int]]:
    """`workflow rebuild` takes part, and stands still when it has folded a part of the events; its process id, and how many."""
    process = rebuilding(fleet.settings)
    try:
        async with fleet.of("api")[0].client(5) as http:

            async def some() -> bool:
                process.send_signal(signal.SIGCONT)
                await asyncio.sleep(0.01)
                if (await last(http))["phase"] == "preparing":
                    return False
                process.send_signal(signal.SIGSTOP)
                return int((await last(http))["events"]) > 0

            await until(some, "some events are folded again", 60, every_s=0.0)
            yield process.pid, (await last(http))["events"]
        process.send_signal(signal.SIGCONT)
        _, said = await asyncio.to_thread(process.communicate, None, 60)
        assert process.returncode == 0, said.decode()
    finally:
        process.kill()
        process.wait()


def rebuilding(settings: Settings) -> subprocess.Popen[bytes]:
    line = [sys.executable, "-P", "-m", "ops", "rebuild", "--parallel", "1"]
    return subprocess.Popen(line, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def last(http: httpx.AsyncClient) -> dict[str, Any]:
    """The rebuild that was begun last."""
    found: dict[str, Any] = (await http.get("/api/v1/projections/runs")).json()["rebuild"]
    return found


async def changed_by_hand(settings: Settings, run_id: str) -> None:
    """As somebody does who should not."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        await connection.execute("UPDATE runs SET status = 'FAILED' WHERE run_id = $1", run_id)
    finally:
        await connection.close()


async def test_the_lag_of_a_projector_that_stands_still(settings: Settings, tmp_path: Path) -> None:
    """Each partition shows the events that its tables lack and for how long, and 0 once they have come."""
    async with platform(settings, tmp_path) as fleet:
        projector = fleet.of("projector")[0]
        async with screen(fleet.of("api")[0].address) as shown:
            await shown.open("projections")
            projector.freeze()
            await fleet.trigger(40, mix(kinds=("noop",)))

            async def behind() -> bool:
                rows = await shown.rows("Lag of the tables")
                return all(int(row[2]) > 0 and row[3] not in ("0", "not known") for row in rows)

            await until(behind, "every partition is behind", 30)
            projector.thaw()

            async def level() -> bool:
                rows = await shown.rows("Lag of the tables")
                return {(row[2], row[3]) for row in rows} == {("0", "0")}

            await until(level, "every partition is level", 60)
        await judged(fleet)


async def test_runs_in_quarantine_are_seen(settings: Settings, tmp_path: Path) -> None:
    """Those that an older projector cannot fold, each with the reason, and the command that tries them again."""
    async with platform(settings, tmp_path, projectors=0) as fleet:
        fleet.build = "ignorant_of_failed_steps"
        await fleet.start("projector").ready()
        fleet.build = None
        await fleet.trigger(20)
        await fleet.ended()
        failed = {run for run, (workflow, _) in fleet.accepted.items() if ENDS[workflow] == "FAILED"}
        async with screen(fleet.of("api")[0].address) as shown:
            await shown.open("projections")

            async def found() -> bool:
                rows = await shown.rows("Runs in quarantine")
                return failed <= set(column(rows, 0)) and all("it is from the future" in row[3] for row in rows)

            await until(found, "the failed runs are shown", 30)
            await shown.shows("workflow projections retry")
            await shown.page.get_by_role("link", name=next(iter(failed))).click()
            await shown.shows("Set aside:", "it is from the future")


async def test_a_run_is_seen_from_its_start_to_its_end(settings: Settings, tmp_path: Path) -> None:
    """What it waits for while it waits, each of its events as they come, and then all that it was."""
    async with platform(settings, tmp_path) as fleet, screen(fleet.of("api")[0].address) as shown:
        await fleet.trigger(1, mix(kinds=("sleeps",), wait_s=(10.0,)))
        (run_id,) = fleet.accepted
        await shown.open("runs")
        await shown.page.get_by_role("link", name=run_id).click()
        await shown.shows("RUNNING", "Why: ", "sleep")
        await expect(shown.page.locator("h1")).to_contain_text("SUCCESS", timeout=30_000)
        await shown.shows("RunCompleted", "as it is now, after 6 events")
        await shown.page.get_by_label("Event", exact=True).fill("2")
        await expect(shown.page.locator("#then")).to_contain_text("RUNNING")
        await asyncio.sleep(2.5)  # the next look leaves it there
        await shown.shows("as it was after event 2 of 6")
