"""Random schedules on a simulated log: what must always hold, holds, whatever happens and in whichever order."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import fields
from hashlib import blake2b
from pathlib import Path

import orjson
import pytest

from tests.simulation.game import drawn, play, play_all
from tests.simulation.marks import missing
from tests.simulation.schedule import Broken, Mode
from tests.simulation.setup import Setup
from tests.simulation.shrink import shrink

pytestmark = pytest.mark.timeout(600)  # seconds alone; minutes where lines are counted and others compute, too

SURVIVABLE_SEEDS = 1000
UNLIMITED_SEEDS = 400
ROOT = Path(__file__).parents[2]


def met(mode: Mode, seeds: int) -> Counter[str]:
    """What these seeds met; one that breaks a promise is shown as a short schedule, which `tests.simulation.replay` plays."""
    try:
        return play_all(mode, range(seeds))
    except Broken as broken:
        broken.add_note(shrink(broken).text())
        raise


def test_random_schedules() -> None:
    """Every accepted run ends, once, announced at least once; all readers agree on the facts; the history is sound; and the
    seeds meet everything rare."""
    found = met("survivable", SURVIVABLE_SEEDS)
    assert missing("survivable", found) == []
    assert found["set_aside"] == 0


def test_random_schedules_without_limit() -> None:
    """The log loses its tail, tables are of another log, two members own a partition, records are repeated: nobody acts on
    what is no fact, and a log that is not the one that is known is noticed."""
    assert missing("unlimited", met("unlimited", UNLIMITED_SEEDS)) == []


def test_settings_are_drawn_as_well() -> None:
    """Batches and queues of 1, 2 or 64 partitions, one to five workers, clocks that are off: each setting takes more than one
    value among the seeds of a test."""
    setups = [drawn(seed, "survivable")[0].schedule.setup for seed in range(SURVIVABLE_SEEDS)]
    for name in (field.name for field in fields(Setup)):
        assert len({str(getattr(setup, name)) for setup in setups}) > 1, name
    assert {1, 2, 64} <= {setup.partitions for setup in setups}
    assert {len(setup.workers) for setup in setups} == {1, 2, 3, 4, 5}
    for name in ("read_max", "take_max", "project_max", "held_max", "effects_max"):
        assert 1 in {getattr(setup, name) for setup in setups}, name


def trace(mode: Mode, seeds: int) -> str:
    """A digest of everything that these seeds did."""
    hashed = blake2b(digest_size=16)
    for seed in range(seeds):
        game, _ = play(seed, mode)
        hashed.update(orjson.dumps(game.steps))
        for log in game.cluster.log.values():
            hashed.update(b"".join(record.value or b"" for record in log))
    return hashed.hexdigest()


@pytest.mark.parametrize("mode", ["survivable", "unlimited"])
def test_a_seed_is_a_schedule(mode: Mode) -> None:
    """The same seed gives the same schedule and the same bytes, in a process that hashes in another order as well."""
    script = f"from tests.simulation.test_random import trace; print(trace({mode!r}, 20))"
    found = {trace(mode, 20)}
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=env, capture_output=True, check=True)
        found.add(done.stdout.decode().strip())
    assert len(found) == 1
