"""Random schedules: what may happen next on a simulated log, faults within a budget, and running on to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import orjson

from schemas.events import encode_taken
from tests.given import REFUSED, passing
from tests.simulation.goals import at_rest
from tests.simulation.world import Cluster, Flight, Worker

RESULTS = (None, passing(), REFUSED)
FAULTS = "crash move lose late restore away skip hole again restart foreign".split()
WAITS = {"time", "store", "commit"}

Action = tuple[str, Callable[..., object], tuple[Any, ...]]


class Schedule:
    """One random history of a cluster: each seed draws how often each kind of thing happens, and how many faults of each."""

    def __init__(self, cluster: Cluster, names: tuple[str, ...] = ("A", "B", "C"), budget: int = 4) -> None:
        self.cluster, self.rng, self.names = cluster, cluster.rng, names
        self.left = {kind: self.rng.randint(0, budget) for kind in FAULTS}
        self.weights: dict[str, float] = {}
        self.trace: list[str] = []
        for name in names[: self.rng.randint(1, len(names))]:
            cluster.start(name)
        self._move()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self._step(list(self._enabled()))

    def settle(self) -> None:
        """Faults end; everything runs on in random order until nothing is left to do."""
        cluster, self.left = self.cluster, dict.fromkeys(FAULTS, 0)
        cluster.store_away = False
        if not cluster.workers:
            cluster.start(self.names[0])
        self._move()
        for _ in range(200):
            for _ in range(3000):
                actions = [action for action in self._enabled() if action[0] not in WAITS]
                if not actions:
                    break
                self._step(actions)
            for number, log in cluster.log.items():
                cluster.store[number] = len(log)
            for worker in cluster.workers.values():
                worker.commit()
            cluster.tick(self.rng.choice((0.5, 3.0, 12.0)))
            if at_rest(cluster):
                return
        raise AssertionError(f"L6: no rest; {self.trace[-40:]}")

    def _step(self, actions: list[Action]) -> None:
        weights = [self.weights.setdefault(name, self.rng.choice((0.1, 1, 1, 5))) for name, _, _ in actions]
        name, action, about = self.rng.choices(actions, weights)[0]
        self.trace.append(name)
        if name in self.left:
            self.left[name] -= 1
        action(*about)

    def _enabled(self) -> Iterator[Action]:
        cluster = self.cluster
        yield "time", lambda: cluster.tick(self.rng.choice((0.01, 0.2, 1.0, 5.0, 11.0))), ()
        for flight in cluster.heads():
            yield "land", cluster.land, (flight,)
        for number, log in cluster.log.items():
            if cluster.store[number] < len(log) and not cluster.store_away:
                yield "store", self._project, (number,)
        for worker in cluster.workers.values():
            yield from self._of_worker(worker)
        yield from (action for action in self._faults() if self.left[action[0]] > 0)

    def _of_worker(self, worker: Worker) -> Iterator[Action]:
        cluster, rng = self.cluster, self.rng
        yield "commit", worker.commit, ()
        if worker.answers:
            yield "answer", lambda: worker.answers.pop(rng.randrange(len(worker.answers)))(), ()  # noqa: PLW0108 - later
        if worker.generation != cluster.generation:
            yield "learn", worker.learn, ()
        for number, part in worker.engine.partitions.items():
            if part.assigned and worker.reading.get(number, 0) < len(cluster.log[number]):
                yield "read", lambda n: worker.read(n, rng.choice((1, 2, 1000))), (number,)
            waits = worker.commanding.get(number, 0) < len(cluster.commands[number])
            if part.assigned and waits and number not in worker.paused:
                yield "take", lambda n: worker.take(n, rng.choice((1, 1000))), (number,)
        for run_id in worker.effects:
            yield "effect", lambda r: worker.end_effect(r, rng.choices(RESULTS, (8, 2, 1))[0]), (run_id,)

    def _faults(self) -> Iterator[Action]:
        cluster, rng = self.cluster, self.rng
        yield "move", self._move, ()
        yield "restart", self._restart, ()
        yield "away", setattr, (cluster, "store_away", not cluster.store_away)
        yield "restore", lambda: cluster.store.update({n: rng.randint(0, at) for n, at in cluster.store.items()}), ()
        yield "foreign", self._foreign, ()
        for worker in cluster.workers.values():
            yield "crash", self._crash, (worker,)
            yield "late", worker.lose_producer, ()
            for number in [number for number, part in worker.engine.partitions.items() if part.assigned]:
                yield "skip", self._skip, (worker.read, number)
                yield "skip", self._skip, (worker.take, number)
                yield "hole", worker.read, (number, 1000, 0, 1)
        for flight in cluster.heads():
            yield "lose", self._lose, (flight,)
            yield "again", self._again, (flight,)

    def _skip(self, fetch: Callable[[int, int, int], None], number: int) -> None:
        """Records are lost or repeated between fetch and agent."""
        fetch(number, 3, self.rng.choice((-2, 1, 2)))

    def _move(self) -> None:
        names = sorted(self.cluster.workers)
        if names:
            self.cluster.give({number: self.rng.choice(names) for number in self.cluster.log})

    def _restart(self) -> None:
        self.cluster.start(self.rng.choice(self.names))
        self._move()

    def _crash(self, worker: Worker) -> None:
        """Its memory is gone, and a part of what its producers carried."""
        del self.cluster.workers[worker.name]
        for flight in [flight for flight in self.cluster.flying if flight.producer[0] == worker.name]:
            if self.rng.random() < 0.3:
                self.cluster.flying.remove(flight)

    def _lose(self, flight: Flight) -> None:
        """It never lands; its producer notices in the end, perhaps after later ones have landed."""
        self.cluster.flying.remove(flight)
        worker = self.cluster.workers.get(flight.producer[0])
        if worker is not None:
            worker.answers.append(lambda: worker.lose_producer() if worker.producer == flight.producer[1] else None)

    def _again(self, flight: Flight) -> None:
        """It lands twice; the second time at once if it begins a run: nobody has forgotten that run yet (see the rule)."""
        self.cluster.land(flight)
        if b'"seq":1,' in flight.value:
            self.cluster.append(flight.partition, flight.value, flight.key)
        else:
            self.cluster.tokens += 1
            self.cluster.flying.append(replace(flight, producer=("again", self.cluster.tokens)))

    def _foreign(self) -> None:
        """Somebody else writes into the log, or takes the partition."""
        number = self.rng.randrange(self.cluster.partitions)
        epoch = self.cluster.truth[number].reader.epoch
        taken = encode_taken(number, epoch + 1, "somebody", "else", "2026-01-01T00:00:00.000Z")
        stray = {"type": "StepStarted", "subject": "r0", "epoch": epoch or 1, "seq": 2, "prev": "00", "data": {}}
        self.cluster.append(number, self.rng.choice((b"", b"{", b"\xff", taken, orjson.dumps(stray))))

    def _project(self, number: int) -> None:
        self.cluster.store[number] = self.rng.randint(self.cluster.store[number], len(self.cluster.log[number]))
