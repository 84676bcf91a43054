"""What all pages share: keys, a prefix, refusals, lost answers, the keyboard, what is not known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from playwright.async_api import Route, expect

from tests.api.world import World, make_world
from tests.ui.browser import NEEDS_CHROMIUM, Screen, screen, served, told

pytestmark = NEEDS_CHROMIUM

PREFIX = "/tools/wf"


async def test_states_and_events_that_it_does_not_know(shown: Screen) -> None:
    """They are shown by their words, and everything else as ever."""

    async def strange(route: Route) -> None:
        answer = await route.fetch()
        text = (await answer.text()).replace("RUNNING", "SUSPENDED").replace("StepStarted", "StepAdmired")
        await route.fulfill(response=answer, body=text)

    await shown.page.route("**/api/v1/**", strange)
    await shown.open("runs")
    await shown.shows("◇ SUSPENDED", "good")
    await shown.page.get_by_role("link", name="open", exact=True).click()
    await shown.shows("◇ SUSPENDED", "StepAdmired", "Why: ")


async def test_what_is_refused_says_why(shown: Screen) -> None:
    """The problem of the API, with the page that explains it."""
    await shown.open("runs/nobody")
    notice = shown.page.get_by_role("alert")
    await expect(notice).to_contain_text("nobody")
    await expect(notice.get_by_role("link")).to_have_attribute("href", f"{shown.address}/problems/run_unknown")


async def test_without_an_answer_the_old_data_stay(shown: Screen) -> None:
    """It says of when they are, and goes on by itself."""
    await shown.open("runs")
    await shown.shows("good")
    await shown.page.route("**/api/v1/**", lambda route: route.abort())
    await shown.shows("reconnecting")
    await shown.shows("good")
    await shown.page.unroute("**/api/v1/**")
    await expect(shown.page.locator("#freshness")).to_be_empty()


async def test_it_asks_once_at_a_time_and_not_unseen(shown: Screen) -> None:
    """However often it is told to look; while the tab is hidden it does not ask, and afterwards at once."""
    running, most, asked = 0, 0, 0

    async def slowly(route: Route) -> None:
        nonlocal running, most, asked
        running, asked = running + 1, asked + 1
        most = max(most, running)
        await asyncio.sleep(0.3)
        await route.continue_()
        running -= 1

    await shown.page.route("**/api/v1/runs", slowly)
    await shown.open("runs")
    for _ in range(5):
        await seen(shown, hidden=False)
    await shown.shows("good")
    await asyncio.sleep(2.5)
    assert (most, asked >= 3) == (1, True)
    await seen(shown, hidden=True)
    await asyncio.sleep(0.5)
    before = asked
    await asyncio.sleep(3)
    assert asked == before
    await seen(shown, hidden=False)
    await asyncio.sleep(0.5)
    assert asked == before + 1


async def seen(shown: Screen, *, hidden: bool) -> None:
    """As if the tab was shown or hidden."""
    await shown.page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_keys_of_the_keyboard(shown: Screen) -> None:
    """`g` and a letter lead to a page, `/` to its first field, `?` helps."""
    await shown.open("runs")
    await shown.shows("good")
    keyboard = shown.page.keyboard
    await keyboard.type("gw")
    await shown.shows("Workflows by id")
    await keyboard.type("gp")
    await shown.shows("Quarantine")
    await keyboard.type("gr")
    await shown.shows("Runs, newest first")
    await keyboard.press("/")
    await expect(shown.page.get_by_label("Workflow", exact=True)).to_be_focused()
    await shown.page.locator("h1").click()
    await keyboard.press("?")
    await expect(shown.page.get_by_role("dialog")).to_contain_text("this help")
    await shown.open("workflows")
    await expect(shown.page.get_by_role("dialog")).to_have_count(0)
    await keyboard.press("?")
    await expect(shown.page.get_by_role("dialog")).to_contain_text("this help")
    await keyboard.press("Escape")
    await expect(shown.page.get_by_role("dialog")).to_have_count(0)


async def test_targets_are_large_and_fields_have_names(shown: Screen) -> None:
    """24 pixels high at least; every field, button and link has a name."""
    for route in ("runs", "runs/good", "workflows", "workflows/greet", "projections"):
        await shown.open(route)
        await expect(shown.page.locator("h1")).to_be_visible()
        await shown.page.wait_for_timeout(300)
        small: list[Any] = await shown.page.evaluate(
            """() => [...document.querySelectorAll("button, a, input, select, summary")]
                .filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 24)
                .map((e) => e.outerHTML)"""
        )
        assert small == []
        nameless: list[Any] = await shown.page.evaluate(
            """() => [...document.querySelectorAll("input, select, button, a")]
                .filter((e) => !(e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label")))
                .map((e) => e.outerHTML)"""
        )
        assert nameless == []


async def test_with_keys_it_asks_for_one() -> None:
    """It goes nowhere but into the header, lives as long as the tab, and a scope that it lacks is named."""
    world = await told(make_world(workflow_auth="keys"))
    token = world.keys.add("ann", "read")
    async with served(world.app) as address, screen(address) as shown:
        await shown.open("projections")
        await shown.shows("asks its callers for a key")
        await shown.page.get_by_label("Key", exact=True).fill("wfk_wrong")
        await shown.press("Use it")
        await shown.shows("does not take this key")
        await shown.page.get_by_label("Key", exact=True).fill(token.text)
        await shown.press("Use it")
        await shown.shows("Quarantine")
        assert token.text not in await shown.page.content()
        assert token.text not in shown.page.url
        assert await shown.page.evaluate("localStorage.length + document.cookie.length") == 0
        await shown.begin_rebuild()
        await expect(shown.page.get_by_role("alert")).to_contain_text("no scope 'operate'")
        await shown.page.reload()
        await shown.shows("Quarantine")
        await shown.press("Forget key")
        await shown.shows("asks its callers for a key")


async def test_behind_a_prefix(world: World) -> None:
    """Every page and what they load is found below it."""
    async with served(world.app, PREFIX) as address, screen(address) as shown:
        await shown.page.goto(f"{address}/ui")
        await shown.shows("good")
        assert shown.page.url.startswith(f"{address}/ui/#/runs")
        await shown.page.get_by_role("link", name="good", exact=True).click()
        await shown.shows("as it is now, after 6 events")
        await shown.page.get_by_role("link", name="Projections").click()
        await shown.shows("Quarantine")
        await shown.page.get_by_role("link", name="API").click()
        await expect(shown.page.locator("#swagger-ui")).to_contain_text("Workflow platform")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_readable_by_day_and_by_night(world: World, scheme: Any) -> None:
    """Text and ground are of the scheme that the system asks for."""
    async with served(world.app) as address, screen(address, color_scheme=scheme) as shown:
        await shown.open("runs")
        await shown.shows("good")
        ground = await shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(13, 17, 23)")
