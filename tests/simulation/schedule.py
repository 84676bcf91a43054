"""Random schedules on the simulated log: what may happen next, faults with a budget, and running on to rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas.commands import CancelRun
from schemas.effects import EffectFailed
from schemas.events import decode
from tests.simulation.world import Cluster, Worker, ends

Action = tuple[str, Callable[[], None]]
FAILED = EffectFailed({"code": "http_503", "message": "503"}, retryable=True)
REFUSED = EffectFailed({"code": "http_400", "message": "400"}, retryable=False)


class Schedule:
    """One random history of a cluster. `faults`: how many of each kind are still allowed."""

    def __init__(self, cluster: Cluster, names: tuple[str, ...] = ("A", "B", "C"), budget: int = 4) -> None:
        self.cluster, self.rng, self.names = cluster, cluster.rng, names
        self.faults = {kind: self.rng.randint(0, budget) for kind in ("crash", "move", "lose", "give up", "restore", "away", "skip", "restart")}
        self.trace: list[str] = []
        for name in names[: self.rng.randint(1, len(names))]:
            cluster.start(name)
        self._rebalance()

    def run(self, steps: int) -> None:
        for _ in range(steps):
            name, action = self.rng.choice(self.enabled())
            self.trace.append(name)
            self.cluster.marks[name] += 1
            action()
            check_safety(self.cluster)

    def settle(self) -> None:
        """Faults end; everything runs on in random order until nothing is left to do."""
        cluster = self.cluster
        cluster.store_away = False
        if not cluster.workers:
            cluster.start(self.names[0])
        self._rebalance()
        for worker in cluster.workers.values():
            worker.learn()
        for _ in range(200):
            if self._round():
                return
        raise AssertionError(f"no rest: {self.describe()}")

    def _round(self) -> bool:
        """Everything that can happen happens, then time passes; whether nothing was left to do."""
        cluster = self.cluster
        for _ in range(3000):
            actions = [a for a in self.enabled(calm=True) if a[0] not in ("time", "store", "commit")]
            if not actions:
                break
            self.rng.choice(actions)[1]()
            check_safety(cluster)
        for number in cluster.store:
            cluster.store[number] = len(cluster.log[number])
        for worker in cluster.workers.values():
            worker.commit()
        self._pass_time(self.rng.choice((0.5, 3.0, 12.0)))
        return at_rest(cluster)

    def enabled(self, calm: bool = False) -> list[Action]:
        cluster, rng = self.cluster, self.rng
        actions: list[Action] = [("time", lambda: self._pass_time(rng.choice((0.01, 0.2, 1.0, 5.0, 11.0))))]
        actions += [("land", lambda f=flight: cluster.land(f)) for flight in cluster.heads()]
        for number, log in cluster.log.items():
            if cluster.store[number] < len(log) and not cluster.store_away:
                actions.append(("store", lambda n=number: self._project(n)))
        for worker in cluster.workers.values():
            actions += self._of_worker(worker)
        if not calm:
            actions += self._faults()
        return actions

    def _of_worker(self, worker: Worker) -> list[Action]:
        cluster, rng = self.cluster, self.rng
        actions: list[Action] = [("answer", lambda w=worker: w.answers.pop(rng.randrange(len(w.answers)))())] if worker.answers else []
        if worker.generation != cluster.generation:
            actions.append(("learn", worker.learn))
        for number, part in worker.engine.partitions.items():
            if part.assigned and worker.reading.get(number, 0) < len(cluster.log[number]):
                actions.append(("read", lambda w=worker, n=number: w.read(n, rng.choice((1, 2, 1000)))))
            if part.assigned and number not in worker.paused and worker.commanding.get(number, 0) < len(cluster.commands[number]):
                actions.append(("take", lambda w=worker, n=number: w.take(n, rng.choice((1, 1000)))))
        actions += [("effect", lambda w=worker, r=run_id: w.end_effect(r, self._result())) for run_id in worker.effects]
        actions.append(("commit", worker.commit))
        return actions

    def _result(self) -> Any:
        return self.rng.choices((None, FAILED, REFUSED), (8, 2, 1))[0]

    def _faults(self) -> list[Action]:
        cluster, rng = self.cluster, self.rng
        found: list[Action] = []

        def fault(kind: str, action: Callable[[], None]) -> None:
            if self.faults[kind] > 0:
                found.append((kind, lambda: (self.faults.__setitem__(kind, self.faults[kind] - 1), action())[1]))

        for worker in list(cluster.workers.values()):
            fault("crash", lambda w=worker: self._crash(w))
            fault("give up", worker.lose_producer)
            for number in list(worker.reading):
                fault("skip", lambda w=worker, n=number: w.read(n, rng.choice((1, 3)), rng.choice((-2, 1, 2))))
        for flight in cluster.heads():
            fault("lose", lambda f=flight: self._lose(f))
        fault("move", self._rebalance)
        fault("restart", lambda: (cluster.start(rng.choice(self.names)), self._rebalance())[1])
        fault("away", lambda: setattr(cluster, "store_away", not cluster.store_away))
        fault("restore", lambda: cluster.store.update({n: rng.randint(0, at) for n, at in cluster.store.items()}))
        return found

    def _crash(self, worker: Worker) -> None:
        del self.cluster.workers[worker.name]

    def _lose(self, flight: Any) -> None:
        """The record never lands; its producer notices in the end (a deadline), perhaps after later ones have landed."""
        self.cluster.flying.remove(flight)
        worker = self.cluster.workers.get(flight.producer[0])
        if worker is not None and worker.producer == flight.producer[1]:
            worker.answers.append(lambda: worker.lose_producer() if worker.producer == flight.producer[1] else None)

    def _rebalance(self) -> None:
        names = sorted(self.cluster.workers)
        if names:
            self.cluster.give({n: self.rng.choice(names) for n in self.cluster.log})

    def _project(self, number: int) -> None:
        self.cluster.store[number] = self.rng.randint(self.cluster.store[number], len(self.cluster.log[number]))

    def _pass_time(self, seconds: float) -> None:
        self.cluster.clock += seconds
        for worker in self.cluster.workers.values():
            worker.engine.tick(self.cluster.clock)

    def describe(self) -> str:
        cluster = self.cluster
        parts = {w.name: {n: (p.owner, p.position, p.mine, p.epoch, sorted(p.out), sorted(p.held), list(p.ends)) for n, p in w.engine.partitions.items()} for w in cluster.workers.values()}
        return f"{dict(ends(cluster))} {parts} flying {len(cluster.flying)} owners {cluster.owner} committed {cluster.committed} {self.trace[-30:]}"


def populate(cluster: Cluster) -> set[str]:
    """Commands of a schedule: starts, the same id again, cancels, one away from home, one that cannot be read. The ids that must become runs."""
    rng, ids = cluster.rng, set[str]()
    for index in range(rng.randint(1, 4)):
        run_id = f"r{index}"
        ids.add(run_id)
        cluster.trigger(run_id, at=rng.choice((None, rng.randrange(cluster.partitions))), payload={"n": index})
        if rng.random() < 0.4:
            cluster.trigger(run_id)
        if rng.random() < 0.2:
            cluster.put(CancelRun(f"x{index}", run_id, "enough", "2026-01-01T00:00:00.000Z"))
    if rng.random() < 0.3:
        cluster.put_raw(rng.randrange(cluster.partitions), rng.choice((b"", b"{", b'{"workflow_id": 1}', b"\xff")))
    if rng.random() < 0.3:
        cluster.put_raw(rng.randrange(cluster.partitions), b'{"workflow_id": "unknown", "payload": {}}')
    return ids


def check_safety(cluster: Cluster) -> None:
    """At every step: an attempt is started once per epoch at the most, and all readers that have read equally far agree."""
    assert all(times == 1 for times in cluster.started.values()), cluster.started
    for worker in cluster.workers.values():
        for number, part in worker.engine.partitions.items():
            if part.loaded and part.position >= part.base:
                truth = cluster.fold(number, part.position)
                assert part.epoch == truth.epoch, (worker.name, number)
                assert {r.id: r.dump() for r in part.runs.values()} == {r.id: r.dump() for r in truth.runs.values()}, (worker.name, number)


def at_rest(cluster: Cluster) -> bool:
    """Nothing is flying, read, asked, held or unannounced."""
    busy = cluster.flying or any(w.answers or w.effects for w in cluster.workers.values())
    return not busy and all(_idle(cluster, number) for number in cluster.log)


def _idle(cluster: Cluster, number: int) -> bool:
    worker = cluster.workers.get(cluster.owner[number])
    part = worker.engine.partitions.get(number) if worker is not None else None
    if part is None or not part.owner or part.runs or part.out or part.held or part.ends or part.unjudged:
        return False
    return cluster.committed[number] == (len(cluster.commands[number]), len(cluster.log[number]))


def check_goals(cluster: Cluster, expected: set[str]) -> None:
    """At rest: every accepted run ended exactly once and was announced, all copies equal."""
    ended = ends(cluster)
    assert expected <= ended.keys(), (expected, ended)
    assert all(times == 1 for times in ended.values()), ended
    announced: dict[str, set[bytes]] = {}
    for value in cluster.completed:
        envelope = decode(value)
        assert envelope is not None
        announced.setdefault(envelope["subject"], set()).add(value)
    assert announced.keys() == ended.keys(), (announced.keys(), ended.keys())
    assert all(len(copies) == 1 for copies in announced.values())
