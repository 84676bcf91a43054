"""How far a walk through the log has got, for people who wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """`events` of `total` after `seconds`; the total may grow while it runs. `phase`: what is done, where there are several."""

    events: int
    total: int
    seconds: float
    phase: str = ""

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds if self.seconds > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds that are left, None before it can be told."""
        return max(0, self.total - self.events) / self.events_per_s if self.events_per_s > 0 else None


Tell = Callable[[Progress], None]
