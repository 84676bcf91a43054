"""Random schedules: what may happen next on a simulated log, faults within a budget, and running on to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from schemas.events import encode, encode_taken, time_text
from schemas.identity import home
from tests.given import REFUSED, passing
from tests.simulation.goals import at_rest
from tests.simulation.world import Cluster, Flight, Worker

RESULTS = (None, passing(), REFUSED)
THEMES = {
    "anything": "crash leave move lose late stuck restore away skip hole again restart foreign repeat",
    "store": "crash move restart restore away repeat",
    "handover": "crash leave move restart late foreign repeat",
    "network": "move lose late stuck again",
    "reading": "move skip hole",
}
STRANGERS = ("x1", "x2", "x3")
WAITS = ("time", "store", "commit")
SLOW = dict.fromkeys(THEMES, ("order", "effect", *WAITS)) | {"handover": ("order", "effect", "land", "learn", *WAITS)}
"""What happens more rarely than the rest."""

Action = tuple[str, Callable[..., object], tuple[Any, ...]]


class Schedule:
    """One random history of a cluster: each seed draws how often each kind of thing happens, and how many faults of each."""

    def __init__(self, cluster: Cluster, theme: str, names: tuple[str, ...] = ("A", "B", "C")) -> None:
        self.cluster, self.rng, self.names = cluster, cluster.rng, names
        self.left = {kind: self.rng.choice((0, 3, 30)) for kind in THEMES[theme].split()}
        self.faulty = self.rng.choice((0.01, 0.03, 0.1))
        self.weights = {kind: self.rng.choice((0.02, 0.1, 0.3)) for kind in SLOW[theme]}
        self.trace: list[str] = []
        self.orders: list[Callable[[], None]] = []
        """what clients will ask for, in this order"""
        self.still = 0
        """steps for which the store does not move"""
        self.stuck: list[Flight] = []
        """records of dropped producers that land when everybody has forgotten them"""
        for name in names[: self.rng.randint(1, len(names))]:
            cluster.start(name)
        self._move()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.still = max(0, self.still - 1)
            self.cluster.store_away &= self.still > 0
            faults = [action for action in self._faults() if self.left.get(action[0], 0) > 0] if self._unlucky() else []
            usual = list(self._usual())
            idle = all(kind in WAITS for kind, _, _ in usual)
            self._step(faults or usual)
            if idle and not self._go_on():
                return

    def settle(self) -> None:
        """Faults end; everything runs on in random order until nothing is left to do, twice: what was stuck lands between."""
        cluster, self.still = self.cluster, 0
        cluster.store_away = False
        while self.orders:
            self.orders.pop(0)()
        for _ in range(200):
            self._go_on()
            self._exhaust()
            if at_rest(cluster) and not self.stuck:
                return
            if at_rest(cluster):
                cluster.flying, self.stuck = self.stuck, []
        raise AssertionError(f"L6: no rest; {self.trace[-40:]}")

    def _exhaust(self) -> None:
        """All that can happen without time happens; then some time passes."""
        for _ in range(3000):
            actions = [action for action in self._usual() if action[0] not in WAITS]
            if not actions:
                break
            self._step(actions)
        for number, log in self.cluster.log.items():
            self.cluster.store[number] = len(log)
        for worker in self.cluster.workers.values():
            worker.commit()
        self.cluster.tick(self.rng.choice((0.5, 3.0, 12.0)))

    def _go_on(self) -> bool:
        """Nothing happens any more but time: what would happen then. False when there is nothing left to do at all."""
        cluster = self.cluster
        if not cluster.workers:
            cluster.start(self.names[0])
        if not cluster.workers.keys() >= set(cluster.owner.values()):
            self._move()
        elif self.orders:
            self.orders.pop(0)()
        else:
            for worker in cluster.workers.values():
                worker.commit()
            return not at_rest(cluster)
        return True

    def _unlucky(self) -> bool:
        return self.rng.random() < self.faulty

    def _step(self, actions: list[Action]) -> None:
        """One of them happens: first its kind is drawn, then which."""
        kinds = list(dict.fromkeys(name for name, _, _ in actions))
        weights = [self.weights.setdefault(kind, self.rng.choice((0.1, 0.5, 1, 1, 2, 5))) for kind in kinds]
        kind = self.rng.choices(kinds, weights)[0]
        _, action, about = self.rng.choice([action for action in actions if action[0] == kind])
        self.trace.append(kind)
        if kind in self.left:
            self.left[kind] -= 1
        action(*about)

    def _usual(self) -> Iterator[Action]:
        cluster = self.cluster
        yield "time", lambda: cluster.tick(self.rng.choice((0.01, 0.2, 1.0, 5.0, 11.0))), ()
        if self.orders:
            yield "order", lambda: self.orders.pop(0)(), ()  # noqa: PLW0108 - later
        for flight in cluster.heads():
            yield "land", cluster.land, (flight,)
        for number, log in cluster.log.items():
            if cluster.store[number] < len(log) and not cluster.store_away and not self.still:
                yield "store", self._project, (number,)
        for worker in cluster.workers.values():
            yield from self._of_worker(worker)

    def _of_worker(self, worker: Worker) -> Iterator[Action]:
        cluster, rng = self.cluster, self.rng
        yield "commit", worker.commit, ()
        if worker.engine.draining:
            yield "gone", self._crash, (worker,)
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
        cluster = self.cluster
        yield "move", self._move, ()
        yield "restart", self._restart, ()
        yield "away", self._go_away, ()
        yield "restore", self._restore, ()
        yield "foreign", self._foreign, ()
        yield "repeat", self._repeat, ()
        for worker in cluster.workers.values():
            yield "crash", self._crash, (worker,)
            yield "leave", setattr, (worker.engine, "draining", True)
            yield "late", worker.lose_producer, ()
            for number in [number for number, part in worker.engine.partitions.items() if part.assigned]:
                yield "skip", self._skip, (worker.read, number)
                yield "skip", self._skip, (worker.take, number)
                yield "hole", worker.read, (number, 1000, 0, 1)
        for flight in cluster.heads():
            yield "lose", self._lose, (flight,)
            yield "stuck", self._stick, (flight,)
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

    def _repeat(self) -> None:
        """A client repeats a start."""
        known = [run_id for truth in self.cluster.truth.values() for run_id in truth.reader.tips]
        for run_id in known and [self.rng.choice(known)]:
            self.cluster.trigger(run_id)

    def _go_away(self) -> None:
        """The store does not answer for a while."""
        self.still, self.cluster.store_away = self.rng.randint(1, 60), True

    def _restore(self) -> None:
        """The store is set back and stands there for a while, and somebody starts a run again that it had known."""
        self.still = self.rng.randint(0, 100)
        self._repeat()
        for number, at in self.cluster.store.items():
            self.cluster.store[number] = self.rng.choice((0, self.rng.randint(0, at)))

    def _crash(self, worker: Worker) -> None:
        """Its memory is gone, and a part of what its producers carried."""
        del self.cluster.workers[worker.name]
        for flight in [flight for flight in self.cluster.flying if flight.producer[0] == worker.name]:
            if self.rng.random() < 0.3:
                self.cluster.flying.remove(flight)

    def _lose(self, flight: Flight) -> None:
        """It never lands. Its producer notices in the end, perhaps after later ones have landed, or never."""
        self.cluster.flying.remove(flight)
        worker = self.cluster.workers.get(flight.producer[0])
        if worker is not None and self.rng.random() < 0.5:
            worker.answers.append(lambda: worker.lose_producer() if worker.producer == flight.producer[1] else None)

    def _stick(self, flight: Flight) -> None:
        """Its producer is given up; what it carried lands much later."""
        self.stuck += [other for other in self.cluster.flying if other.producer == flight.producer]
        self.cluster.flying = [other for other in self.cluster.flying if other.producer != flight.producer]
        worker = self.cluster.workers.get(flight.producer[0])
        if worker is not None and worker.producer == flight.producer[1]:
            worker.lose_producer()

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
        cluster = self.cluster
        number = self.rng.randrange(cluster.partitions)
        epoch = cluster.truth[number].reader.epoch
        taken = encode_taken(number, epoch + 1, "somebody", "else", time_text(cluster.clock))
        away = [run_id for run_id in STRANGERS if home(run_id, cluster.partitions) != number]
        stray = encode("StepStarted", "r0", {}, time=time_text(cluster.clock), epoch=epoch or 1, seq=2, prev="00")
        strays = [stray.replace(b"r0", run_id.encode()).replace(b'2,"prev":"00"', b'1,"prev":null') for run_id in away]
        cluster.append(number, self.rng.choice((b"", b"{", b"\xff", taken, stray, *strays)))

    def _project(self, number: int) -> None:
        self.cluster.store[number] = self.rng.randint(self.cluster.store[number], len(self.cluster.log[number]))
