"""Scenario `http`: each run started by its own POST; as fast as the platform answers, then evenly, a little above the target."""

from __future__ import annotations

from typing import Final

from tests.bench.figures import Figure, Rounds
from tests.bench.load import Starts, measure
from tests.bench.log import Watch
from tests.bench.options import Options
from tests.bench.running import running
from tests.bench.warm import warm_up
from tests.bench.workflows import NOOP, start

PATH: Final = "/api/v1/trigger"
EVENLY_PER_S: Final = 1_100


async def run(options: Options) -> list[Figure]:
    """Closed loop over 32 connections, then an even rate."""
    count = 1_000 if options.quick else 20_000
    rounds = Rounds()
    with running(options.folder) as platform:
        async with Watch.open(platform.settings) as watch:
            await warm_up(platform, watch, options)
            for _ in range(options.rounds):
                await measure(platform, watch, Starts(PATH, start(NOOP), count), rounds)
            for _ in range(options.rounds):
                evenly = Starts(PATH, start(NOOP), count // 2, rate=EVENLY_PER_S)
                await measure(platform, watch, evenly, rounds, prefix=f"at {EVENLY_PER_S:,} POST/s: ")
    return rounds.figures()
