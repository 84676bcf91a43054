"""Scenario `partition`: what a single partition carries, from the start to the tables."""

from __future__ import annotations

from tests.bench.batch import in_batches
from tests.bench.figures import Figure
from tests.bench.options import Options


async def run(options: Options) -> list[Figure]:
    """As `batch`, with one partition: one order, one worker, one projector."""
    return await in_batches(options, requests=20, partitions=1)
