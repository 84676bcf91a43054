"""The time by which a worker decides."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.clock import STEP_S, WorkerClock

NOW = 1_790_000_000.0


class Machine:
    """Its two clocks."""

    def __init__(self) -> None:
        self.wall_s, self.steady_s = NOW, 5_000.0
        self.clock = WorkerClock(lambda: self.wall_s, lambda: self.steady_s)

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.steady_s += seconds


def test_the_wall_clock_is_the_time() -> None:
    """Time passes by it, and it is followed where it is corrected in small pieces."""
    machine = Machine()
    machine.passes(100)
    assert machine.clock() == NOW + 100
    for _ in range(100):
        machine.wall_s += 0.9 * STEP_S
        assert machine.clock() == machine.wall_s


@pytest.mark.parametrize("step_s", [7_200.0, -7_200.0, 1e9, -1.5])
def test_a_step_is_not_followed(step_s: float) -> None:
    """The time goes on as before, for as long as the clock stays wrong and when it is set right again."""
    machine = Machine()
    machine.wall_s += step_s
    assert machine.clock() == pytest.approx(NOW)
    machine.passes(60)
    machine.clock.heard(NOW + 60)
    assert machine.clock() == pytest.approx(NOW + 60)
    machine.wall_s -= step_s
    assert machine.clock() == pytest.approx(NOW + 60)


@pytest.mark.parametrize("step_s", [7_200.0, -7_200.0])
def test_a_step_that_the_log_agrees_with_is_followed(step_s: float) -> None:
    """A clock that was wrong and has been set right."""
    machine = Machine()
    machine.clock()
    machine.wall_s += step_s
    machine.passes(1)
    machine.clock.heard(NOW + step_s + 0.7)
    assert machine.clock() == NOW + step_s + 1


def test_the_log_does_not_move_a_clock_that_was_not_stepped() -> None:
    """One broker's wrong clock is not everybody's."""
    machine = Machine()
    machine.clock.heard(NOW + 3_600)
    assert machine.clock() == NOW


def test_a_pause_that_the_steady_clock_has_missed() -> None:
    """The host has stopped the machine: to it the wall clock jumps, and the first event tells that it is right."""
    machine = Machine()
    machine.wall_s += 300
    machine.clock.heard(NOW + 299.9)
    assert machine.clock() == NOW + 300


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(-1e6, 1e6)), max_size=30))
def test_it_is_never_further_from_the_steady_clock_than_it_was_corrected(moves: list[tuple[float, float]]) -> None:
    """Whatever the wall clock does, without the log's word the time moves by less than a step beside the steady clock at
    each look."""
    machine = Machine()
    for passed_s, step_s in moves:
        before = machine.clock() - machine.steady_s
        machine.passes(passed_s)
        machine.wall_s += step_s
        assert abs(machine.clock() - machine.steady_s - before) <= STEP_S + 1e-3


def test_the_real_clocks() -> None:
    """On this machine it is the time of day."""
    clock = WorkerClock()
    assert abs(clock() - time.time()) < 1
    clock.heard(time.time())
    assert abs(clock() - time.time()) < 1
