"""A simulated log with its group, store and outside, on which real engines run. No I/O, no clock and no chance of its own.

Everything an engine asks of its `World` becomes something that may happen later, in any order that a real system allows:
records of one producer land in order, those of different producers in none; answers are read at one moment and arrive at
another; whoever has lost a partition goes on until it learns of it. What happens when is said from outside, step by step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.commands import Command, TriggerRun, encode
from schemas.events import time_text
from schemas.identity import home
from streams.engine import Limits
from tests.histories import LogRecord
from tests.simulation.member import Worker
from tests.simulation.tables import Tables
from tests.simulation.truth import Truth
from tests.simulation.watch import Watch

LIMITS = Limits(append_timeout_s=10.0, effects_max=50, held_max=6)


@dataclass(eq=False)
class Flight:
    """A record on its way to the log, handed to this producer of a worker's process."""

    worker: str
    producer: str
    partition: int
    key: bytes
    value: bytes
    place: int
    """in its append"""


class Cluster:
    """Log, commands, group, store and outside; `clock` is the broker's, in seconds."""

    def __init__(
        self,
        definition: dict[str, Any],
        *,
        partitions: int = 1,
        remembers: bool = False,
        limits: Limits = LIMITS,
        definition_wait_s: float = 0.0,
    ) -> None:
        self.definition, self.partitions = definition, partitions
        self.remembers, self.limits, self.definition_wait_s = remembers, limits, definition_wait_s
        numbers = range(partitions)
        self.clock = 1_000_000.0
        self.off: dict[str, float] = defaultdict(float)
        """worker → how far its machine's clock is ahead of the broker's"""
        self.skewed = False
        """some clock is or was off"""
        self.log: dict[int, list[LogRecord]] = {n: [] for n in numbers}
        self.commands: dict[int, list[LogRecord]] = {n: [] for n in numbers}
        self.truth = {n: Truth(n, partitions) for n in numbers}
        self.completed: list[bytes] = []
        self.passed_on: dict[tuple[int, int], str] = {}
        """(partition, offset) of commands that were refused or sent home → why"""
        self.flying: list[Flight] = []
        self.refused: set[tuple[str, int]] = set()
        """(producer, partition) of producers whose sequence the partition's log no longer knows: it takes nothing of them"""
        self.committed: dict[int, tuple[int, int]] = dict.fromkeys(numbers, (0, 0))
        self.owner: dict[int, str] = {}
        self.also: dict[int, str] = {}
        """partition → a second member whom the group gives it as well, which no group should"""
        self.generation = 0
        self.store = Tables(self)
        self.store_away = False
        self.workers: dict[str, Worker] = {}
        self.processes: list[Worker] = []
        """every worker that ever was"""
        self.watch = Watch(self)

    # ── clients ──
    def trigger(self, run_id: str, at: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """Put a TriggerRun on the commands; `at` is a partition that need not be the run's home."""
        self.put(TriggerRun(f"c-{run_id}", run_id, "w", 1, payload or {}, time_text(self.clock)), at)

    def put(self, command: Command, at: int | None = None) -> None:
        self.put_raw(home(command.run_id, self.partitions) if at is None else at, encode(command))

    def put_raw(self, partition: int, value: bytes) -> None:
        commands = self.commands[partition]
        commands.append(LogRecord(len(commands), int(self.clock * 1000), None, value))

    # ── the log ──
    def append(self, partition: int, value: bytes, key: bytes | None = None) -> None:
        """A record comes to stand in the log."""
        log = self.log[partition]
        log.append(LogRecord(len(log), int(self.clock * 1000), key, value))
        self.truth[partition].take(value)

    def send(self, worker: Worker, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        """A worker hands records to its producer."""
        about = (worker.name, worker.producer, partition)
        self.flying.extend(Flight(*about, key, value, place) for place, (key, value) in enumerate(records))

    def land(self, flight: Flight) -> None:
        self.flying.remove(flight)
        self.append(flight.partition, flight.value, flight.key)

    def heads(self, besides: Container[str] = ()) -> list[Flight]:
        """Records that may land next: the first of each producer and partition, `besides` those of some producers."""
        first: dict[tuple[str, int], Flight] = {}
        for flight in self.flying:
            if flight.producer not in besides:
                first.setdefault((flight.producer, flight.partition), flight)
        return list(first.values())

    def cut(self, partition: int, length: int) -> None:
        """The log's tail is gone, as after a power failure: with it what was on its way, the sequences of the producers, which
        notice it in the end, and every answer of the broker that was."""
        self.watch.cutting(partition, length)
        del self.log[partition][length:]
        self.truth[partition].cut(length)
        self.flying = [flight for flight in self.flying if flight.partition != partition]
        for worker in self.workers.values():
            self.refused.add((worker.producer, partition))
            worker.disconnected()

    # ── processes and their group ──
    def start(self, name: str) -> Worker:
        """A new process of this name; one that runs under it is gone."""
        self.workers[name] = Worker(self, name)
        self.processes.append(self.workers[name])
        return self.workers[name]

    def give(self, owners: Mapping[int, str]) -> None:
        """The group decides on a new assignment; members learn of it one by one."""
        self.owner, self.generation = dict(owners), self.generation + 1

    def has(self, name: str, partition: int) -> bool:
        """Whether the group says that the partition is this member's."""
        return name in (self.owner.get(partition), self.also.get(partition))

    def tick(self, seconds: float = 0.0, names: Container[str] | None = None) -> None:
        """Time passes, and the timers of these workers (all by default) go off."""
        self.clock += seconds
        for worker in self.workers.values():
            if names is None or worker.name in names:
                worker.tick()

    def set_clock(self, name: str, off: float) -> None:
        """Somebody sets the clock of this worker's machine so far ahead of the broker's."""
        self.off[name], self.skewed = off, True
