"""A schedule: all that a simulation did, in a form that can be kept, replayed and cut down."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from tests.simulation.orders import Order
from tests.simulation.setup import Setup
from tests.simulation.steps import Step, check

Mode = Literal["survivable", "unlimited"]
MODES: tuple[Mode, ...] = ("survivable", "unlimited")
"""Faults that end, and then rest must come and every promise be kept; faults without end, and safety alone is asked for."""


@dataclass(slots=True)
class Schedule:
    """`seed`: from which it was drawn. `breaks`: the promise that it breaks, "" for none, and `says` how. `mutant`: the engine
    on which it does, "" for the one that there is."""

    mode: Mode
    setup: Setup
    orders: list[Order]
    steps: list[Step] = field(default_factory=list)
    seed: int | None = None
    mutant: str = ""
    breaks: str = ""
    says: str = ""

    def text(self) -> str:
        """JSON, one order and one step a line. Settings that are as they are by default are left out."""
        plain = Setup()
        tight = {name: value for name, value in asdict(self.setup).items() if value != getattr(plain, name)}
        about = {name: getattr(self, name) for name in ("seed", "mode", "mutant", "breaks", "says")} | {"setup": tight}
        lines = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in about.items()]
        lines += [_lines("orders", self.orders), _lines("steps", self.steps)]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def read(cls, text: str) -> Self:
        """The reverse of `text`; also the schedule in a report of `tests.simulation`. Raises ValueError with what is wrong."""
        given = json.loads(text)
        given = given.get("failed") or given if isinstance(given, dict) else None
        if given is None:
            raise ValueError("a schedule is a JSON object")
        setup = _known(given.get("setup", {}), Setup, "setup")
        found = _known({**given, "setup": Setup(**setup)}, cls, "a schedule")
        missing = sorted({"mode", "orders", "steps"} - found.keys())
        if missing or found["mode"] not in MODES:
            raise ValueError(f"a schedule needs {', '.join(missing)}" if missing else f"mode: {' or '.join(MODES)}")
        for step in found["steps"]:
            check(step)
        return cls(**found)


def _known(given: Mapping[str, Any], of: type[Any], what: str) -> dict[str, Any]:
    unknown = sorted(given.keys() - {one.name for one in fields(of)})
    if unknown:
        raise ValueError(f"{what} has no {unknown[0]!r}")
    return dict(given)


def _lines(name: str, items: list[Any]) -> str:
    inside = ",\n".join(f"    {json.dumps(item)}" for item in items)
    return f'  "{name}": [\n{inside}\n  ]' if items else f'  "{name}": []'


class Broken(AssertionError):
    """A promise does not hold on a schedule. `rest_from`: how many of its steps were done before faults ended, None for all."""

    def __init__(self, schedule: Schedule, error: Exception, rest_from: int | None) -> None:
        found = re.match(r"[SLI][0-9]+", str(error)) if isinstance(error, AssertionError) else None
        schedule.breaks, schedule.says = found[0] if found else type(error).__name__, str(error)[:500]
        seed = f"seed {schedule.seed}, " if schedule.seed is not None else ""
        super().__init__(f"{schedule.says} ({seed}{schedule.mode}, {len(schedule.steps)} steps)")
        self.schedule, self.rest_from = schedule, rest_from
