"""Durations: every form means what it says, everything else is a ValueError."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.durations import DURATION_MAX_S, seconds

UNIT_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@given(st.integers(0, 3_000), st.sampled_from(sorted(UNIT_S)))
def test_a_number_with_a_unit_is_that_many_of_it(number: int, unit: str) -> None:
    """The unit multiplies."""
    assert math.isclose(seconds(f"{number}{unit}"), number * UNIT_S[unit])


@given(st.floats(0, DURATION_MAX_S) | st.integers(0, DURATION_MAX_S))
def test_a_number_is_itself(value: float) -> None:
    """Numbers are seconds, unchanged."""
    assert seconds(value) == value


@given(st.floats(max_value=-1e-300) | st.integers(max_value=-1) | st.floats(min_value=DURATION_MAX_S + 1))
def test_out_of_bounds_is_refused(value: float) -> None:
    """Neither negative nor longer than the longest."""
    with pytest.raises(ValueError, match="duration"):
        seconds(value)


@given(st.text(alphabet="0123456789.msdh -+e_", max_size=12) | st.text(max_size=12))
def test_any_text_is_a_bounded_duration_or_refused(text: str) -> None:
    """Nothing but ValueError is raised, and no value lies outside the bounds."""
    with suppress(ValueError):
        assert 0 <= seconds(text) <= DURATION_MAX_S
