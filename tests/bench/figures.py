"""Figures: what a scenario measured, once or several times, and the target beside it where there is one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured, with a value for each round. `target` is a lower bound when more is better."""

    name: str
    unit: str
    values: tuple[float, ...]
    target: float | None = None
    better: Literal["more", "less"] = "less"

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """Whether the median is as good as the target; None without one."""
        if self.target is None:
            return None
        return self.median >= self.target if self.better == "more" else self.median <= self.target

    def line(self) -> str:
        """For people: name, median, spread, target."""
        text = f"  {self.name:<62} {number(self.median):>10} {self.unit:<8}"
        if len(self.values) > 1:
            text += f" [{number(min(self.values))} .. {number(max(self.values))}]"
        if self.target is not None:
            sign = ">=" if self.better == "more" else "<="
            text += f"  target {sign} {number(self.target)}: {'reached' if self.reached else 'MISSED'}"
        return text.rstrip()

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "values": list(self.values),
            "target": self.target,
            "better": self.better,
            "reached": self.reached,
        }


class Rounds:
    """Collects the values of several rounds, figure by figure, in the order in which they were first named."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}
        self._about: dict[str, tuple[str, float | None, Literal["more", "less"]]] = {}

    def add(
        self,
        name: str,
        value: float,
        unit: str,
        *,
        target: float | None = None,
        better: Literal["more", "less"] = "less",
    ) -> None:
        self._values.setdefault(name, []).append(value)
        self._about[name] = (unit, target, better)

    def figures(self) -> list[Figure]:
        return [
            Figure(name, unit, tuple(self._values[name]), target, better)
            for name, (unit, target, better) in self._about.items()
        ]


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` of them do not exceed (nearest rank)."""
    if not values:
        raise ValueError("no values, no percentile")
    ranked = sorted(values)
    return ranked[max(0, math.ceil(percent / 100 * len(ranked)) - 1)]


def number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Ratios of two reports' medians, a line per figure that both have; above 1 is better now."""
    lines = []
    for name, scenario in after["scenarios"].items():
        old = {figure["name"]: figure for figure in before["scenarios"].get(name, {}).get("figures", [])}
        for figure in scenario.get("figures", []):
            was = old.get(figure["name"])
            if was is None or not was["median"] or not figure["median"]:
                continue
            ratio = figure["median"] / was["median"]
            ratio = ratio if figure["better"] == "more" else 1 / ratio
            lines.append(f"  {name + ': ' + figure['name']:<60} {ratio:6.2f}x")
    return lines
