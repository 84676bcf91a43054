"""The stores beside PostgreSQL, each once from end to end with the kill of a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.settings import Settings
from tests.conftest import make_settings
from tests.fleet import Fleet, platform
from tests.judging import judged, records
from tests.servers import Address

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


@pytest.fixture
def settings(kafka: Address, topic_prefix: str, tmp_path: Path) -> Settings:
    """Without a PostgreSQL that could be reached."""
    return make_settings(kafka.address, "postgresql://nobody@127.0.0.1:1/none", topic_prefix, tmp_path)


async def lose_a_worker(fleet: Fleet) -> None:
    """One of two workers dies under load, and another comes."""
    async with fleet.load():
        await fleet.trigger(40)
        before = await records(fleet.settings)
        fleet.of("worker")[0].kill()
        fleet.start("worker")
        await fleet.trigger(20)
        await fleet.owned()
    judge = await judged(fleet, earlier=before)
    assert judge.counts["StepInterrupted"] >= 1


async def test_a_worker_is_killed_on_the_filesystem_store(settings: Settings, tmp_path: Path) -> None:
    """Snapshot and look-ups from SQLite, shared by all processes."""
    settings = settings.model_copy(update={"storage_backend": "filesystem"})
    async with platform(settings, tmp_path, workers=2) as fleet:
        await lose_a_worker(fleet)


async def test_a_worker_is_killed_on_the_memory_store(settings: Settings, tmp_path: Path) -> None:
    """No store and no projector: the new owner folds the log from its start, and each API answers from its own fold."""
    settings = settings.model_copy(update={"storage_backend": "memory"})
    async with platform(settings, tmp_path, workers=2, projectors=0) as fleet:
        await lose_a_worker(fleet)
