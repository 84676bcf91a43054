"""Scenario `partition`: what a single partition carries, from the start to the tables."""

from __future__ import annotations

from tests.bench.batch import CONNECTIONS, ITEMS, PATH
from tests.bench.figures import Figure, Rounds
from tests.bench.load import Starts, measure
from tests.bench.log import Watch
from tests.bench.options import Options
from tests.bench.running import running
from tests.bench.warm import warm_up
from tests.bench.workflows import NOOP, starts


async def run(options: Options) -> list[Figure]:
    """As `batch`, with one partition: one order, one worker, one projector."""
    requests = 2 if options.quick else 20
    rounds = Rounds()
    with running(options.folder, partitions=1) as platform:
        async with Watch.open(platform.settings) as watch:
            await warm_up(platform, watch, options)
            for _ in range(options.rounds):
                load = Starts(PATH, starts(NOOP, ITEMS), requests, runs_each=ITEMS, connections=CONNECTIONS)
                await measure(platform, watch, load, rounds)
    return rounds.figures()
