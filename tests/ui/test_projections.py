"""The page of the projections: a rebuild and its report, lag, quarantine."""

from __future__ import annotations

import time
from dataclasses import replace

from playwright.async_api import expect

from projections import rebuild
from projections.board import Claim, Part, Rebuild
from projections.compare import Comparison, Difference
from projections.lag import Lag
from schemas.identity import home
from tests.api.world import PARTITIONS, World, make_world
from tests.ui.browser import NEEDS_CHROMIUM, Screen, screen, served

pytestmark = NEEDS_CHROMIUM


async def test_the_progress_of_a_rebuild(world: World, shown: Screen) -> None:
    """Phase, events, speed, the time that is left; each partition with the process that works on it."""
    parts = tuple(Part(100 * n, 300, Claim(f"host-{n}/77/x", time.time() + 60) if n else None) for n in range(3))
    await put(world, Rebuild("x", "folding", "ann", 1, time.time() - 10, parts=parts))
    await shown.open("projections")
    await shown.shows("folding, 2 processes work on it", "300 of 900 events", "events/s", "s left", "by ann")
    assert await shown.rows("Progress of each partition") == [
        ["0", "", "0 of 300", "\N{EN DASH}"],
        ["1", "", "100 of 300", "host-1, process 77"],
        ["2", "", "200 of 300", "host-2, process 77"],
    ]
    await expect(shown.page.get_by_role("progressbar", name="All events")).to_have_attribute("value", "300")
    await expect(shown.page.get_by_role("list", name="Phases").locator("[aria-current]")).to_have_text("fold")
    await expect(shown.page.get_by_role("button", name="Rebuild", exact=True)).to_be_disabled()
    await shown.press("Cancel the rebuild")
    await shown.press("Back")
    await shown.shows("folding, 2 processes")
    await shown.cancel_rebuild()


async def test_the_report_of_a_rebuild(world: World, shown: Screen) -> None:
    """How many runs were equal and how many not, and the first differences with links to their runs."""
    found = Comparison(7, 1, 2, 3, (Difference("bad", "status", "SUCCESS", "FAILED"),))
    await put(world, Rebuild("x", "done", "ann", 1, 10.0, 12.0, 13.0, 42, (Part(42, 42),), report=found))
    await shown.open("projections")
    await shown.shows("The old ones said something else than the log")
    await expect(shown.page.get_by_text("workflow projections drop-old")).to_be_hidden()
    assert await shown.rows("The first differences") == [["bad", "status", "SUCCESS", "FAILED"]]
    values = await shown.page.locator(".report dd").all_inner_texts()
    assert values == ["7", "1", "2", "3"]
    await shown.page.get_by_role("link", name="bad").click()
    await shown.shows("as it is now, after 4 events")


async def put(world: World, one: Rebuild) -> None:
    """Have this stand on the board."""
    await world.store.board().change(lambda _old, _now: (one, None))


async def test_a_rebuild_that_is_begun_here(world: World, shown: Screen) -> None:
    """After a question; it says that nobody works on it, and what it came to."""
    await shown.open("projections")
    await shown.shows("None yet.")
    await shown.begin_rebuild()
    await shown.shows("preparing, and no process works on it")
    begun = await world.store.board().read()
    assert begun is not None
    await rebuild.work(world.settings, world.store, world.topics, lambda _: None, begun.id)
    await shown.shows("Done: the new tables serve. The old ones had the same rows.")
    assert await shown.page.locator(".report dd").all_inner_texts() == ["3", "0", "0", "0"]


async def test_the_lag_of_each_partition(world: World, shown: Screen) -> None:
    """In events, and in seconds as far as they are known."""
    lag = {n: Lag(n, 2.5 * n) for n in range(2)}
    world.health.answer = replace(world.health.answer, lag=lag)
    for partition in range(4):
        await world.project(partition)
    for partition in (1, 1, 2):
        world.log.take(partition)
    await shown.open("projections")
    await expect(shown.page.locator("tbody tr").first).to_be_visible()
    rows = await shown.rows("Lag of the tables")
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("0", "0", "0"),
        ("1", "2", "2.5 s"),
        ("2", "1", "not known"),
        ("3", "0", "0"),
    ]


async def test_runs_in_quarantine(world: World, shown: Screen) -> None:
    """Each with its reason, and how to have them tried again; the run itself says so, too."""
    for number in range(60):
        story = world.story(f"odd-{number:02}")
        await world.tell(story, [story.event(1, "RunRequested", {"workflow_id": 7})])
    await shown.open("projections")
    await shown.shows("workflow projections retry", "60 runs")
    rows = await shown.rows("Runs in quarantine")
    assert (len(rows), rows[0][0]) == (50, "odd-00")
    assert "cannot be folded" in rows[0][3]
    await shown.page.get_by_role("link", name="More").click()
    await shown.shows("odd-59")
    await shown.page.get_by_role("link", name="odd-59").click()
    await shown.shows("Set aside:", "How to try again")


async def test_a_process_whose_tables_are_its_own() -> None:
    """There is nothing to rebuild, and it says so; runs that are set aside are listed all the same."""
    world = make_world(storage_backend="memory")
    story = world.story("odd")
    epoch = world.log.epochs[home("odd", PARTITIONS)]
    await world.tell(story, [story.requested(epoch), story.event(epoch, "StepDreamt", {})])
    async with served(world.app) as address, screen(address) as shown:
        await shown.open("projections")
        await shown.shows("STORAGE_BACKEND=memory", "This process: ready")
        rows = await shown.rows("Runs in quarantine")
        assert (rows[0][0], "StepDreamt" in rows[0][3]) == ("odd", True)
