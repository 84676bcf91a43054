"""Runs and workflows in a browser: lists and their filters, a run through time, its events, why, and its proof."""

from __future__ import annotations

import orjson
from playwright.async_api import Route, expect

from tests.api.world import World
from tests.ui.browser import NEEDS_CHROMIUM, Screen, column, screen, served

pytestmark = NEEDS_CHROMIUM


async def test_runs_are_listed_counted_and_filtered(shown: Screen) -> None:
    """Newest first; chips count and filter; what a run says stays text; an empty list says how it came about."""
    await shown.page.goto(f"{shown.address}/ui")
    await shown.shows("bad", "good", "open")
    rows = await shown.rows("Runs, newest first")
    assert column(rows, 2) == ["bad", "open", "good"]
    assert [status.split()[-1] for status in column(rows, 0)] == ["FAILED", "RUNNING", "SUCCESS"]
    assert (rows[0][1], rows[0][5]) == ("greet@1", "the receiver wants <b>money</b>")
    chips = shown.page.get_by_role("group", name="Status")
    await expect(chips).to_contain_text("FAILED 1")
    await chips.get_by_role("link", name="FAILED").click()
    await expect(shown.page.locator("tbody tr")).to_have_count(1)
    assert "status=FAILED" in shown.page.url
    await expect(chips.get_by_role("link", name="FAILED")).to_have_attribute("aria-current", "true")
    await shown.page.get_by_label("Workflow", exact=True).fill("nothing")
    await shown.page.keyboard.press("Enter")
    await shown.shows("No run matches.")
    await shown.page.get_by_text("Copy as").click()
    await shown.shows("workflow runs list --workflow nothing --status FAILED")
    await shown.page.get_by_role("link", name="Show all runs").click()
    await expect(shown.page.locator("tbody tr")).to_have_count(3)


async def test_the_list_as_it_was(shown: Screen) -> None:
    """Before the first run there is none, and it says of when it tells."""
    await shown.open("runs?as_of=2026-09-21T10:00:00.000Z")
    await shown.shows("Runs as of 2026-09-21T10:00:00.000Z", "No run matches.")
    await shown.page.get_by_role("link", name="Now", exact=True).click()
    await expect(shown.page.locator("tbody tr")).to_have_count(3)


async def test_a_time_is_given_by_the_clock_of_whoever_sits_there(world: World) -> None:
    """And asked for in UTC; the field shows it again."""
    async with served(world.app) as address, screen(address, timezone_id="Asia/Tokyo") as shown:
        await shown.open("runs")
        field = shown.page.get_by_label("As of", exact=True)
        await field.fill("2026-09-21T23:13:23")
        await field.blur()
        await shown.shows("Runs as of 2026-09-21T14:13:23.000Z")
        await expect(field).to_have_value("2026-09-21T23:13:23")


async def test_pages_of_the_list(world: World) -> None:
    """The way to what is older, and back to the newest."""
    for number in range(60):
        await world.tell(world.story(f"more-{number}", at_s=10 + number))
    async with served(world.app) as address, screen(address) as shown:
        await shown.open("runs")
        await expect(shown.page.locator("tbody tr")).to_have_count(50)
        await shown.page.get_by_role("link", name="Older").click()
        await expect(shown.page.locator("tbody tr")).to_have_count(13)
        await shown.page.get_by_role("link", name="Newest").click()
        await shown.shows("more-59")


async def test_a_run_through_time(shown: Screen) -> None:
    """The slider shows it after each event, `Now` as it is; the link to a moment leads there."""
    await shown.open("runs/good")
    past = shown.page.locator("#then")
    await expect(past).to_contain_text("SUCCESS")
    slider = shown.page.get_by_label("Event", exact=True)
    await slider.focus()
    await shown.page.keyboard.press("Home")
    await shown.shows("as it was after event 0 of 6")
    await expect(past).to_contain_text("PENDING")
    for _ in range(2):
        await shown.page.keyboard.press("ArrowRight")
    await expect(past).to_contain_text("RUNNING")
    assert shown.page.url.endswith("#/runs/good?at=2")
    await shown.page.reload()
    await shown.shows("as it was after event 2 of 6")
    await expect(past).to_contain_text("RUNNING")
    await shown.press("Now")
    await expect(past).to_contain_text("SUCCESS")
    assert shown.page.url.endswith("#/runs/good")


async def test_a_run_at_a_time(shown: Screen) -> None:
    """A link from the list as it was leads to the run as it was: what had not ended then had lasted until then."""
    good = (await shown.page.request.get(f"{shown.address}/api/v1/runs/good/events")).json
    events = (await good())["items"]
    at = events[2]["logged_at"]
    await shown.open(f"runs?as_of={at}")
    row = shown.page.locator("tbody tr", has_text="good")
    await expect(row).to_contain_text("RUNNING")
    before = await row.inner_text()
    await shown.page.wait_for_timeout(1_500)
    assert await row.inner_text() == before
    await row.get_by_role("link", name="good").click()
    await shown.shows("as it was after event 3 of 6")
    await expect(shown.page.locator("#then")).to_contain_text("RUNNING")
    assert shown.page.url.endswith("#/runs/good?at=3")
    await shown.open("runs/good?at=2001-01-01T00:00:00Z")
    await shown.shows("had no such state", "as it is now")


async def test_a_run_that_comes_later(world: World, shown: Screen) -> None:
    """One that the tables do not have yet is shown when they do."""
    await shown.open("runs/late")
    await shown.shows("There is no run 'late'.")
    await world.tell(world.story("late"))
    await expect(shown.page.locator("#then")).to_contain_text("SUCCESS")
    await expect(shown.page.locator("#notice")).to_be_hidden()


async def test_events_of_a_run(shown: Screen) -> None:
    """Newest first, each with its one useful detail; a row opens to the event as it stands in the log, and stays open."""
    await shown.open("runs/bad")
    await shown.shows("StepFailed")
    rows = await shown.rows("Events, newest first")
    assert [(row[0], row[3]) for row in rows] == [
        ("4", "RunCompleted"),
        ("3", "StepFailed"),
        ("2", "StepStarted"),
        ("1", "RunRequested"),
    ]
    assert rows[1][4] == "step_0, attempt 1"
    assert "(http_402)" in rows[1][5]
    await shown.press("3")
    await shown.shows('"prev":')
    await shown.page.wait_for_timeout(2_500)  # another look has come meanwhile
    await expect(shown.page.get_by_role("button", name="3", exact=True)).to_have_attribute("aria-expanded", "true")


async def test_numbers_are_shown_as_they_are(world: World) -> None:
    """Beyond what JavaScript can count to as well, in the run and in its events."""
    await world.tell(world.story("large", payload={"n": 2**53 + 1, "x": 0.1}))
    async with served(world.app) as address, screen(address) as shown:
        await shown.open("runs/large")
        await expect(shown.page.locator("#then")).to_contain_text('"n": 9007199254740993')
        await shown.press("1")
        await expect(shown.page.locator(".event:visible")).to_contain_text('"n": 9007199254740993')


async def test_many_events_come_in_pages(world: World) -> None:
    """The newest first, the others when they are asked for."""
    story = world.story("long", steps=40)
    await world.tell(story)
    async with served(world.app) as address, screen(address) as shown:
        await shown.open("runs/long")
        await shown.press("Older than 33")
        await expect(shown.page.get_by_role("button", name="Older than 33")).to_have_count(0)
        assert column(await shown.rows("Events, newest first"), 0) == [str(seq) for seq in range(82, 0, -1)]


async def test_why_a_run_is_where_it_is_and_its_proof(shown: Screen) -> None:
    """One that has not ended says what it waits for; each has a proof to be saved."""
    await shown.open("runs/open")
    await shown.shows("Why: ", "step_0")
    await shown.page.get_by_text("Proof", exact=True).click()
    await shown.shows("workflow runs proof open > proof.json")
    async with shown.page.expect_download() as coming:
        await shown.press("Save proof")
    whole = orjson.loads((await (await coming.value).path()).read_bytes())
    assert (whole["run_id"], [item["seq"] for item in whole["items"]]) == ("open", [1, 2])


async def test_a_run_goes_on_while_it_is_looked_at(world: World, shown: Screen) -> None:
    """Without a reload; the events that came stand on top."""
    story = world.story("live", at_s=4)
    await world.tell(story, [story.requested(1)])
    await shown.open("runs/live")
    await shown.shows("RunRequested")
    values = [
        story.event(1, "StepStarted", {"step": "step_0", "attempt": 1}),
        story.event(1, "StepSucceeded", {"step": "step_0", "attempt": 1, "output": None}),
    ]
    await world.tell(story, values)
    await shown.shows("StepSucceeded", "as it is now, after 3 events")
    assert column(await shown.rows("Events, newest first"), 0) == ["3", "2", "1"]


async def test_an_answer_that_is_older_is_not_shown(shown: Screen) -> None:
    """As one of an API whose tables are behind: the page does not go back."""
    await shown.open("runs/good")
    await shown.shows("as it is now, after 6 events")

    async def older(route: Route) -> None:
        answer = await route.fetch()
        await route.fulfill(response=answer, json={**await answer.json(), "seq": 2, "status": "RUNNING"})

    await shown.page.route("**/api/v1/runs/good", older)
    await shown.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await shown.page.wait_for_timeout(500)
    await expect(shown.page.locator("h1")).to_contain_text("SUCCESS")
    await shown.shows("as it is now, after 6 events")


async def test_workflows_and_their_versions(shown: Screen) -> None:
    """The list, the newest version, and an older one."""
    await shown.open("workflows")
    assert (await shown.rows("Workflows by id"))[0][:3] == ["greet", "Greet", "2"]
    await shown.page.get_by_role("link", name="greet").click()
    await shown.shows("step_2")
    assert len(await shown.rows("Steps")) == 3
    await shown.page.get_by_label("Version", exact=True).select_option("1")
    await expect(shown.page.locator("tbody tr")).to_have_count(2)
    assert shown.page.url.endswith("#/workflows/greet?version=1")
    await shown.open("workflows/greet?as_of=2001-01-01T00:00:00Z")
    await shown.shows("Close")
    await expect(shown.page.get_by_label("Version", exact=True)).to_be_visible()
