"""What may go wrong in a simulation: faults that the platform survives, and faults that take away what it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any, Final

from schemas.events import encode, encode_taken, time_text
from schemas.identity import home
from tests.simulation.choices import LINKS, Hindrances, Kind, Plan, Usual
from tests.simulation.member import Worker
from tests.simulation.setup import OFF_S, Setup
from tests.simulation.steps import Stage, Step
from tests.simulation.tables import CLUSTER
from tests.simulation.world import Flight

STRANGERS: Final = ("x1", "x2", "x3")
SURVIVABLE: Final = frozenset(
    "crash leave move lose late stuck restore away skip hole again restart foreign repeat clock sever".split()
)
"""Faults after which, once they have ended, every promise is kept."""
UNLIMITED: Final = SURVIVABLE | frozenset("cut copy swap rebuild split".split())
"""The same, and those that break what the promises rest on: a log that keeps what it has, tables that are of it, a group
that gives a partition to one member, a producer that sends nothing twice."""


class Faults:
    """Kinds of faults."""

    def __init__(self, stage: Stage, setup: Setup, rng: Random, hindered: Hindrances, usual: Usual) -> None:
        self.stage, self.cluster, self.setup, self.rng = stage, stage.cluster, setup, rng
        self.hindered, self.usual, self.marks = hindered, usual, usual.marks
        self.strangers = 0
        once, flights = (lambda: (None,)), self.cluster.heads
        self.kinds: Mapping[str, Kind] = {
            "crash": Kind(self._workers, usual.end),
            "leave": Kind(self._carrying, lambda worker: [("drain", worker.name)]),
            "move": Kind(self._names, lambda _: self.move()),
            "restart": Kind(once, self._restart),
            "lose": Kind(flights, self._lose),
            "late": Kind(self._workers, lambda worker: [("late", worker.name)]),
            "stuck": Kind(flights, self._stick),
            "again": Kind(flights, self._again),
            "skip": Kind(self._assigned, self._skip),
            "hole": Kind(self._assigned, lambda at: [("read", *at, 1000, 0, 1)]),
            "foreign": Kind(once, self._foreign),
            "repeat": Kind(self._known, lambda run_id: [("repeat", run_id)]),
            "away": Kind(once, self._go_away),
            "restore": Kind(once, self._restore),
            "clock": Kind(self._names, self._set_clock),
            "sever": Kind(self._carrying, self._sever),
            "cut": Kind(self._written, self._cut),
            "copy": Kind(self._whole, self._copy),
            "swap": Kind(lambda: list(self.cluster.log), self._swap),
            "rebuild": Kind(self._unfit, lambda number: [("store", number, len(self.cluster.log[number]))]),
            "split": Kind(self._names, self._split),
        }

    # ── processes and their group ──
    def _workers(self) -> list[Worker]:
        return list(self.cluster.workers.values())

    def _carrying(self) -> list[Worker]:
        """Workers that are carrying something out, all of them when nobody is."""
        carrying = [worker for worker in self._workers() if worker.effects]
        return carrying if self.rng.random() < 0.7 else self._workers()

    def _names(self) -> list[str]:
        return sorted(self.cluster.workers)

    def move(self, but: str = "", and_: str = "") -> Plan:
        """The group gives each partition to somebody; `but` has gone, `and_` has joined."""
        names = sorted({*self.cluster.workers, *and_} - {but})
        return [("give", "".join(self.rng.choice(names) for _ in self.cluster.log))] if names else []

    def _restart(self, _: None) -> Plan:
        name = self.rng.choice(self.setup.workers)
        return [("start", name), *self.move(and_=name)]

    def _sever(self, worker: Worker) -> Plan:
        """A worker is cut off, or stopped; the group may give to others what it has."""
        name, link = worker.name, self.rng.choice((*LINKS, "kafka"))
        self.hindered.severed.add((name, link))
        self.marks[f"cut off from {link}"] += 1
        return self.move(but=name) if "group" in LINKS[link] and self.rng.random() < 0.8 else []

    def _set_clock(self, name: str) -> Plan:
        """A clock is set, to the right time or to a wrong one; now and then with the loss of what is on its way."""
        off_s = self.rng.choice((0.0, 0.0, 0.0, *OFF_S.values()))
        heads = [flight for flight in self.cluster.heads() if flight.worker == name and self.rng.random() < 0.3]
        lost = [self._lost(flight, is_noticed=False) for flight in heads]
        return [("clock", name, round(self.rng.uniform(-off_s, off_s), 1)), *lost]

    def _split(self, name: str) -> Plan:
        return [("split", self.rng.randrange(self.cluster.partitions), name)]

    # ── the log ──
    def _lose(self, flight: Flight) -> Plan:
        return [self._lost(flight, is_noticed=self.rng.random() < 0.5)]

    def _lost(self, head: Flight, *, is_noticed: bool) -> Step:
        nth = self.usual.nth(head)
        return ("lose", head.worker, head.partition, is_noticed, *([nth] if nth else []))

    def _stick(self, flight: Flight) -> Plan:
        """Its producer is given up; what it carried lands much later."""
        worker = self.cluster.workers.get(flight.worker)
        self.hindered.stuck.add(flight.producer)
        return [("late", worker.name)] if worker is not None and worker.producer == flight.producer else []

    def _again(self, flight: Flight) -> Plan:
        """It lands twice; the second time at once if it begins a run: nobody has forgotten that run yet (see the rule)."""
        about = self.usual.about(flight)
        if b'"seq":1,' in flight.value:
            return [("land", *about), ("copy", flight.partition, len(self.cluster.log[flight.partition]))]
        return [("again", *about)]

    def _assigned(self) -> list[tuple[str, int]]:
        parts = [(worker, worker.engine.partitions.items()) for worker in self.cluster.workers.values()]
        return [(worker.name, number) for worker, items in parts for number, part in items if part.assigned]

    def _skip(self, at: tuple[str, int]) -> Plan:
        """Records are lost or repeated between fetch and agent."""
        return [(self.rng.choice(("read", "take")), *at, 3, self.rng.choice((-2, 1, 2)))]

    def _foreign(self, _: None) -> Plan:
        """Somebody else writes into the log, or takes the partition; no record is like another one."""
        cluster, self.strangers = self.cluster, self.strangers + 1
        number, who = self.rng.randrange(cluster.partitions), f"stranger {self.strangers}"
        epoch, now = cluster.truth[number].reader.epoch, time_text(cluster.clock)
        run_id = self.rng.choice(STRANGERS)
        seq, prev = (1, None) if home(run_id, cluster.partitions) != number else (2, "00")
        value = self.rng.choice(
            (
                self.rng.choice((b"{", b"\xff")) + who.encode(),
                encode_taken(number, epoch + 1, "somebody", who, now),
                encode("StepStarted", run_id, {}, time=now, epoch=epoch or 1, seq=seq, prev=prev, cause=who),
            )
        )
        return [("foreign", number, value.decode("latin-1"))]

    def _written(self) -> list[int]:
        return [number for number, log in self.cluster.log.items() if log]

    def _whole(self) -> list[int]:
        """Logs that were never cut: a record is known by its bytes, so the same ones must not come to stand where they stood."""
        return [number for number in self._written() if number not in self.cluster.watch.apart]

    def _cut(self, number: int) -> Plan:
        """A power failure: the last records are gone, now and then all of them."""
        end = len(self.cluster.log[number])
        return [("cut", number, 0 if self.rng.random() < 0.1 else max(0, end - self.rng.randint(1, 5)))]

    def _copy(self, number: int) -> Plan:
        """A record is repeated, whenever it was written: rather one that begins a run, which the rule cannot bear."""
        log = self.cluster.log[number]
        first = [record.offset for record in log if b'"seq":1,' in (record.value or b"")]
        return [("copy", number, self.rng.choice(first if first and self.rng.random() < 0.7 else range(len(log))))]

    # ── the store ──
    def _known(self) -> list[str]:
        """Runs that ever were: a client repeats a start."""
        return [run_id for truth in self.cluster.truth.values() for run_id in truth.reader.tips]

    def _go_away(self, _: None) -> Plan:
        """The store does not answer for a while."""
        self.hindered.away_for = self.hindered.still_for = self.rng.randint(1, 60)
        return []

    def _restore(self, _: None) -> Plan:
        """The tables are set back and stand there for a while, and somebody starts a run again that they had known."""
        self.hindered.still_for = self.rng.randint(0, 100)
        known = self._known()
        plan: Plan = [("repeat", self.rng.choice(known))] if known else []
        tables = [(n, min(at, len(self.cluster.log[n]))) for n, at in self.cluster.store.items()]
        return [*plan, *(("store", n, self.rng.choice((0, self.rng.randint(0, at)))) for n, at in tables if at)]

    def _swap(self, number: int) -> Plan:
        """Tables of another cluster, or of another log of this one, are put in the place of the right ones."""
        position = self.rng.randint(1, 2 + len(self.cluster.log[number]))
        return [("swap", number, position, self.rng.choice((CLUSTER, "another cluster")))]

    def _unfit(self) -> list[int]:
        """Partitions whose tables are not of the log: they are made anew."""
        return [number for number in self.cluster.log if not self.cluster.store.fit(number)]


def waiting(marks: Counter[str], worker: Worker) -> None:
    """Count what waits for a store that has been away."""
    names: list[Any] = [answer.name.partition(" ")[0] for answer in worker.answers if answer.name.endswith("asked")]
    marks["look-ups that waited for the store"] += "look" in names
    marks["loads that waited for the store"] += "load" in names
