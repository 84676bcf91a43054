"""A simulated log with its group, store and outside, on which real engines run. One seed, no I/O, no clock of its own.

Everything an engine asks of its `World` becomes something that may happen later, in any order that a real system allows:
records of one producer land in order, those of different producers in none; answers are read at one moment and arrive at
another; whoever has lost a partition goes on until it learns of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from schemas.commands import Command, TriggerRun, encode
from schemas.effects import EffectResult, EffectSucceeded
from schemas.events import time_text
from schemas.identity import home
from schemas.run import Run
from schemas.store import Mark, Snapshot, Tip
from streams.decider import ExpressionFault, Start
from streams.engine import Engine, Limits
from tests.histories import LogRecord
from tests.simulation.watch import Truth, Watch

LIMITS = Limits(append_timeout_s=10.0, effects_max=50, held_max=6)


@dataclass(eq=False)
class Flight:
    """A record on its way to the log, handed to this producer of this worker."""

    producer: tuple[str, int]
    partition: int
    key: bytes
    value: bytes


class Cluster:
    """Log, commands, group, store and outside; `clock` in seconds."""

    def __init__(
        self,
        seed: int,
        definition: dict[str, Any],
        *,
        partitions: int = 1,
        remembers: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        self.rng, self.definition, self.partitions = Random(seed), definition, partitions
        self.chance: Callable[[], float] = self.rng.random
        """from 0, all goes well and at once, to 1"""
        self.remembers, self.limits = remembers, limits
        numbers = range(partitions)
        self.clock = 1_000_000.0
        self.log: dict[int, list[LogRecord]] = {n: [] for n in numbers}
        self.commands: dict[int, list[LogRecord]] = {n: [] for n in numbers}
        self.truth = {n: Truth(n, partitions) for n in numbers}
        self.completed: list[bytes] = []
        self.passed_on: dict[tuple[int, int], str] = {}
        """(partition, offset) of commands that were refused or sent home → why"""
        self.flying: list[Flight] = []
        self.committed: dict[int, tuple[int, int]] = dict.fromkeys(numbers, (0, 0))
        self.owner: dict[int, str] = {}
        self.generation = self.tokens = 0
        self.store: dict[int, int] = dict.fromkeys(numbers, 0)
        self.store_away = False
        self.workers: dict[str, Worker] = {}
        self.processes: list[Worker] = []
        """every worker that ever was"""
        self.watch = Watch(self)

    def trigger(self, run_id: str, at: int | None = None, payload: dict[str, Any] | None = None) -> None:
        """Put a TriggerRun on the commands; `at` is a partition that need not be the run's home."""
        self.put(TriggerRun(f"c-{run_id}", run_id, "w", 1, payload or {}, time_text(self.clock)), at)

    def put(self, command: Command, at: int | None = None) -> None:
        self.put_raw(home(command.run_id, self.partitions) if at is None else at, encode(command))

    def put_raw(self, partition: int, value: bytes) -> None:
        commands = self.commands[partition]
        commands.append(LogRecord(len(commands), int(self.clock * 1000), None, value))

    def append(self, partition: int, value: bytes, key: bytes | None = None) -> None:
        """A record comes to stand in the log."""
        log = self.log[partition]
        log.append(LogRecord(len(log), int(self.clock * 1000), key, value))
        self.truth[partition].take(value)

    def land(self, flight: Flight) -> None:
        self.flying.remove(flight)
        self.append(flight.partition, flight.value, flight.key)

    def heads(self) -> list[Flight]:
        """Records that may land next: the first of each producer and partition."""
        return list({(flight.producer, flight.partition): flight for flight in reversed(self.flying)}.values())

    def snapshot(self, partition: int) -> Snapshot:
        at = 0 if self.remembers else self.store[partition]
        state = self.truth[partition].states[at]
        runs = [Run.load(run_id, dump) for run_id, dump in state.runs.items()]
        return Snapshot(Mark(at, state.epoch, None, "sim") if at else None, runs)

    def tips(self, partition: int, run_ids: Sequence[str]) -> tuple[int, dict[str, Tip]]:
        known = self.truth[partition].states[self.store[partition]].tips
        tips = {run_id: Tip(seq, last or "", done) for run_id, (seq, last, done) in known.items() if run_id in run_ids}
        return self.store[partition], tips

    def start(self, name: str) -> Worker:
        """A new process of this name; one that runs under it is gone."""
        self.workers[name] = Worker(self, name)
        self.processes.append(self.workers[name])
        return self.workers[name]

    def give(self, owners: Mapping[int, str]) -> None:
        """The group decides on a new assignment; members learn of it one by one."""
        self.owner, self.generation = dict(owners), self.generation + 1

    def tick(self, seconds: float = 0.0) -> None:
        self.clock += seconds
        for worker in self.workers.values():
            worker.engine.tick(self.clock)


class Worker:
    """One process: an engine and everything that it waits for."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name, self.watch = cluster, name, cluster.watch
        cluster.tokens += 1
        self.generation, self.producer = -1, cluster.tokens
        self.reading: dict[int, int] = {}
        self.commanding: dict[int, int] = {}
        self.lost: dict[int, int] = {}
        self.paused: set[int] = set()
        self.answers: list[Callable[[], None]] = []
        self.effects: dict[str, tuple[int, int]] = {}
        self.engine = Engine(name, cluster.partitions, self, remembers=cluster.remembers, limits=cluster.limits)

    # ── what may happen to it ──
    def learn(self) -> None:
        """Hear of the group's present assignment."""
        cluster, self.generation = self.cluster, self.cluster.generation
        cluster.tokens += 1
        mine = {n: cluster.committed[n] for n, name in cluster.owner.items() if name == self.name}
        self.engine.assign(mine, f"t{cluster.tokens}", cluster.clock)
        self.paused.clear()
        for number, (events, commands) in self.engine.positions().items():
            self.seek(number, events, commands)

    def read(self, number: int, most: int = 1000, skip: int = 0, hole: int = 0) -> None:
        """Fetch from the log; `skip` > 0 loses records between fetch and agent, < 0 repeats some, `hole` loses one inside."""
        at = max(0, self.reading.get(number, 0) + skip)
        batch = self.cluster.log[number][at : at + most]
        if batch:
            self.reading[number] = batch[-1].offset + 1
            lost = hole and hole + 1 < len(batch)
            self.engine.on_events(number, batch[:hole] + batch[hole + 1 :] if lost else batch, self.cluster.clock)
            self.watch.read(self, number)

    def take(self, number: int, most: int = 1000, skip: int = 0) -> None:
        """Fetch from the commands. The same records are not lost again when they are asked for again."""
        at = max(0, self.commanding.get(number, 0) + skip)
        if skip > 0:
            at, self.lost[number] = at - skip * (self.lost.get(number) == at), at
        batch = self.cluster.commands[number][at : at + most]
        if batch and number not in self.paused:
            self.commanding[number] = batch[-1].offset + 1
            self.engine.on_commands(number, batch, self.cluster.clock)

    def commit(self) -> None:
        """Not fenced: a zombie may set both offsets back."""
        for number, part in self.engine.partitions.items():
            if part.owner:
                self.cluster.committed[number] = (part.safe_commands(), part.safe_events())
                self.watch.committed(number)

    def end_effect(self, run_id: str, result: EffectResult | None = None) -> None:
        pc, attempt = self.effects.pop(run_id)
        ended = result or EffectSucceeded({"status": 200})
        self.engine.effect_ended(run_id, pc, attempt, ended, self.cluster.clock)

    def lose_producer(self) -> None:
        """A send missed its deadline: its records may still land."""
        self.engine.producer_lost(self.cluster.clock)

    # ── World ──
    def append(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        self.watch.sent(self, partition, [value for _, value in records])
        producer = (self.name, self.producer)
        self.cluster.flying.extend(Flight(producer, partition, key, value) for key, value in records)

    def drop_producer(self) -> None:
        self.cluster.tokens += 1
        self.producer = self.cluster.tokens

    def announce(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        def answer() -> None:
            fate = self.cluster.chance()
            if fate < 0.9:
                self.cluster.completed.append(value)
            self.engine.announced(partition, offset, fate < 0.8)

        self.answers.append(answer)

    def reject(self, partition: int, offset: int, value: bytes | None, reason: str) -> None:
        self.watch.refused(self, partition, value)
        self._pass_on(partition, offset, reason, lambda: None)

    def send_home(self, partition: int, offset: int, home: int, command: Command) -> None:
        self._pass_on(partition, offset, "sent home", lambda: self.cluster.put(command))

    def _pass_on(self, partition: int, offset: int, why: str, deliver: Callable[[], None]) -> None:
        token = self.engine.partitions[partition].token

        def answer() -> None:
            deliver()
            self.cluster.passed_on[partition, offset] = why
            self.engine.passed_on(partition, offset, token)

        self.answers.append(answer)

    def confirm(self, partition: int, token: str) -> None:
        def answer() -> None:
            ours = self.generation == self.cluster.generation and self.cluster.owner.get(partition) == self.name
            self.engine.confirmed(partition, token, ours, self.cluster.clock)

        self.answers.append(answer)

    def load(self, partition: int, token: str) -> None:
        def read() -> Callable[[], None]:
            snapshot = self.cluster.snapshot(partition)
            return lambda: self.engine.loaded(partition, token, snapshot)

        self._later(read, lambda: self.cluster.store_away)

    def end_of(self, partition: int, token: str) -> None:
        def read() -> Callable[[], None]:
            end = len(self.cluster.log[partition])
            return lambda: self.engine.end_known(partition, token, end, self.cluster.clock)

        self._later(read, lambda: False)

    def look_up(self, partition: int, token: str, run_ids: Sequence[str]) -> None:
        def read() -> Callable[[], None]:
            position, tips = self.cluster.tips(partition, run_ids)
            self.watch.looked_up(self, partition, position, tips)
            return lambda: self.engine.looked_up(partition, token, run_ids, position, tips, self.cluster.clock)

        self._later(read, lambda: self.cluster.store_away)

    def _later(self, read: Callable[[], Callable[[], None]], away: Callable[[], bool]) -> None:
        """Read at one moment (tried again while that is away), answer at another."""

        def attempt() -> None:
            self.answers.append(attempt if away() else read())

        self.answers.append(attempt)

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        if command.workflow_id != "w":
            return Start(command, command.version, None, {"code": "definition_unknown", "message": "no such workflow"})
        return Start(command, 1, self.cluster.definition, None) if self.cluster.chance() < 0.8 else None

    def evaluate(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any] | None:
        fault = ExpressionFault(source="fail", reason="no such key")
        values = {source: fault if "fail" in source else len(run.outputs) for source in expressions}
        run_id, pc, engine = run.id, run.pc, self.engine
        if self.cluster.chance() < 0.5:
            return values
        self.answers.append(lambda: engine.evaluated(run_id, pc, values, self.cluster.clock))
        return None

    def start_effect(self, run: Run, epoch: int) -> None:
        self.watch.started(self, run, epoch)
        self.effects[run.id] = (run.pc, run.attempt)

    def cancel_effect(self, run_id: str) -> None:
        self.watch.marks["effects dropped"] += self.effects.pop(run_id, None) is not None

    def seek(self, partition: int, events: int | None = None, commands: int | None = None) -> None:
        if events is not None:
            self.reading[partition] = events
        if commands is not None:
            self.commanding[partition] = commands

    def pause(self, partition: int, paused: bool) -> None:
        self.watch.marks["intake paused"] += paused
        (self.paused.add if paused else self.paused.discard)(partition)
