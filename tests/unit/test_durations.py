"""Durations as people write them."""

from __future__ import annotations

import math

import pytest
from pydantic import BaseModel, ValidationError

from schemas.durations import DURATION_MAX_S, Duration, seconds


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        (5, 5.0),
        (0, 0.0),
        (0.5, 0.5),
        ("50ms", 0.05),
        ("0ms", 0.0),
        ("2s", 2.0),
        ("1.5s", 1.5),
        ("3m", 180.0),
        ("4h", 14_400.0),
        ("1d", 86_400.0),
        ("3650d", DURATION_MAX_S),
        (DURATION_MAX_S, DURATION_MAX_S),
    ],
)
def test_a_number_or_a_text_with_a_unit_is_seconds(value: float | str, expected_s: float) -> None:
    """Numbers are seconds, texts have a unit from ms to d."""
    assert seconds(value) == expected_s


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("5", '"5s"'),
        ("-1s", "no duration"),
        (-1, "0 or longer, not -1"),
        (-0.5, "0 or longer"),
        (math.nan, "0 or longer"),
        (math.inf, "longest duration"),
        (10**400, "longest duration"),
        (-(10**400), "0 or longer"),
        ("3651d", "3651d is longer than the longest duration, 10 years"),
        (True, "not true"),
        (None, "not NoneType"),
        ([1], "not list"),
        ("", "no duration"),
        ("1 s", "no duration"),
        ("2s\n", "no duration"),
        ("1e3s", "no duration"),
        ("٣s", "no duration"),
        ("infs", "no duration"),
        ("9" * 10_000 + "s", "no duration"),
        ("2S", "no duration"),
        ("1.s", "no duration"),
    ],
)
def test_whatever_else_is_refused_with_a_sentence(value: object, part: str) -> None:
    """A ValueError says what is wrong with the value, in bounded length."""
    with pytest.raises(ValueError, match=r"duration|unit") as refused:
        seconds(value)
    assert part in str(refused.value)
    assert len(str(refused.value)) < 200


def test_a_model_field_takes_durations() -> None:
    """`Duration` in a pydantic model holds seconds and reports the same sentence."""

    class Pause(BaseModel):
        length: Duration

    assert Pause.model_validate({"length": "2m"}).length == 120.0
    with pytest.raises(ValidationError, match="write 5 or"):
        Pause.model_validate({"length": "5"})
