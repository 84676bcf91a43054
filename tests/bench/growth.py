"""Scenario `growth`: what platforms larger than this machine would carry, by the model of tests/bench/growth_model.py."""

from __future__ import annotations

import asyncio
from typing import Final

from tests.bench.figures import Figure, Rounds
from tests.bench.growth_model import Cost, Costs, Loss, Setup, Simulation, batch_cost, carries
from tests.bench.options import Options

EVEN: Final = 1_100.0
"""Starts a second of the even load of the scenario `http`, on eight partitions and one process of each role."""
WORKER, PROJECTOR, DATABASE = 0.25e-3, 0.23e-3, 0.15e-3
"""Seconds of CPU for a run at full load, and of an even one, as docs/scale.md has them: the figures of `http`."""
WORKER_EVEN, PROJECTOR_EVEN = 0.50e-3, 0.44e-3
COMMIT_S: Final = 0.5e-3
SPARE_WORKERS: Final = 4
"""From so many on the others carry the load of a lost one at 60 %."""
TAKEOVER_S: Final = 7.6
"""From a worker's kill -9 to the next decision in its partitions, as `make faults-long` has seen it."""

SETUPS: Final = (
    Setup(1, 1, 1),
    Setup(8, 1, 1, 1, 1),
    Setup(8, 2, 2, 1, 2),
    Setup(8, 4, 4, 1, 4),
    Setup(8, 8, 8, 1, 8),
    Setup(16, 8, 8, 1, 8),
    Setup(32, 8, 8, 1, 8),
    Setup(32, 12, 12, 1, 8),
    Setup(32, 16, 16, 1, 8),
    Setup(32, 16, 16, 1, 16),
    Setup(64, 32, 32, 1, 16),
    Setup(64, 32, 32, 2, 16),
)


def measured_costs() -> Costs:
    """What was measured here for runs; what a batch costs follows from how much dearer a run is where batches are small."""
    return Costs(
        Cost(batch_cost(WORKER, WORKER_EVEN, EVEN, 8), WORKER),
        Cost(batch_cost(PROJECTOR, PROJECTOR_EVEN, EVEN, 8), PROJECTOR),
        Cost(COMMIT_S, DATABASE),
    )


async def run(options: Options) -> list[Figure]:
    """Nothing is measured: the same costs give the same figures on every machine."""
    return await asyncio.to_thread(_simulate, SETUPS[:3] if options.quick else SETUPS)


def _simulate(setups: tuple[Setup, ...]) -> list[Figure]:
    costs, rounds = measured_costs(), Rounds()
    rounds.add("a batch of a worker", costs.worker.batch_s * 1000, "ms")
    rounds.add("a batch of a projector", costs.projector.batch_s * 1000, "ms")
    for setup in setups:
        name = named(setup)
        most = carries(setup, costs)
        rounds.add(f"{name}: carried", most, "runs/s", better="more")
        seen = Simulation(setup, costs).run(0.8 * most, 10.0)
        rounds.add(f"{name}: shown at 80 %, half within", seen.within_s(0.5) * 1000, "ms")
        rounds.add(f"{name}: shown at 80 %, 99 of 100 within", seen.within_s(0.99) * 1000, "ms")
        for role, share in seen.busy.items():
            rounds.add(f"{name}: busy at 80 %, {role}", 100 * share, "%")
        if setup.workers >= SPARE_WORKERS:
            lost = Simulation(setup, costs).run(0.6 * most, 40.0, loss=Loss(10.0, TAKEOVER_S))
            rounds.add(f"{name}: a worker lost at 60 %, level again after", lost.late_until_s - 10.0, "s")
    return rounds.figures()


def named(setup: Setup) -> str:
    databases = f"{setup.databases} x {setup.cores}"
    return f"{setup.partitions} partitions, {setup.workers} workers, {setup.projectors} projectors, {databases} cores"
