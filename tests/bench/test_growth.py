"""The model of growth keeps its runs, and no schedule of it does more than its cores can."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.bench.growth_model import Cost, Costs, Loss, Setup, Simulation, batch_cost, carries, ceiling

COSTS = Costs(Cost(0.0005, 0.00025), Cost(0.0004, 0.00023), Cost(0.0005, 0.00015))
setups = st.builds(
    Setup,
    partitions=st.integers(1, 12),
    workers=st.integers(1, 6),
    projectors=st.integers(1, 6),
    databases=st.integers(1, 3),
    cores=st.integers(1, 4),
)


@given(setups, st.floats(0.05, 2.0), st.none() | st.floats(0.0, 1.0), st.integers(0, 2**16))
@settings(max_examples=60)
def test_every_run_is_shown_once(setup: Setup, load: float, dies: float | None, seed: int) -> None:
    """Under any load, with a worker that dies or without; none before its own work is done."""
    loss = None if dies is None else Loss(dies, 0.5)
    out = Simulation(setup, COSTS, seed=seed).run(load * ceiling(setup, COSTS), 1.0, loss=loss)
    assert out.shown == out.arrived == sum(runs for _, runs in out.visible_s)
    alone = COSTS.worker.of(1) + COSTS.projector.of(1) + COSTS.database.of(1)
    assert all(waited_s > alone - 1e-9 for waited_s, _ in out.visible_s)
    assert all(share <= 1 + 1e-9 for share in out.busy.values())


def test_one_partition_is_folded_and_written_in_turns() -> None:
    """A projector does not fold a partition on while its rows are being written."""
    one = carries(Setup(1, 1, 1), COSTS)
    assert one == pytest.approx(1 / (COSTS.projector.run_s + COSTS.database.run_s), rel=0.05)
    assert carries(Setup(1, 3, 3, 2), COSTS) == pytest.approx(one, rel=0.05)


@pytest.mark.long
def test_twice_of_everything_carries_twice_as_much() -> None:
    half, whole = carries(Setup(8, 2, 2, 1, 2), COSTS), carries(Setup(16, 4, 4, 1, 4), COSTS)
    assert whole == pytest.approx(2 * half, rel=0.1)


@pytest.mark.long
def test_more_partitions_than_projectors_keep_these_busy() -> None:
    """While one partition is written another is folded."""
    assert carries(Setup(16, 8, 8, 1, 8), COSTS) > 1.3 * carries(Setup(8, 8, 8, 1, 8), COSTS)


def test_the_partitions_of_a_dead_worker_wait_for_their_takeover() -> None:
    """The others do not, and all is level again some time after it."""
    out = Simulation(Setup(8, 4, 4, 1, 4), COSTS).run(2_000, 10.0, loss=Loss(2.0, 3.0))
    assert 5.0 < out.late_until_s < 8.0
    late = sum(runs for waited_s, runs in out.visible_s if waited_s > 1.0)
    assert out.shown * 0.02 < late < out.shown * 0.25


def test_what_a_batch_costs_is_found_from_a_load() -> None:
    found = batch_cost(0.00025, 0.0005, 1_100.0, 8)
    free = Cost(0.0, 1e-9)
    simulation = Simulation(Setup(8, 1, 1), Costs(Cost(found, 0.00025), free, free))
    out = simulation.run(1_100.0, 4.0)
    assert simulation.worker_s / out.shown == pytest.approx(0.0005, rel=0.02)
