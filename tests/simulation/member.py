"""A simulated worker: the real engine, and around it what the worker of a process does, without I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.commands import Command, TriggerRun
from schemas.effects import EffectResult, EffectSucceeded
from schemas.errors import LogMismatch
from schemas.ports import TP, Record
from schemas.run import Run
from schemas.store import Mark, Snapshot, Tip
from streams import log_check
from streams.clock import WorkerClock
from streams.decider import ExpressionFault, Start
from streams.engine import Engine
from tests.simulation.tables import CLUSTER, LogOf, at_once

if TYPE_CHECKING:
    from tests.simulation.world import Cluster

WELL, UNHEARD, LOST = 0, 1, 2
"""What becomes of an announcement: it arrives and that is heard, it arrives and that is not heard, it does not arrive."""
Then = Callable[[], None]


class Answer(NamedTuple):
    """Something that will be told to the engine, `by`: log, group, store, outside or itself. `give` is told the fate of an announcement."""

    by: str
    name: str
    give: Callable[[int], None]
    again: Callable[[], None] | None = None
    """how it is asked for once more when the connection breaks on which it comes"""


class Worker:
    """One process: an engine and everything that it waits for. Implements `streams.ports.World`."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name, self.watch = cluster, name, cluster.watch
        self.process = f"{name}{1 + sum(other.name == name for other in cluster.processes)}"
        self.generation, self.assignments, self.producers = -1, 0, 1
        self.reading: dict[int, int] = {}
        self.commanding: dict[int, int] = {}
        self.lost: dict[int, int] = {}
        self.paused: set[int] = set()
        self.answers: list[Answer] = []
        self.effects: dict[str, tuple[int, int]] = {}
        self.slow = self.slow_values = False
        """its view of the definitions is behind; expressions take their time"""
        self.asked_at: dict[tuple[int, int], float] = {}
        """when a definition was first asked for that is not known"""
        self.clock = WorkerClock(lambda: cluster.clock + cluster.off[name], lambda: cluster.clock)
        self.engine = Engine(name, cluster.partitions, self, remembers=cluster.remembers, limits=cluster.limits)

    @property
    def now(self) -> float:
        """The time by which it decides."""
        return self.clock()

    @property
    def producer(self) -> str:
        return f"{self.process}.{self.producers}"

    # ── what may happen to it ──
    def learn(self) -> None:
        """Hear of the group's present assignment."""
        cluster, self.generation = self.cluster, self.cluster.generation
        self.assignments += 1
        self.watch.learns(self)
        mine = {n: cluster.committed[n] for n in cluster.log if cluster.has(self.name, n)}
        self.engine.assign(mine, f"{self.process}-{self.assignments}", self.now)
        self.paused.clear()
        self.asked_at.clear()
        for number, (events, commands) in self.engine.positions().items():
            self.seek(number, events, commands)

    def tick(self) -> None:
        before = len(self.engine.partitions)
        self.engine.tick(self.now)
        self.watch.marks["folds given back"] += before - len(self.engine.partitions)

    def read(self, number: int, most: int = 1000, skip: int = 0, hole: int = 0) -> None:
        """Fetch from the log; `skip` > 0 loses records between fetch and agent, < 0 repeats some, `hole` loses one inside.
        A client that stands past the end goes back to the first record, which its membership notices."""
        log, next_one = self.cluster.log[number], self.reading.get(number, 0)
        batch = log[max(0, next_one + skip) :][:most]
        if next_one > len(log):
            self._ends("a fetch") if log else None
        elif batch:
            self.reading[number] = batch[-1].offset + 1
            lost = hole and hole + 1 < len(batch)
            self._hand_over(number, batch[:hole] + batch[hole + 1 :] if lost else batch)

    def _hand_over(self, number: int, batch: Sequence[Record]) -> None:
        try:
            self.engine.on_events(number, batch, self.now)
        except LogMismatch:
            self._ends("a read")
        else:
            self._hear(number, batch[-1].timestamp / 1000)
            self.watch.read(self, number)

    def _hear(self, number: int, appended_s: float) -> None:
        """What an owner reads was written a moment ago, by itself: it tells a clock that was stepped whether it is right."""
        before, part = self.now, self.engine.partitions[number]
        if part.owner:
            self.clock.heard(appended_s)
        self.watch.time_went(self.now - before, part)

    def take(self, number: int, most: int = 1000, skip: int = 0) -> None:
        """Fetch from the commands. The same records are not lost again when they are asked for again."""
        at = max(0, self.commanding.get(number, 0) + skip)
        if skip > 0:
            at, self.lost[number] = at - skip * (self.lost.get(number) == at), at
        batch = self.cluster.commands[number][at : at + most]
        if batch and number not in self.paused:
            self.commanding[number] = batch[-1].offset + 1
            self.engine.on_commands(number, batch, self.now)

    def commit(self) -> None:
        """Not fenced: a zombie may set both offsets back."""
        for number, part in self.engine.partitions.items():
            if part.owner:
                self.cluster.committed[number] = (part.safe_commands(), part.safe_events())
                self.watch.committed(number)

    def end_effect(self, run_id: str, result: EffectResult | None = None) -> None:
        pc, attempt = self.effects.pop(run_id)
        ended = result or EffectSucceeded({"status": 200})
        self.engine.effect_ended(run_id, pc, attempt, ended, self.now)

    def lose_producer(self) -> None:
        """A send missed its deadline: its records may still land."""
        self.engine.producer_lost(self.now)

    def notice(self) -> None:
        """The producer will find that a send of its failed, unless it is given up before."""
        producer = self.producer

        def failed(_: int) -> None:
            if self.producer == producer:
                self.lose_producer()

        self.answers.append(Answer("log", "failed", failed))

    def disconnected(self) -> None:
        """The broker died: what it had answered and was not heard is asked again, and what was sent has failed."""
        answers, self.answers[:] = list(self.answers), []
        for answer in answers:
            answer.again() if answer.again is not None else self.answers.append(answer)
        self.notice()

    def _ends(self, by: str) -> None:
        """The process ends with an error: what is in its memory is no fold of this log."""
        self.watch.marks[f"cut logs noticed by {by}"] += 1
        del self.cluster.workers[self.name]

    # ── World ──
    def append(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        self.watch.sent(self, partition, [value for _, value in records])
        if (self.producer, partition) not in self.cluster.refused:
            self.cluster.send(self, partition, records)

    def drop_producer(self) -> None:
        self.producers += 1

    def announce(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        self.watch.announcing(self, partition, offset)

        def answer(fate: int) -> None:
            if fate != LOST:
                self.cluster.completed.append(value)
            self.engine.announced(partition, offset, fate == WELL)

        self.answers.append(Answer("outside", f"told {partition}/{offset}", answer))

    def reject(self, partition: int, offset: int, value: bytes | None, reason: str) -> None:
        self.watch.refused(self, partition, value)
        self._pass_on(partition, offset, reason, lambda: None)

    def send_home(self, partition: int, offset: int, home: int, command: Command) -> None:
        self._pass_on(partition, offset, "sent home", lambda: self.cluster.put(command))

    def _pass_on(self, partition: int, offset: int, why: str, deliver: Callable[[], None]) -> None:
        token = self.engine.partitions[partition].token

        def answer(_: int) -> None:
            deliver()
            self.cluster.passed_on[partition, offset] = why
            self.engine.passed_on(partition, offset, token)

        self.answers.append(Answer("outside", f"passed {partition}/{offset}", answer))

    def confirm(self, partition: int, token: str) -> None:
        def answer(_: int) -> None:
            ours = self.generation == self.cluster.generation and self.cluster.has(self.name, partition)
            self.engine.confirmed(partition, token, ours, self.now)

        self.answers.append(Answer("group", f"confirm {partition}", answer))

    def load(self, partition: int, token: str) -> None:
        def read() -> Then | None:
            snapshot = self.cluster.store.snapshot(partition) if not self.cluster.remembers else Snapshot(None, [])
            if snapshot.mark is not None and self._differs(partition, snapshot.mark):
                return None
            return lambda: self._loaded(partition, token, snapshot)

        self._later("store", f"load {partition}", read, checked=True)

    def _differs(self, partition: int, mark: Mark) -> bool:
        """Whether the log is not the one that the tables know: the partition stands still until they fit."""
        tp = TP("workflow.events", partition)
        reason = at_once(log_check.difference(LogOf(self.cluster), tp, mark, CLUSTER))
        self.watch.stands_still(reason)
        return reason is not None

    def _loaded(self, partition: int, token: str, snapshot: Snapshot) -> None:
        self.engine.loaded(partition, token, snapshot)
        self.watch.loaded(self, partition, snapshot)

    def end_of(self, partition: int, token: str) -> None:
        part = self.engine.partitions[partition]
        read_to = part.rests_on + 1

        def read() -> Then:
            end = len(self.cluster.log[partition])
            if read_to > end:
                return lambda: self._ends("an assignment")
            return lambda: self.engine.end_known(partition, token, end, self.now)

        self._later("log", f"end {partition}", read, checked=True)

    def look_up(self, partition: int, token: str, run_ids: Sequence[str]) -> None:
        def read() -> Then:
            position, tips = self.cluster.store.tips(partition, run_ids)
            self.watch.looked_up(self, partition, position, tips)
            return lambda: self._looked_up(partition, token, run_ids, position, tips)

        self._later("store", f"look {partition}", read)

    def _looked_up(
        self, partition: int, token: str, run_ids: Sequence[str], position: int, tips: Mapping[str, Tip]
    ) -> None:
        part = self.engine.partitions.get(partition)
        old_ends = set(part.unjudged) if part is not None else set()
        self.engine.looked_up(partition, token, run_ids, position, tips, self.now)
        self.watch.judged(self, partition, old_ends)

    def _later(self, by: str, name: str, read: Callable[[], Then | None], *, checked: bool = False) -> None:
        """Read at one moment, tried again while that is away or answers nothing; answer at another. `checked`: the log was
        looked at, which is done again when the broker dies meanwhile."""

        def ask() -> None:
            self.answers.append(Answer(by, f"{name}, asked", attempt))

        def attempt(_: int) -> None:
            then = None if by == "store" and self.cluster.store_away else read()
            if then is None:
                ask()
            else:
                self.answers.append(Answer(by, name, lambda _: then(), ask if checked else None))

        ask()

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        if self.slow:
            return None
        if command.workflow_id == "w":
            return Start(command, 1, self.cluster.definition, None)
        asked = self.asked_at.setdefault((partition, offset), self.cluster.clock)
        if self.cluster.clock - asked < self.cluster.definition_wait_s:
            return None
        self.watch.marks["starts refused at the end of a wait"] += self.cluster.clock > asked
        return Start(command, command.version, None, {"code": "definition_unknown", "message": "no such workflow"})

    def evaluate(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any] | None:
        fault = ExpressionFault(source="fail", reason="no such key")
        values = {source: fault if "fail" in source else len(run.outputs) for source in expressions}
        run_id, pc, engine = run.id, run.pc, self.engine
        if self.slow_values:
            later = Answer("itself", f"values {run_id}", lambda _: engine.evaluated(run_id, pc, values, self.now))
            self.answers.append(later)
        return None if self.slow_values else values

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
