"""An app whose runs the test tells, and a browser on it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.world import World, make_world
from tests.ui.browser import Screen, screen, served, told


@pytest.fixture
async def world() -> World:
    """One run that succeeded, one that runs, one that failed."""
    return await told(make_world())


@pytest.fixture
async def shown(world: World) -> AsyncIterator[Screen]:
    async with served(world.app) as address, screen(address) as shown:
        yield shown
