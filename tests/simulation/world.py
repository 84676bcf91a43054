"""A simulated log with its group, store and outside, on which real engines run. One seed, no I/O, no clock of its own.

Everything an engine asks of its `World` becomes something that may happen later, in any order that a real system allows:
records of one producer land in order, those of different producers in none; answers are read at one moment and arrive at another.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from schemas.commands import Command, TriggerRun, encode
from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from schemas.events import RUN_COMPLETED
from schemas.identity import home
from schemas.run import Run
from schemas.store import Mark, Snapshot, Tip
from streams.decider import ExpressionFault, Start
from streams.engine import Engine, Limits
from streams.partition import Partition



@dataclass(frozen=True)
class Record:
    """A record as a broker hands it over."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None


LIMITS = Limits(append_timeout_s=10.0, effects_max=50, held_max=6)


@dataclass
class Flight:
    """A record on its way to the log. `producer`: worker and generation; `lost`: it never lands."""

    producer: tuple[str, int]
    partition: int
    value: bytes


class Cluster:
    """Log, commands, group, store and outside; `clock` in seconds."""

    def __init__(self, seed: int, definition: dict[str, Any], *, partitions: int = 1, remembers: bool = False) -> None:
        self.rng, self.definition, self.partitions, self.remembers = Random(seed), definition, partitions, remembers
        self.clock = 1_000_000.0
        self.log: dict[int, list[Record]] = {n: [] for n in range(partitions)}
        self.commands: dict[int, list[Record]] = {n: [] for n in range(partitions)}
        self.completed: list[bytes] = []
        self.rejected: list[str] = []
        self.flying: list[Flight] = []
        self.committed: dict[int, tuple[int, int]] = dict.fromkeys(range(partitions), (0, 0))
        self.owner: dict[int, str] = {}
        self.generation = 0
        self.store: dict[int, int] = dict.fromkeys(range(partitions), 0)
        self.store_away = False
        self.workers: dict[str, Worker] = {}
        self.started: Counter[tuple[str, int, int, int]] = Counter()
        self.marks: Counter[str] = Counter()
        self._tokens = 0

    # ── outside ──
    def trigger(self, run_id: str, at: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """Put a TriggerRun on the commands; `at` is a partition that need not be the run's home."""
        self.put(TriggerRun(f"c-{run_id}", run_id, "w", 1, payload or {}, "2026-01-01T00:00:00.000Z"), at)

    def put(self, command: Command, at: int | None = None) -> None:
        where = home(command.run_id, self.partitions) if at is None else at
        self.put_raw(where, encode(command))

    def put_raw(self, partition: int, value: bytes) -> None:
        self.commands[partition].append(Record(len(self.commands[partition]), int(self.clock * 1000), value))

    # ── log ──
    def land(self, flight: Flight) -> None:
        self.flying.remove(flight)
        self.append(flight.partition, flight.value)

    def append(self, partition: int, value: bytes) -> None:
        log = self.log[partition]
        log.append(Record(len(log), int(self.clock * 1000), value))

    def heads(self) -> list[Flight]:
        """Records that may land next: the first of each producer and partition."""
        seen: set[tuple[tuple[str, int], int]] = set()
        return [f for f in self.flying if (key := (f.producer, f.partition)) not in seen and not seen.add(key)]  # type: ignore[func-returns-value]

    # ── readers with a complete memory ──
    def fold(self, partition: int, upto: int) -> Partition:
        """The reader that forgets nothing, at a position."""
        part = Partition(partition, self.partitions, position=0)
        for record in self.log[partition][:upto]:
            part.fold(record, {})
        return part

    def snapshot(self, partition: int) -> Snapshot:
        upto = 0 if self.remembers else self.store[partition]
        part = self.fold(partition, upto)
        return Snapshot(Mark(upto, part.epoch, None, "sim") if upto else None, list(part.runs.values()))

    def tips(self, partition: int, run_ids: Sequence[str]) -> tuple[int, dict[str, Tip]]:
        part = self.fold(partition, self.store[partition])
        tips = {run_id: Tip(seq, last, True) for run_id, (seq, last, _) in part.finished.items() if run_id in run_ids}
        tips |= {run.id: Tip(run.seq, run.tip or "", False) for run in part.runs.values() if run.id in run_ids}
        return self.store[partition], tips

    # ── group ──
    def start(self, name: str) -> Worker:
        self.workers[name] = Worker(self, name)
        return self.workers[name]

    def give(self, owners: Mapping[int, str]) -> None:
        """The group decides on a new assignment; members learn of it one by one."""
        self.owner, self.generation = dict(owners), self.generation + 1

    def token(self) -> str:
        self._tokens += 1
        return f"t{self._tokens}"


@dataclass
class Worker:
    """One process: an engine and everything that it waits for."""

    cluster: Cluster
    name: str
    generation: int = -1
    producer: int = 0
    reading: dict[int, int] = field(default_factory=dict)
    commanding: dict[int, int] = field(default_factory=dict)
    paused: set[int] = field(default_factory=set)
    answers: list[Callable[[], None]] = field(default_factory=list)
    effects: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine(self.name, self.cluster.partitions, self, remembers=self.cluster.remembers, limits=LIMITS)
        self.cluster.workers[self.name] = self

    @property
    def now(self) -> float:
        return self.cluster.clock

    # ── what the scheduler does to it ──
    def learn(self) -> None:
        """Hear of the group's present assignment."""
        self.generation = self.cluster.generation
        mine = {n: self.cluster.committed[n] for n, name in self.cluster.owner.items() if name == self.name}
        self.engine.assign(mine, self.cluster.token(), self.now)
        self.paused.clear()
        for number, (events, commands) in self.engine.positions().items():
            self.commanding[number] = commands
            if events is not None:
                self.reading[number] = events

    def read(self, number: int, most: int = 1000, skip: int = 0) -> None:
        """Fetch from the log; `skip` > 0 loses records between fetch and agent, < 0 repeats some."""
        at = max(0, self.reading.get(number, 0) + skip)
        batch = self.cluster.log[number][at : at + most]
        if batch:
            self.reading[number] = batch[-1].offset + 1
            self.engine.on_events(number, batch, self.now)

    def take(self, number: int, most: int = 1000, skip: int = 0) -> None:
        at = max(0, self.commanding.get(number, 0) + skip)
        batch = self.cluster.commands[number][at : at + most]
        if batch and number not in self.paused:
            self.commanding[number] = batch[-1].offset + 1
            self.engine.on_commands(number, batch, self.now)

    def commit(self) -> None:
        for number, part in self.engine.partitions.items():
            if part.owner:
                self.cluster.committed[number] = (part.safe_commands(), part.safe_events())

    def end_effect(self, run_id: str, result: EffectResult | None = None) -> None:
        pc, attempt = self.effects.pop(run_id)
        self.engine.effect_ended(run_id, pc, attempt, result or EffectSucceeded({"status": 200}), self.now)

    def lose_producer(self) -> None:
        """A send missed its deadline: its records may still land."""
        self.engine.producer_lost(self.now)

    # ── World ──
    def append(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        self.cluster.flying.extend(Flight((self.name, self.producer), partition, value) for _, value in records)

    def drop_producer(self) -> None:
        self.producer += 1

    def announce(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        def answer() -> None:
            fate = self.cluster.rng.random()
            if fate < 0.9:
                self.cluster.completed.append(value)
            self.engine.announced(partition, offset, fate < 0.8)

        self.answers.append(answer)

    def reject(self, partition: int, offset: int, value: bytes | None, reason: str) -> None:
        token = self.engine.partitions[partition].token
        self.answers.append(lambda: (self.cluster.rejected.append(reason), self.engine.passed_on(partition, offset, token))[1])

    def send_home(self, partition: int, offset: int, home: int, command: Command) -> None:
        token = self.engine.partitions[partition].token
        self.answers.append(lambda: (self.cluster.put(command), self.engine.passed_on(partition, offset, token))[1])

    def confirm(self, partition: int, token: str) -> None:
        def answer() -> None:
            ours = self.generation == self.cluster.generation and self.cluster.owner.get(partition) == self.name
            self.engine.confirmed(partition, token, ours, self.now)

        self.answers.append(answer)

    def load(self, partition: int, token: str) -> None:
        self._from_store(lambda: (snapshot := self.cluster.snapshot(partition)) and (lambda: self.engine.loaded(partition, token, snapshot)))

    def end_of(self, partition: int, token: str) -> None:
        def read() -> None:
            end = len(self.cluster.log[partition])
            self.answers.append(lambda: self.engine.end_known(partition, token, end, self.now))

        self.answers.append(read)

    def look_up(self, partition: int, token: str, run_ids: Sequence[str]) -> None:
        def read() -> Callable[[], None]:
            position, tips = self.cluster.tips(partition, run_ids)
            return lambda: self.engine.looked_up(partition, token, run_ids, position, tips, self.now)

        self._from_store(read)

    def _from_store(self, read: Callable[[], Callable[[], None]]) -> None:
        """Read at one moment (again later while the store is away), answer at another."""

        def attempt() -> None:
            self.answers.append(attempt if self.cluster.store_away else read())

        self.answers.append(attempt)

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        if command.workflow_id != "w":
            return Start(command, command.version, None, {"code": "definition_unknown", "message": "no such workflow"})
        return Start(command, 1, self.cluster.definition, None)

    def evaluate(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any] | None:
        values = {source: ExpressionFault(source=source, reason="test") if "fail" in source else len(run.outputs) for source in expressions}
        if self.cluster.rng.random() < 0.5:
            return values
        self.answers.append(lambda: self.engine.evaluated(run.id, run.pc, values, self.now))
        return None

    def start_effect(self, run: Run, epoch: int) -> None:
        self.cluster.started[run.id, run.pc, run.attempt, epoch] += 1
        self.effects[run.id] = (run.pc, run.attempt)

    def cancel_effect(self, run_id: str) -> None:
        self.effects.pop(run_id, None)

    def seek(self, partition: int, events: int | None = None, commands: int | None = None) -> None:
        if events is not None:
            self.reading[partition] = events
        if commands is not None:
            self.commanding[partition] = commands

    def pause(self, partition: int, paused: bool) -> None:
        (self.paused.add if paused else self.paused.discard)(partition)


def ends(cluster: Cluster) -> dict[str, int]:
    """Run id → number of accepted ends in the log, by the reader with a complete memory."""
    found: dict[str, int] = defaultdict(int)
    for number, log in cluster.log.items():
        part = Partition(number, cluster.partitions, position=0)
        for record in log:
            touched: dict[str, Run] = {}
            part.fold(record, touched)
            for run_id, run in touched.items():
                found[run_id] += run.phase == "done"
    return found


__all__ = ["RUN_COMPLETED", "Cluster", "EffectFailed", "Flight", "Worker", "ends"]
