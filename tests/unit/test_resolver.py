"""What a start comes to: it waits for the definitions, and in the end it is refused."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.catalog import Defined
from schemas.commands import TriggerRun
from schemas.errors import BrokerAway
from streams.resolver import Resolver
from tests.given import workflow

TIME = "2026-01-01T00:00:00.000Z"


class View:
    """Definitions that this process has read; it is level as soon as it is asked, unless Kafka is away."""

    def __init__(self) -> None:
        self.known: dict[int, Defined] = {}
        self.away = False
        self.levelled = 0

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        return self.known.get(version or max(self.known, default=0))

    async def level(self) -> None:
        self.levelled += 1
        if self.away:
            raise BrokerAway(address="nowhere", reason="the test says so")


class Waiting:
    """A resolver, the clock by which it waits, and one start."""

    def __init__(self, version: int | None) -> None:
        self.view, self.now = View(), 5.0
        self.resolver = Resolver(self.view, wait_s=30.0, clock=lambda: self.now)
        self.command = TriggerRun("c1", "r1", "w", version, {}, TIME)

    async def ask(self) -> Any:
        """What the start comes to, after whatever was begun has been done."""
        start = self.resolver.resolve(0, 0, self.command)
        await asyncio.sleep(0.01)
        return start

    def define(self, version: int) -> None:
        self.view.known[version] = Defined("w", version, workflow(), 0)


async def test_a_version_that_is_known() -> None:
    """Nothing is waited for, and nobody is asked."""
    waiting = Waiting(1)
    waiting.define(1)
    start = await waiting.ask()
    assert (start.version, start.refusal, waiting.view.levelled) == (1, None, 0)


async def test_a_version_that_comes_late() -> None:
    """The start waits until it is there."""
    waiting = Waiting(2)
    waiting.define(1)
    assert [await waiting.ask() for _ in range(3)] == [None, None, None]
    waiting.define(2)
    assert (await waiting.ask()).version == 2


async def test_a_version_that_never_comes() -> None:
    """After so many seconds the start is refused, and says what there is not."""
    waiting = Waiting(7)
    await waiting.ask()
    waiting.now += 29.9
    assert await waiting.ask() is None
    waiting.now += 0.1
    start = await waiting.ask()
    assert (start.refusal["code"], start.definition) == ("definition_unknown", None)
    assert "'w' version 7" in start.refusal["message"]


async def test_without_a_version_the_newest_one_counts() -> None:
    """Once the view is level with what was known when the command was taken."""
    waiting = Waiting(None)
    waiting.define(1)
    waiting.define(3)
    assert await waiting.ask() is None
    assert (await waiting.ask()).version == 3


async def test_a_workflow_that_nobody_defined() -> None:
    """Without a version nothing is waited for but the view's being level."""
    waiting = Waiting(None)
    assert await waiting.ask() is None
    assert (await waiting.ask()).refusal["code"] == "definition_unknown"


async def test_while_kafka_is_away_starts_wait() -> None:
    """The view is asked again and again; nothing is refused for what it cannot know."""
    waiting = Waiting(7)
    waiting.view.away = True
    for _ in range(5):
        assert await waiting.ask() is None
        waiting.now += 100
    waiting.view.away = False
    assert await waiting.ask() is None
    assert (await waiting.ask()).refusal["code"] == "definition_unknown"


async def test_nobody_can_set_the_clock_that_it_waits_by(monkeypatch: Any) -> None:
    """The time of day may be set back by hours while a start waits: it waits no longer for that."""
    waiting = Waiting(None)
    waiting.define(1)
    waiting.resolver = Resolver(waiting.view, wait_s=30.0)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert await waiting.ask() is None
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert (await waiting.ask()).version == 1
