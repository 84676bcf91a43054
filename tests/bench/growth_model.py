"""A model of the platform as queues, to see how it grows where there are more cores than here. Pure: no clock, no servers.

Runs arrive at random and belong to partitions by chance. A partition is one worker's and one projector's, each process does one
thing at a time, and a partition's rows are written by one connection of a database that has so many cores. A process takes all
that waits in a partition at once, so what a batch costs is shared by more runs the more there is to do.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Final

TICK_S: Final = 0.01
"""Runs that arrive in a partition within a tick arrive together."""
BATCH_RUNS_MAX: Final = 3_300
"""About WORKFLOW_PROJECTOR_BATCH_MAX events."""
LATE_S: Final = 1.0
PILED_UP_S: Final = 0.25
"""Where 1 in 100 waits for longer in ten seconds, more arrives than is done."""
_EXACT_BELOW: Final = 30.0


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of one core: for each batch of a partition, and for each run in it."""

    batch_s: float
    run_s: float

    def of(self, runs: int) -> float:
        return self.batch_s + self.run_s * runs


@dataclass(frozen=True, slots=True)
class Costs:
    worker: Cost
    projector: Cost
    database: Cost


@dataclass(frozen=True, slots=True)
class Setup:
    """`cores`: of each database."""

    partitions: int
    workers: int
    projectors: int
    databases: int = 1
    cores: int = 2


@dataclass(frozen=True, slots=True)
class Loss:
    """Worker 0 dies at `at_s`; its partitions are others' after `takeover_s`."""

    at_s: float
    takeover_s: float


@dataclass(slots=True)
class Outcome:
    """`visible_s`: from the start of a run to its rows, with how many runs; `busy`: share of the time in which the busiest
    process of a role, and all cores of the databases, had something to do."""

    arrived: int = 0
    shown: int = 0
    visible_s: list[tuple[float, int]] = field(default_factory=list)
    busy: dict[str, float] = field(default_factory=dict)
    late_until_s: float = 0.0
    """when the last run was shown that had waited for longer than LATE_S"""

    def within_s(self, share: float) -> float:
        """So many of the runs were shown within this time."""
        seen, wanted = 0, share * sum(runs for _, runs in self.visible_s)
        for waited_s, runs in sorted(self.visible_s):
            seen += runs
            if seen >= wanted:
                return waited_s
        return math.inf


Waiting = deque[tuple[float, int]]
"""When they arrived, and how many."""


class _Stage:
    """Processes that share the partitions of one role."""

    def __init__(self, partitions: int, processes: int) -> None:
        self.owner: list[int | None] = [number % processes for number in range(partitions)]
        self.waiting: list[Waiting] = [deque() for _ in range(partitions)]
        self.held = [False] * partitions
        """whose last batch is not through yet"""
        self.idle = [True] * processes
        self.busy_s = [0.0] * processes
        self._next = [0] * processes

    def ready(self, process: int) -> int | None:
        """The next partition of a process that has something to do, in turns."""
        count = len(self.owner)
        for step in range(count):
            number = (self._next[process] + step) % count
            if self.owner[number] == process and self.waiting[number] and not self.held[number]:
                self._next[process] = number + 1
                return number
        return None

    def take(self, number: int) -> Waiting:
        """What waits in a partition, up to the size of a batch."""
        batch, room = deque[tuple[float, int]](), BATCH_RUNS_MAX
        waiting = self.waiting[number]
        while waiting and room > 0:
            at_s, runs = waiting.popleft()
            if runs > room:
                waiting.appendleft((at_s, runs - room))
                runs = room
            batch.append((at_s, runs))
            room -= runs
        return batch


def size(batch: Waiting) -> int:
    return sum(runs for _, runs in batch)


class Simulation:
    """One run of the model; the same seed gives the same."""

    def __init__(self, setup: Setup, costs: Costs, *, seed: int = 1) -> None:
        self._setup, self._costs, self._rng = setup, costs, Random(seed)
        self._workers = _Stage(setup.partitions, setup.workers)
        self._projectors = _Stage(setup.partitions, setup.projectors)
        self._writes: list[deque[tuple[int, Waiting]]] = [deque() for _ in range(setup.databases)]
        self._free = [setup.cores] * setup.databases
        self._written_s = 0.0
        self._events: list[tuple[float, int, str, int, Waiting]] = []
        self._number = 0
        self._out = Outcome()

    def run(self, rate: float, seconds: float, *, loss: Loss | None = None) -> Outcome:
        """So many runs arrive a second for so long; what is under way then is brought to its end."""
        for at_s, number, runs in self._arrivals(rate, seconds):
            self._at(at_s, "arrives", number, deque([(at_s, runs)]))
        if loss is not None:
            self._at(loss.at_s, "dies", 0, deque())
            self._at(loss.at_s + loss.takeover_s, "taken over", 0, deque())
        now_s = seconds
        while self._events:
            now_s, _, what, number, batch = heapq.heappop(self._events)
            self._happens(now_s, what, number, batch)
        span_s = max(now_s, seconds)
        self._out.busy = {
            "worker": max(self._workers.busy_s) / span_s,
            "projector": max(self._projectors.busy_s) / span_s,
            "database": self._written_s / (span_s * self._setup.databases * self._setup.cores),
        }
        return self._out

    @property
    def worker_s(self) -> float:
        """Seconds that workers have been busy."""
        return sum(self._workers.busy_s)

    def _arrivals(self, rate: float, seconds: float) -> Iterator[tuple[float, int, int]]:
        mean = rate * TICK_S / self._setup.partitions
        for tick in range(round(seconds / TICK_S)):
            for number in range(self._setup.partitions):
                if runs := self._poisson(mean):
                    self._out.arrived += runs
                    yield tick * TICK_S, number, runs

    def _poisson(self, mean: float) -> int:
        if mean > _EXACT_BELOW:
            return max(0, round(self._rng.gauss(mean, math.sqrt(mean))))
        left, count = math.exp(-mean), 0
        product = self._rng.random()
        while product > left:
            count += 1
            product *= self._rng.random()
        return count

    def _at(self, at_s: float, what: str, number: int, batch: Waiting) -> None:
        self._number += 1
        heapq.heappush(self._events, (at_s, self._number, what, number, batch))

    def _happens(self, now_s: float, what: str, number: int, batch: Waiting) -> None:
        match what:
            case "arrives":
                self._workers.waiting[number] += batch
                self._decide(now_s, self._workers.owner[number])
            case "decided":
                self._projectors.waiting[number] += batch
                self._workers.held[number] = False
                self._freed(now_s, self._workers, number)
                self._fold(now_s, self._projectors.owner[number])
            case "folded":
                self._writes[number % self._setup.databases].append((number, batch))
                self._write(now_s, number % self._setup.databases)
                self._freed(now_s, self._projectors, number)
            case "written":
                self._show(now_s, batch)
                self._projectors.held[number] = False
                self._free[number % self._setup.databases] += 1
                self._write(now_s, number % self._setup.databases)
                self._fold(now_s, self._projectors.owner[number])
            case "dies":
                self._workers.owner = [None if owner == 0 else owner for owner in self._workers.owner]
            case _:
                assert what == "taken over"
                self._hand_over(now_s)

    def _freed(self, now_s: float, stage: _Stage, number: int) -> None:
        owner = stage.owner[number]
        if owner is not None:
            stage.idle[owner] = True
            (self._decide if stage is self._workers else self._fold)(now_s, owner)

    def _decide(self, now_s: float, process: int | None) -> None:
        self._begin(now_s, self._workers, process, self._costs.worker, "decided")

    def _fold(self, now_s: float, process: int | None) -> None:
        self._begin(now_s, self._projectors, process, self._costs.projector, "folded")

    def _begin(self, now_s: float, stage: _Stage, process: int | None, cost: Cost, then: str) -> None:
        if process is None or not stage.idle[process] or (number := stage.ready(process)) is None:
            return
        batch = stage.take(number)
        stage.idle[process], stage.held[number] = False, True
        took_s = cost.of(size(batch))
        stage.busy_s[process] += took_s
        self._at(now_s + took_s, then, number, batch)

    def _write(self, now_s: float, database: int) -> None:
        while self._free[database] and self._writes[database]:
            number, batch = self._writes[database].popleft()
            self._free[database] -= 1
            took_s = self._costs.database.of(size(batch))
            self._written_s += took_s
            self._at(now_s + took_s, "written", number, batch)

    def _show(self, now_s: float, batch: Waiting) -> None:
        for at_s, runs in batch:
            self._out.visible_s.append((now_s - at_s, runs))
            self._out.shown += runs
            if now_s - at_s > LATE_S:
                self._out.late_until_s = now_s

    def _hand_over(self, now_s: float) -> None:
        others = list(range(1, self._setup.workers)) or [0]  # alone, it is started again
        orphaned = [number for number, owner in enumerate(self._workers.owner) if owner is None]
        for index, number in enumerate(orphaned):
            self._workers.owner[number] = others[index % len(others)]
            self._workers.held[number] = False
        for process in others:
            self._workers.idle[process] |= process == 0
            self._decide(now_s, process)


def carries(setup: Setup, costs: Costs, *, seconds: float = 10.0, steps: int = 7) -> float:
    """The most runs a second that do not pile up, by halving the interval."""
    low, high = 0.0, ceiling(setup, costs)
    for _ in range(steps):
        rate = (low + high) / 2
        if Simulation(setup, costs).run(rate, seconds).within_s(0.99) <= PILED_UP_S:
            low = rate
        else:
            high = rate
    return low


def ceiling(setup: Setup, costs: Costs) -> float:
    """Runs a second that no schedule can exceed: each role's cores do nothing but runs."""
    return min(
        min(setup.workers, setup.partitions) / costs.worker.run_s,
        min(setup.projectors, setup.partitions) / costs.projector.run_s,
        setup.databases * min(setup.cores, setup.partitions) / costs.database.run_s,
    )


def batch_cost(run_s: float, seen_s: float, rate: float, partitions: int) -> float:
    """What a batch must cost for one process to spend `seen_s` on each run of an even load, where a run alone costs `run_s`."""
    low, high = 0.0, 0.01
    for _ in range(20):
        cost = Cost((low + high) / 2, run_s)
        free = Cost(0.0, 1e-9)
        simulation = Simulation(Setup(partitions, 1, 1), Costs(cost, free, free), seed=1)
        out = simulation.run(rate, 4.0)
        if simulation.worker_s / max(1, out.shown) < seen_s:
            low = cost.batch_s
        else:
            high = cost.batch_s
    return low
