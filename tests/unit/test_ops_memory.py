"""Memory that a burst has left behind."""

from __future__ import annotations

import asyncio

import pytest

from ops import memory


class Grown:
    """A process whose memory grows as the test says, and a C library that counts how often it is asked."""

    def __init__(self) -> None:
        self.rss, self.asked = 100 * 2**20, 0

    def memory_info(self) -> Grown:
        return self

    def trim(self, _: int) -> int:
        self.asked += 1
        self.rss = 100 * 2**20
        return 1


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Grown:
    grown = Grown()
    monkeypatch.setattr(memory, "LOOK_S", 0.001)
    monkeypatch.setattr("psutil.Process", lambda: grown)
    monkeypatch.setattr(memory, "_trim", lambda: grown.trim)
    return grown


async def test_it_is_asked_for_after_each_growth_and_not_without_one(process: Grown) -> None:
    """A burst of 50 MB is given back once, another one as well; a process that stays as it is is left alone."""
    giving = asyncio.ensure_future(memory.give_back_regularly())
    await asyncio.sleep(0.02)
    assert process.asked == 0
    for bursts in (1, 2):
        process.rss += 50 * 2**20
        await asyncio.sleep(0.05)
        assert process.asked == bursts
    giving.cancel()


async def test_without_such_a_c_library_nothing_is_done(process: Grown, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends by itself."""
    monkeypatch.setattr(memory, "_trim", lambda: None)
    await asyncio.wait_for(memory.give_back_regularly(), 1)
