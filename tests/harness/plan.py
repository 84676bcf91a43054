"""Which faults happen, in which order: a function of the seed and of how many there are to be. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, Final, NamedTuple


class Kind(NamedTuple):
    """A kind of fault. `holds`: what nobody else may touch meanwhile; `weight`: how often it is drawn."""

    holds: frozenset[str]
    weight: float
    about: str


def _kind(holds: str, weight: float, about: str) -> Kind:
    return Kind(frozenset(holds.split()), weight, about)


KINDS: Final[Mapping[str, Kind]] = {
    "kill worker": _kind("workers", 4, "kill -9 of a worker; it is started again"),
    "kill projector": _kind("projectors", 2, "kill -9 of a projector"),
    "kill api": _kind("apis", 2, "kill -9 of an API process"),
    "kill kafka": _kind("kafka", 1, "kill -9 of the broker, some seconds without one"),
    "kill postgres": _kind("postgres", 1, "kill -9 of the database, some seconds without one"),
    "freeze worker": _kind("workers", 3, "SIGSTOP past the session timeout, then SIGCONT: a zombie wakes up"),
    "freeze projector": _kind("projectors", 2, "the same with a projector"),
    "freeze api": _kind("apis", 1, "SIGSTOP of an API process for some seconds"),
    "freeze kafka": _kind("kafka", 1, "the broker answers nothing; its connections stay"),
    "freeze postgres": _kind("postgres", 1, "the database answers nothing; its connections stay"),
    "stop worker": _kind("workers", 2, "SIGTERM of a worker"),
    "stop projector": _kind("projectors", 1, "SIGTERM of a projector"),
    "stop api": _kind("apis", 1, "SIGTERM of an API process"),
    "restart kafka": _kind("kafka", 1, "a clean stop and start of the broker"),
    "restart postgres": _kind("postgres", 1, "a clean stop and start of the database"),
    "postgres refuses": _kind("postgres", 0.3, "the database lets nobody in for 30 s"),
    "disk full": _kind("postgres", 0.7, "no room is left on the disk of the database"),
    "storm": _kind("workers", 0.7, "a worker joins or leaves every few seconds"),
    "repeats": _kind("", 2, "commands are delivered again, in another order, in other partitions"),
    "garbage": _kind("", 1, "records that nobody can read, and records as large as they may be, on every topic"),
    "offsets gone": _kind("workers", 0.5, "the offsets of the workers' group are deleted"),
    "older tables": _kind("postgres projectors", 0.5, "the tables are set back to what they were some time ago"),
    "clock stepped": _kind("workers apis projectors", 1, "the wall clock of a host jumps by hours, and back"),
    "answers lost": _kind("workers", 1, "appends of a worker land, and their acknowledgements do not arrive"),
    "appends late": _kind("workers", 1, "appends of a worker land long after it has given them up"),
    "cut off": _kind("workers", 1, "the network between a worker and everything else is gone"),
    "hostile expressions": _kind("", 0.7, "expressions made to hang their worker, among plain runs"),
}
"""What a platform must survive: no accepted run may be lost, whatever of this happens."""

MISMATCHES: Final[Mapping[str, str]] = {
    "log cut": "a power failure took the end of a partition of the log",
    "log empty": "the topic of the log was deleted and made anew",
    "log older": "the broker's data are those of some time ago",
}
"""What no platform can survive without a word: it must stop, say so, and go on after a rebuild."""

ALWAYS: Final = tuple(
    f"{what} {whom}" for what in ("kill", "freeze") for whom in "worker projector api kafka postgres".split()
)
"""In every plan, however short."""


class Fault(NamedTuple):
    """One entry of a plan: after a `wait_s`, `kind` with a seed of its own for whatever it draws."""

    number: int
    kind: str
    wait_s: float
    seed: int


def plan(seed: int, count: int, *, wait_s: tuple[float, float] = (0.5, 2.5)) -> list[Fault]:
    """`count` faults: those of ALWAYS, then each other kind once as long as there is room, then by weight; shuffled."""
    rng = Random(seed)
    kinds = list(ALWAYS[:count])
    others = [kind for kind in KINDS if kind not in ALWAYS]
    rng.shuffle(others)
    kinds += others[: count - len(kinds)]
    names, weights = list(KINDS), [kind.weight for kind in KINDS.values()]
    kinds += rng.choices(names, weights, k=count - len(kinds))
    rng.shuffle(kinds)
    return [Fault(n, kind, round(rng.uniform(*wait_s), 2), rng.randrange(2**32)) for n, kind in enumerate(kinds, 1)]


def as_json(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    return [fault._asdict() for fault in faults]
