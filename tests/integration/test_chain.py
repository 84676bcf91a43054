"""Client → API → commands → worker → log → projector → tables → API, on real servers and without a fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.settings import Settings
from tests.fleet import platform
from tests.judging import judged


@pytest.mark.slow
async def test_every_kind_of_run_comes_to_its_end(settings: Settings, tmp_path: Path) -> None:
    """Runs that succeed, fail, wait, call, compute and try again: each ends once, as it must, and is shown so."""
    async with platform(settings, tmp_path, workers=2) as fleet:
        await fleet.trigger(60)
        judge = await judged(fleet)
        assert judge.counts["StepInterrupted"] == 0
        assert judge.counts["orphans"] == judge.counts["orphan lost take"]
        assert judge.counts["StepRetryScheduled"] >= 2
        for member in fleet.members:
            assert await member.stop() == 0
