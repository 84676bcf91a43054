"""What a seed draws before anything happens: the workflow, and everything that bounds or paces the engine and its world."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeVar

from streams.engine import Limits
from tests.given import delay, webhook

T = TypeVar("T")

STEPS: Final = (
    webhook(retry={"max_attempts": 3}),
    webhook(config={"url": "http://x/${payload.n}"}),
    webhook(config={"url": "http://x/${steps}", "body": "${fail}"}),
    webhook(),
    delay(duration=0),
    delay(duration=3),
    delay(duration="${payload.n}"),
)
RECORD_BYTES: Final = 6_000
"""A bound of records that a large result does not keep."""
OFF_S: Final = {"seconds": 5.0, "minutes": 600.0, "hours": 10_800.0}
"""How far a machine's clock is off at the most."""


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings of a simulation. As they are by default nothing is tight: what a shrunk schedule does not need goes back to that."""

    steps: list[dict[str, Any]] = field(default_factory=lambda: [{**webhook(), "name": "s0"}])
    workers: str = "ABC"
    """a letter for each worker"""
    partitions: int = 1
    remembers: bool = False
    """there is no shared store"""
    clocks: dict[str, float] = field(default_factory=dict)
    """worker → seconds that its clock is ahead of the broker's"""
    append_timeout_s: float = 10.0
    record_bytes_max: int = 1_000_000
    effects_max: int = 50
    held_max: int = 50
    definition_wait_s: float = 0.0
    read_max: int = 1000
    take_max: int = 1000
    """records of the events, and of the commands, that are handed over at once"""
    project_max: int = 1000
    """records that the projector takes at once"""
    behind: int = 0
    """how many records the tables stay behind the log, at least, as long as faults go on"""
    all_tick: bool = True
    """whether the timers of all workers go off whenever time passes"""

    @property
    def limits(self) -> Limits:
        return Limits(
            append_timeout_s=self.append_timeout_s,
            record_bytes_max=self.record_bytes_max,
            effects_max=self.effects_max,
            held_max=self.held_max,
        )


def draw(rng: Random) -> Setup:
    """Settings by chance. In half of the seeds nothing is tight, so that much happens; in the others a few things are."""
    workers = "ABCDE"[: rng.choices((1, 2, 3, 4, 5), (1, 3, 10, 2, 2))[0]]
    tight = rng.random() < 0.5

    def pick(usual: T, *others: T) -> T:
        return rng.choice(others) if tight and rng.random() < 0.3 else usual

    return Setup(
        steps=[{**rng.choice(STEPS), "name": f"s{n}"} for n in range(rng.randint(1, 3))],
        workers=workers,
        partitions=rng.choices((1, 2, 3, 64), (20, 10, 9, 1))[0],
        remembers=rng.random() < 0.2,
        clocks=clocks(rng, workers, pick(0.0, *OFF_S.values())),
        append_timeout_s=pick(10.0, 1.0, 30.0),
        record_bytes_max=pick(1_000_000, RECORD_BYTES),
        effects_max=rng.choice((1, 50)),
        held_max=pick(6, 1, 2, 50),
        definition_wait_s=pick(0.0, 30.0),
        read_max=pick(1000, 1, 2),
        take_max=pick(1000, 1, 2),
        project_max=pick(1000, 1, 2),
        behind=pick(0, 10, 1000),
        all_tick=pick(True, False),
    )


def clocks(rng: Random, workers: str, off_s: float) -> dict[str, float]:
    """How far the clocks are ahead of the broker's, `off_s` at the most."""
    return {name: round(rng.uniform(-off_s, off_s), 1) for name in workers} if off_s else {}
