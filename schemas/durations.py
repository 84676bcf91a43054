"""Durations as people write them: seconds as a number, or a text with a unit such as "50ms", "2s", "3m", "4h", "1d"."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator

DURATION_MAX_S: Final = 10 * 365 * 86_400
"""Ten years of 365 days."""

_TEXT: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ms|s|m|h|d)?")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FORMS: Final = 'a number of seconds or a text such as "50ms", "2s", "1.5s", "3m", "4h", "1d"'


def seconds(value: object) -> float:
    """The duration `value` (int, float or text) in seconds, from 0 up to `DURATION_MAX_S`.

    Raises ValueError with a sentence that says what is wrong and what would be right.
    """
    match value:
        case bool():
            raise ValueError(f"a duration is {_FORMS}, not {str(value).lower()}")
        case int() | float():
            return _bounded(value, str(value) if abs(value) < 1e15 else "that")
        case str():
            return _bounded(_read(value), value)
        case _:
            raise ValueError(f"a duration is {_FORMS}, not {type(value).__name__}")


def _read(text: str) -> float:
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is no duration; write {_FORMS}")
    number, unit = found.groups()
    if unit is None:
        raise ValueError(f'"{number}" has no unit; write {number} or "{number}s" for seconds')
    return float(number) / 1_000 if unit == "ms" else float(number) * _UNIT_S[unit]


def _bounded(value: float, written: str) -> float:
    if not value >= 0:  # NaN as well
        raise ValueError(f"a duration is 0 or longer, not {written}")
    if value > DURATION_MAX_S:
        raise ValueError(
            f"{written} is longer than the longest duration, 10 years (3650d); WORKFLOW_DELAY_MAX_S cannot allow more"
        )
    return float(value)


Duration = Annotated[float, BeforeValidator(seconds, json_schema_input_type=int | float | str)]
"""A field of a pydantic model that takes what `seconds` takes and holds seconds."""
