"""Chromium with a page of ours in it, and an app behind an address of its own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright, expect
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http_server import HttpServer, bind
from tests.api.world import World

CHROMIUM: Final = shutil.which("chromium")
NEEDS_CHROMIUM: Final = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium here: apt-get install --no-install-recommends chromium"
)
SHOWN_WITHIN_MS: Final = 10_000
ANSWERS_LOGGED: Final = "Failed to load resource"
"""What the browser itself writes of an answer from 400 on."""


class Screen:
    """A page, and what the browser complained of: errors of scripts, violations of the policy."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(ANSWERS_LOGGED):
            self.complaints.append(message.text)

    async def open(self, route: str) -> None:
        """A route such as `runs`, as if its link was followed."""
        await self.page.goto(f"{self.address}/ui/#/{route}")

    async def shows(self, *texts: str) -> None:
        """Wait until each text stands somewhere on the page."""
        for text in texts:
            await expect(self.page.locator("body")).to_contain_text(text)

    async def rows(self, caption: str) -> list[list[str]]:
        """The cells of a table's body."""
        table = self.page.locator("table", has=self.page.locator("caption", has_text=caption))
        await expect(table.first).to_be_visible()
        return [await row.locator("th, td").all_inner_texts() for row in await table.locator("tbody tr").all()]

    async def press(self, button: str) -> None:
        await self.page.get_by_role("button", name=button, exact=True).click()

    async def begin_rebuild(self) -> None:
        """By its button, and the one that says that this is meant."""
        await self.press("Rebuild")
        await self.page.get_by_role("dialog").get_by_role("button", name="Rebuild").click()

    async def cancel_rebuild(self) -> None:
        """In the same way; the tables stay as they are."""
        await self.press("Cancel the rebuild")
        await self.press("Cancel it")
        await self.shows("Cancelled. The tables that serve were not touched.")


@asynccontextmanager
async def screen(address: str, **context: Any) -> AsyncIterator[Screen]:
    """A browser on the platform at this address; at the end it must have had nothing to complain of."""
    expect.set_options(timeout=SHOWN_WITHIN_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-dev-shm-usage"])
        try:
            page = await (await browser.new_context(viewport={"width": 1280, "height": 900}, **context)).new_page()
            shown = Screen(page, address)
            yield shown
            assert shown.complaints == []
        finally:
            await browser.close()


@asynccontextmanager
async def served(app: ASGIApp, prefix: str = "") -> AsyncIterator[str]:
    """The address of an app; with a prefix, as a proxy serves it that keeps the prefix to itself."""
    server = HttpServer(behind(app, prefix), bind("127.0.0.1", 0, setting="API_PORT"), grace_s=1)
    await server.start()
    try:
        yield f"{server.address}{prefix}"
    finally:
        await server.stop()


def behind(app: ASGIApp, prefix: str) -> ASGIApp:
    """The app, behind a proxy that cuts the prefix off and answers everything else with 404."""

    async def proxy(scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(f"{prefix}/"):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"not here"})
            return
        cut = {"path": scope["path"][len(prefix) :], "raw_path": scope["raw_path"][len(prefix) :]}
        await app({**scope, **cut}, receive, send)

    return proxy


def column(rows: Sequence[Sequence[str]], number: int) -> list[str]:
    return [row[number] for row in rows]


async def told(world: World) -> World:
    """The world with a workflow of two versions, and one run that succeeded, one that runs, one that failed."""
    await world.define("greet")
    await world.define("greet", 3)
    good, open_, bad = world.story("good", at_s=1), world.story("open", at_s=2), world.story("bad", at_s=3)
    await world.tell(good)
    await world.tell(open_, [open_.requested(1), open_.event(1, "StepStarted", {"step": "step_0", "attempt": 1})])
    error = {"code": "http_402", "message": "the receiver wants <b>money</b>\nnow", "step": "step_0"}
    failed = [
        bad.requested(1),
        bad.event(1, "StepStarted", {"step": "step_0", "attempt": 1}),
        bad.event(1, "StepFailed", {"step": "step_0", "attempt": 1, "error": error}),
        bad.completed(1, "FAILED", error=error),
    ]
    await world.tell(bad, failed)
    world.now_s += 3600
    return world
