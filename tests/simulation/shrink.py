"""Cutting a schedule down to what it needs to break the same promise: faults go first, then orders, then steps, then settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar

from tests.simulation.game import replay
from tests.simulation.orders import Order
from tests.simulation.schedule import Broken, Schedule
from tests.simulation.setup import Setup
from tests.simulation.steps import Step

FAULTS: Final = frozenset(
    "crash give lose late again foreign repeat store clock drain cut copy swap split slow start".split()
)
"""Kinds of steps that are, or may be, faults."""
REPLAYS_MAX: Final = 4_000

T = TypeVar("T")


class Shrinking:
    """Tries smaller schedules, as long as they break what the given one breaks.

    What must hold at every step is broken by a step of the schedule, so that nothing is left to the order in which things
    come to rest; what must hold in the end, when they have.
    """

    def __init__(self, broken: Schedule) -> None:
        self.best, self.replays = broken, 0

    def tried(self, smaller: Schedule) -> bool:
        """Whether it breaks the same promise; then what it did is the best so far."""
        if self.replays >= REPLAYS_MAX:
            return False
        self.replays += 1
        try:
            replay(smaller)
        except Broken as broken:
            at_a_step = broken.rest_from is None or not broken.schedule.breaks.startswith("S")
            if broken.schedule.breaks == self.best.breaks and at_a_step:
                self.best = replace(broken.schedule, steps=broken.schedule.steps[: broken.rest_from])
                return True
        return False

    def without(self, items: Sequence[T], rest: Callable[[list[T]], Schedule]) -> bool:
        """Leave out as many items as can be: halves of them, quarters, and in the end each by itself. Whether any went."""
        kept, size, gone = list(items), max(1, len(items) // 2), False
        while size and kept:
            at = 0
            while at < len(kept):
                fewer = kept[:at] + kept[at + size :]
                if self.tried(rest(fewer)):
                    kept, gone = fewer, True
                else:
                    at += size
            size = min(size // 2, len(kept))
        return gone

    def faults(self) -> bool:
        """Leave out faults, all of a kind at once, then one by one."""
        steps = self.best.steps
        kinds = sorted({step[0] for step in steps} & FAULTS)
        gone = self.without(kinds, lambda kept: self._steps([s for s in steps if s[0] in kept or s[0] not in FAULTS]))
        steps = self.best.steps
        found = [at for at, step in enumerate(steps) if step[0] in FAULTS]
        others = set(range(len(steps))) - set(found)
        return gone or self.without(found, lambda kept: self._steps([steps[at] for at in sorted(others | set(kept))]))

    def steps(self) -> bool:
        return self.without(self.best.steps, self._steps)

    def _steps(self, steps: list[Step]) -> Schedule:
        return replace(self.best, steps=steps)

    def orders(self) -> bool:
        """Leave out what clients ask for, and so whole runs."""
        given, steps = self.best.orders, self.best.steps
        return self.without(range(len(given)), lambda kept: replace(self.best, **_only(kept, given, steps)))

    def settings(self) -> bool:
        """Put settings back to what they are by default."""
        gone, plain = False, Setup()
        for name in (field.name for field in fields(Setup)):
            now, usual = getattr(self.best.setup, name), getattr(plain, name)
            if now != usual:
                gone = self._set(**{name: usual}) or gone
        for name in list(self.best.setup.clocks):
            clocks = {other: off for other, off in self.best.setup.clocks.items() if other != name}
            gone = self._set(clocks=clocks) or gone
        return gone

    def _set(self, **settings: Any) -> bool:
        return self.tried(replace(self.best, setup=replace(self.best.setup, **settings)))


def _only(kept: Sequence[int], orders: Sequence[Order], steps: Sequence[Step]) -> dict[str, Any]:
    """Orders with these numbers, and steps that name them by their new ones."""
    number = {old: new for new, old in enumerate(kept)}
    put = [
        ("order", number[step[1]]) if step[0] == "order" else step
        for step in steps
        if step[0] != "order" or step[1] in number
    ]
    return {"orders": [orders[at] for at in kept], "steps": put}


def shrink(broken: Broken) -> Schedule:
    """The smallest schedule found that breaks the same promise: nothing can be left out of it any more."""
    whole = broken.schedule
    work = Shrinking(whole)
    if not work.tried(replace(whole, steps=whole.steps[: broken.rest_from])):
        work.tried(whole)
    while any([work.faults(), work.orders(), work.steps(), work.settings()]):
        pass
    return work.best
