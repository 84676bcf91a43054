"""Scenario `batch`: runs started a thousand at a time."""

from __future__ import annotations

from typing import Final

from tests.bench.figures import Figure, Rounds
from tests.bench.load import Starts, measure
from tests.bench.log import Watch
from tests.bench.options import Options
from tests.bench.running import running
from tests.bench.warm import warm_up
from tests.bench.workflows import NOOP, starts

PATH: Final = "/api/v1/trigger/batch"
ITEMS: Final = 1_000
CONNECTIONS: Final = 2


async def run(options: Options) -> list[Figure]:
    """Closed loop over two connections."""
    return await in_batches(options, requests=40)


async def in_batches(options: Options, *, requests: int, partitions: int = 8) -> list[Figure]:
    """So many batches in each round, on a platform with so many partitions."""
    requests = 2 if options.quick else requests
    rounds = Rounds()
    with running(options.folder, partitions=partitions) as platform:
        async with Watch.open(platform.settings) as watch:
            await warm_up(platform, watch, options)
            for _ in range(options.rounds):
                load = Starts(PATH, starts(NOOP, ITEMS), requests, runs_each=ITEMS, connections=CONNECTIONS)
                await measure(platform, watch, load, rounds)
    return rounds.figures()
