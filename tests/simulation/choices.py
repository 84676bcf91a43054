"""What may happen next in a simulation: everything that goes its usual way, in any order that a real system allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple

from tests.simulation.member import LOST, UNHEARD, WELL, Worker
from tests.simulation.setup import Setup
from tests.simulation.steps import Stage, Step
from tests.simulation.world import Flight

Plan = list[Step]
WAITS: Final = frozenset({"time", "store", "commit", "slow", "mend"})
"""What may always happen: while nothing else does, everybody waits."""
LINKS: Final[dict[str, tuple[str, ...]]] = {
    "log": ("log", "outside"),
    "group": ("group",),
    "store": ("store",),
    "kafka": ("log", "group", "outside"),
    "processor": ("log", "group", "store", "outside", "processor"),
}
"""From what a worker may be cut off, and what it then does without. Cut off from its processor, the process stands still."""


class Kind(NamedTuple):
    """A kind of thing that may happen: to what, and as which steps."""

    targets: Callable[[], Sequence[Any]]
    plan: Callable[[Any], Plan]


@dataclass
class Hindrances:
    """What keeps things from happening for a while. No steps: a schedule says what happened, and that in which order."""

    stuck: set[str] = field(default_factory=set)
    """producers that were given up; what they carry lands when everybody has forgotten it"""
    severed: set[tuple[str, str]] = field(default_factory=set)
    """(worker, one of LINKS)"""
    away_for: int = 0
    """steps for which the store does not answer"""
    still_for: int = 0
    """steps for which the store does not move"""
    behind: int = 0
    """records that the tables stay behind the log"""

    def hold(self, name: str, what: str) -> bool:
        """Whether the worker is without this."""
        return any(who == name and what in LINKS[link] for who, link in self.severed)


class Usual:
    """Kinds of things that happen without a fault; `kinds` in the order of their names here."""

    def __init__(self, stage: Stage, setup: Setup, rng: Random, hindered: Hindrances, marks: Counter[str]) -> None:
        self.stage, self.cluster, self.setup, self.rng = stage, stage.cluster, setup, rng
        self.hindered, self.marks = hindered, marks
        self.kinds: Mapping[str, Kind] = {
            "time": Kind(lambda: (None,), self._time),
            "order": Kind(lambda: list(stage.orders)[:1], lambda number: [("order", number)]),
            "land": Kind(self._flights, lambda flight: [("land", *self.about(flight))]),
            "store": Kind(self._tables, self._project),
            "commit": Kind(lambda: self._free("group"), lambda worker: [("commit", worker.name)]),
            "gone": Kind(self._leaving, self._go),
            "answer": self._answers_of("log", "group", "itself"),
            "found": self._answers_of("store"),
            "told": self._answers_of("outside"),
            "learn": Kind(self._unaware, lambda worker: [("learn", worker.name)]),
            "read": Kind(self._readable, self._read),
            "take": Kind(self._takeable, self._take),
            "effect": Kind(self._effects, self._end_effect),
            "slow": Kind(lambda: list(self.cluster.workers.values()), self._slow),
            "mend": Kind(lambda: sorted(hindered.severed), self._mend),
        }

    def _free(self, what: str) -> list[Worker]:
        """Workers that are not cut off from this."""
        if not self.hindered.severed:
            return list(self.cluster.workers.values())
        return [worker for name, worker in self.cluster.workers.items() if not self.hindered.hold(name, what)]

    # ── time ──
    def _time(self, _: None) -> Plan:
        seconds = self.rng.choice((0.01, 0.2, 1.0, 5.0, 11.0)) if self.rng.random() < 0.995 else 700.0
        awake = [worker.name for worker in self._free("processor")]
        late = not self.setup.all_tick and self.rng.random() < 0.5
        names = [name for name in awake if not late or self.rng.random() < 0.5]
        return [("time", seconds) if len(names) == len(self.cluster.workers) else ("time", seconds, "".join(names))]

    def _slow(self, worker: Worker) -> Plan:
        """More often it becomes quick again."""
        return [("slow", worker.name, not worker.slow and self.rng.random() < 0.3)]

    # ── log and store ──
    def _flights(self) -> list[Flight]:
        severed = {name for name, link in self.hindered.severed if link in ("log", "kafka")}
        return [flight for flight in self.cluster.heads(self.hindered.stuck) if flight.worker not in severed]

    def nth(self, head: Flight) -> int:
        """Which one it is of its worker's producers that have records on their way to its partition."""
        heads = [one for one in self.cluster.heads() if (one.worker, one.partition) == (head.worker, head.partition)]
        return heads.index(head)

    def about(self, head: Flight) -> tuple[Any, ...]:
        """How a step names a record that may land next."""
        nth = self.nth(head)
        return (head.worker, head.partition, nth) if nth else (head.worker, head.partition)

    def _tables(self) -> list[int]:
        if self.hindered.away_for or self.hindered.still_for:
            return []
        ends = {number: len(log) - self.hindered.behind for number, log in self.cluster.log.items()}
        return [n for n, at in self.cluster.store.items() if at < ends[n] and self.cluster.store.fit(n)]

    def _project(self, number: int) -> Plan:
        at, end = self.cluster.store[number], len(self.cluster.log[number]) - self.hindered.behind
        return [("store", number, min(at + self.setup.project_max, self.rng.randint(at + 1, end)))]

    # ── workers ──
    def _unaware(self) -> list[Worker]:
        return [worker for worker in self._free("group") if worker.generation != self.cluster.generation]

    def _leaving(self) -> list[Worker]:
        return [worker for worker in self._free("processor") if worker.engine.draining]

    def _go(self, worker: Worker) -> Plan:
        self.marks["workers that leave with effects"] += bool(worker.effects)
        return self.end(worker)

    def end(self, worker: Worker) -> Plan:
        """Its memory is gone, and a part of what its producers carried. Until the group notices, the tables may come level."""
        plan: Plan = [("crash", worker.name)]
        for head in [head for head in self.cluster.heads() if head.worker == worker.name]:
            carried = sum(
                (one.producer, one.partition) == (head.producer, head.partition) for one in self.cluster.flying
            )
            kept, nth = 0, self.nth(head)
            for _ in range(carried):
                if self.rng.random() < 0.7:
                    kept += 1
                else:
                    plan.append(("lose", worker.name, head.partition, False, nth, kept))
        level = self.rng.random() < 0.5
        return [*plan, *(("store", number, len(self.cluster.log[number])) for number in self._tables() if level)]

    def _answers_of(self, *by: str) -> Kind:
        """Answers of these to be given."""

        def targets() -> list[tuple[Worker, int]]:
            away = {"store"} if self.hindered.away_for else set()
            found = []
            for worker in self._free("processor"):
                without = {one for one in by if one in away or self.hindered.hold(worker.name, one)}
                if len(without) < len(by):
                    told = [
                        at for at, answer in enumerate(worker.answers) if answer.by in by and answer.by not in without
                    ]
                    found += [(worker, self.rng.choice(told))] if told else []
            return found

        return Kind(targets, self._answer)

    def _answer(self, target: tuple[Worker, int]) -> Plan:
        worker, at = target
        name = worker.answers[at].name
        nth = sum(answer.name == name for answer in worker.answers[:at])
        if name.startswith("told"):
            return [("answer", worker.name, name, nth, self.rng.choices((WELL, UNHEARD, LOST), (8, 1, 1))[0])]
        return [("answer", worker.name, name, nth) if nth else ("answer", worker.name, name)]

    def _readable(self) -> list[tuple[Worker, int]]:
        found = []
        for worker in self._free("log"):
            for number, part in worker.engine.partitions.items():
                # past the end there is something to read, too: that the log has been cut
                if part.assigned and worker.reading.get(number, 0) != len(self.cluster.log[number]):
                    found.append((worker, number))
        return found

    def _read(self, target: tuple[Worker, int]) -> Plan:
        worker, number = target
        return [("read", worker.name, number, min(self.setup.read_max, self.rng.choice((1, 2, 1000))))]

    def _takeable(self) -> list[tuple[Worker, int]]:
        found = []
        for worker in self._free("log"):
            for number, part in worker.engine.partitions.items():
                waits = worker.commanding.get(number, 0) < len(self.cluster.commands[number])
                if part.assigned and waits and number not in worker.paused:
                    found.append((worker, number))
        return found

    def _take(self, target: tuple[Worker, int]) -> Plan:
        worker, number = target
        return [("take", worker.name, number, min(self.setup.take_max, self.rng.choice((1, 1000))))]

    def _effects(self) -> list[tuple[str, str]]:
        return [(worker.name, run_id) for worker in self._free("processor") for run_id in worker.effects]

    def _end_effect(self, target: tuple[str, str]) -> Plan:
        return [("effect", *target, self.rng.choices((0, 1, 2, 3), (8, 2, 1, 1))[0])]

    def _mend(self, severed: tuple[str, str]) -> Plan:
        """What was cut off is joined again, in another order than it was cut off in."""
        self.hindered.severed.discard(severed)
        return []


class Chooser:
    """Draws what happens next. How often each kind of thing happens is drawn, too, once for a history."""

    def __init__(self, rng: Random, slow: Sequence[str]) -> None:
        self.rng = rng
        self.weights = {kind: rng.choice((0.02, 0.1, 0.3)) for kind in slow}

    def weight(self, kind: str) -> float:
        if kind not in self.weights:
            self.weights[kind] = self.rng.choice((0.1, 0.5, 1, 1, 2, 5))
        return self.weights[kind]

    def draw(self, kinds: Mapping[str, Kind]) -> tuple[str, Plan] | None:
        """First a kind of which something can happen now, then what; None when nothing can."""
        left = [(self.weight(name), name) for name in kinds]
        total = sum(weight for weight, _ in left)
        while left:
            at, point = -1, self.rng.random() * total
            while point >= 0 and at < len(left) - 1:
                at += 1
                point -= left[at][0]
            weight, name = left.pop(at)
            total -= weight
            targets = kinds[name].targets()
            if targets:
                return name, kinds[name].plan(self.rng.choice(targets))
        return None
