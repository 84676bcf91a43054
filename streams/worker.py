"""A worker: the engine in its consumer group, with its clock, its store and its effects. Implements `streams.ports.World`
and `schemas.ports.BatchHandler`; it decides nothing itself."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from schemas.commands import Command, TriggerRun, encode
from schemas.effects import EffectResult
from schemas.errors import BrokerAway, LogMismatch, StoreAway
from schemas.ports import TP, Assignment, Group, Reader, Record
from schemas.run import Run
from schemas.settings import Settings
from schemas.store import Mark, SnapshotStore
from streams import log_check
from streams.clock import WorkerClock
from streams.decider import Start, effect_input
from streams.engine import Engine, Limits
from streams.outlet import Outlet, rejection
from streams.resolver import Resolver

log = logging.getLogger(__name__)

TICK_S: Final = 0.05
COMMIT_S: Final = 1.0
RETRY_S: Final = 0.2
RECHECK_S: Final = 5.0
"""A partition whose log is not the one that the tables know is looked at again: a rebuild mends it."""
REVOKE_COMMIT_S: Final = 1.5

Values = Mapping[str, Any]
T = TypeVar("T")


class Effects(Protocol):
    """Who carries out steps."""

    def start(self, run: Run, config: dict[str, Any], done: Callable[[EffectResult], None]) -> None:
        """Carry out the open attempt of a run; `done` is called once unless it is cancelled."""
        ...

    def cancel(self, run_id: str) -> None: ...

    async def drain(self, bound_s: float) -> None:
        """Let what runs end within the bound."""
        ...


class Evaluator(Protocol):
    """Who knows the values of expressions."""

    def now(self, run: Run, expressions: Sequence[str]) -> Values | None:
        """The values, None when they are to be asked for by `later`."""
        ...

    async def later(self, run: Run, expressions: Sequence[str]) -> Values: ...


@dataclass(slots=True)
class Parts:
    """What a worker is put together from."""

    store: SnapshotStore
    reader: Reader
    outlet: Outlet
    resolver: Resolver
    effects: Effects
    evaluator: Evaluator
    token: Callable[[], str]
    clock: WorkerClock = field(default_factory=WorkerClock)


class Worker:
    """One member of the group of workers. `connect` gives it the group before the app starts."""

    def __init__(self, settings: Settings, name: str, parts: Parts) -> None:
        self.settings, self.name, self.parts = settings, name, parts
        self.engine = Engine(
            name,
            settings.workflow_partitions,
            self,
            remembers=not parts.store.remembers,
            trigger_topic=settings.topics.trigger,
            events_topic=settings.topics.events,
            limits=Limits(
                append_timeout_s=settings.workflow_append_timeout_s,
                record_bytes_max=settings.workflow_record_bytes_max,
                effects_max=settings.workflow_effects_max,
                held_max=settings.workflow_held_commands_max,
                depth_max=settings.workflow_json_depth_max,
                delay_max_s=settings.workflow_delay_max_s,
            ),
        )
        self.mismatches: dict[int, LogMismatch] = {}
        """partitions that are stopped because the log is not the one that the tables know"""
        self.store_waits: dict[int, str] = {}
        """partition → why it waits for the store"""
        self.skew_s = 0.0
        """broker's append time minus our clock, at the last event read that was fresh"""
        self.on_failure: Callable[[BaseException], None] = _raise
        """told of what nobody handled: the process has to end"""
        self._questions: list[tuple[int, str, Sequence[str]]] = []
        self._asking = False
        self._group: Group | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._alarm: asyncio.Handle | None = None
        self._alarm_at = 0.0
        self._cluster_id: str | None = None
        self._loop = asyncio.get_running_loop()

    def connect(self, group: Group) -> None:
        """A new app carries the membership."""
        self._group = group

    @property
    def group(self) -> Group:
        assert self._group is not None, "connect the worker to its group first"
        return self._group

    def start(self) -> None:
        """Begin to tick and to commit."""
        self._ring()
        self._spawn(self._commit_regularly())

    async def stop(self, grace_s: float) -> None:
        """Take no more commands, begin no more effects, let those that run end within the grace, and commit."""
        self.engine.draining = True
        self.group.pause([TP(self.settings.topics.trigger, number) for number in self.engine.partitions])
        await self.parts.effects.drain(grace_s)
        await self.parts.outlet.flush(REVOKE_COMMIT_S)
        await self._commit(REVOKE_COMMIT_S)

    def close(self) -> None:
        """End everything that still runs here."""
        if self._alarm is not None:
            self._alarm.cancel()
        for task in self._tasks:
            task.cancel()

    # ── BatchHandler ────────────────────────────────────────────────────────────────────────────

    async def assigned(self, assignment: frozenset[TP], generation: int) -> Assignment:
        """Take over what can be: folds that are in memory go on at once, the others load while their partitions are paused."""
        topics = self.settings.topics
        numbers = sorted(tp.partition for tp in assignment if tp.topic == topics.events)
        committed = await self._committed(assignment)
        offsets = {n: (committed[TP(topics.trigger, n)], committed[TP(topics.events, n)]) for n in numbers}
        log.info("generation %d: partitions %s", generation, numbers)
        self.mismatches.clear()
        self.store_waits.clear()
        self.parts.resolver.forget()
        self.engine.assign(offsets, self.parts.token(), self.parts.clock())
        positions: dict[TP, int] = {}
        paused: set[TP] = set()
        for number, (events, commands) in self.engine.positions().items():
            positions[TP(topics.trigger, number)] = commands
            if events is None:
                paused |= {TP(topics.events, number), TP(topics.trigger, number)}
            else:
                positions[TP(topics.events, number)] = events
        self.group.resume({tp for tp in assignment if tp not in paused})
        return Assignment(positions, frozenset(paused))

    async def _committed(self, assignment: frozenset[TP]) -> dict[TP, int]:
        """The group's offsets. One past its partition's end is of a log that was cut: it says nothing of what stands there
        now, so commands are taken again (repeats are found), and ends are announced again."""
        committed = await self._until_there(lambda: self.group.committed(assignment), "the group's offsets")
        ends = await self._until_there(lambda: self.parts.reader.end_offsets(assignment), "the ends of the partitions")
        found: dict[TP, int] = {}
        for tp in assignment:
            offset = committed.get(tp) or 0
            found[tp] = offset if offset <= ends[tp] else 0
            if offset > ends[tp]:
                log.error("%s/%d ends at %d, the group's offset is %d: read from its start", *tp, ends[tp], offset)
        return found

    async def revoked(self) -> None:
        offsets = self._safe_offsets()
        self.engine.revoke(self.parts.clock())
        await self._bounded(self.group.commit(offsets), REVOKE_COMMIT_S) if offsets else None

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        now = self.parts.clock()
        if tp.topic == self.settings.topics.events:
            self.engine.on_events(tp.partition, records, now)
            self._note_time(tp.partition, records[-1].timestamp / 1000, now)
        else:
            self.engine.on_commands(tp.partition, records, now)
        self._ring()

    # ── World: the log ──────────────────────────────────────────────────────────────────────────

    def append(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        self.parts.outlet.send(self.settings.topics.events, partition, records, _ignore)

    def announce(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        engine = self.engine
        self.parts.outlet.send(
            self.settings.topics.completed,
            partition,
            ((key, value),),
            lambda _o, error: engine.announced(partition, offset, error is None),
        )

    def reject(self, partition: int, offset: int, value: bytes | None, reason: str) -> None:
        log.warning("command %s/%d/%d is set aside: %s", self.settings.topics.trigger, partition, offset, reason)
        record = rejection(self.settings.topics.trigger, partition, offset, value, reason, self.parts.clock())
        self._pass_on(partition, offset, self.settings.topics.rejected, 0, f"{partition}/{offset}".encode(), record)

    def send_home(self, partition: int, offset: int, home: int, command: Command) -> None:
        self._pass_on(partition, offset, self.settings.topics.trigger, home, command.run_id.encode(), encode(command))

    def _pass_on(self, partition: int, offset: int, topic: str, to: int, key: bytes, value: bytes) -> None:
        token = self.engine.partitions[partition].token
        self.parts.outlet.send_until_acknowledged(
            topic, to, key, value, lambda: self.engine.passed_on(partition, offset, token)
        )

    def drop_producer(self) -> None:
        self.parts.outlet.replace()

    def lost_producer(self) -> None:
        """For the outlet: a send of its producer failed or is late."""
        self.engine.producer_lost(self.parts.clock())

    def seek(self, partition: int, events: int | None = None, commands: int | None = None) -> None:
        topics = self.settings.topics
        if events is not None:
            self.group.seek({TP(topics.events, partition): events})
        if commands is not None:
            self.group.seek({TP(topics.trigger, partition): commands})

    def pause(self, partition: int, paused: bool) -> None:
        tps = [TP(self.settings.topics.trigger, partition)]
        (self.group.pause if paused else self.group.resume)(tps)

    def confirm(self, partition: int, token: str) -> None:
        async def ask() -> None:
            await self.parts.outlet.ready()
            ours = await self.group.confirm(TP(self.settings.topics.events, partition))
            self.engine.confirmed(partition, token, ours, self.parts.clock())

        self._spawn(ask())

    def end_of(self, partition: int, token: str) -> None:
        async def ask() -> None:
            tp = TP(self.settings.topics.events, partition)
            part = self.engine.partitions.get(partition)
            read_to = part.rests_on + 1 if part is not None else 0  # now: reading goes on while the end is asked for
            end = (await self._until_there(lambda: self.parts.reader.end_offsets([tp]), "the log's end"))[tp]
            if read_to > end:  # what is in memory is no fold of this log; the next process begins with the store's
                reason = f"it ends at {end}, this worker has read up to {read_to}"
                raise LogMismatch(partition=partition, topic=tp.topic, reason=reason)
            self.engine.end_known(partition, token, end, self.parts.clock())

        self._spawn(ask())

    # ── World: the store ────────────────────────────────────────────────────────────────────────

    def load(self, partition: int, token: str) -> None:
        async def read() -> None:
            began = time.monotonic()
            snapshot = await self._from_store(partition, token, lambda: self.parts.store.snapshot(partition))
            while snapshot is not None and not await self._goes_on_from(partition, snapshot.mark):
                await asyncio.sleep(RECHECK_S)
                snapshot = await self._from_store(partition, token, lambda: self.parts.store.snapshot(partition))
            if snapshot is None:
                return
            self.engine.loaded(partition, token, snapshot)
            part = self.engine.partitions.get(partition)
            if part is not None and part.token == token:
                topics = self.settings.topics
                self.group.resume(
                    [TP(topics.events, partition), *([] if part.paused else [TP(topics.trigger, partition)])]
                )
                log.info(
                    "partition %d: %d unfinished runs loaded in %.2f s",
                    partition,
                    len(snapshot.runs),
                    time.monotonic() - began,
                )

        self._spawn(read())

    def look_up(self, partition: int, token: str, run_ids: Sequence[str]) -> None:
        """Asked together with what other partitions ask meanwhile: one question to the store at a time."""
        self._questions.append((partition, token, run_ids))
        if not self._asking:
            self._asking = True
            self._spawn(self._answer_questions())

    async def _answer_questions(self) -> None:
        while self._questions:
            questions, self._questions = self._questions, []
            wanted: dict[int, list[str]] = {}
            for partition, _, run_ids in questions:
                wanted.setdefault(partition, []).extend(run_ids)
            try:
                answers = await self.parts.store.tips_of(wanted)
            except StoreAway as away:
                self._note_waiting(wanted, away)
                self._questions = [q for q in questions if self._is_current(q[0], q[1])] + self._questions
                await asyncio.sleep(RETRY_S)
                continue
            for partition, token, run_ids in questions:
                self.store_waits.pop(partition, None)
                self.engine.looked_up(partition, token, run_ids, *answers[partition], self.parts.clock())
            self._ring()
        self._asking = False

    async def _from_store(self, partition: int, token: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """Ask until the store answers; None when the partition was given away meanwhile."""
        while self._is_current(partition, token):
            try:
                answer = await ask()
            except StoreAway as away:
                self._note_waiting([partition], away)
                await asyncio.sleep(RETRY_S)
                continue
            self.store_waits.pop(partition, None)
            return answer
        return None

    def _is_current(self, partition: int, token: str) -> bool:
        part = self.engine.partitions.get(partition)
        return part is not None and part.assigned and part.token == token

    def _note_waiting(self, partitions: Iterable[int], away: StoreAway) -> None:
        for partition in partitions:
            if partition not in self.store_waits:
                log.warning("partition %d waits for the store: %s", partition, away)
            self.store_waits[partition] = away.message

    async def _goes_on_from(self, partition: int, mark: Mark | None) -> bool:
        """Whether the log is the one that the tables were made from; if not, the partition stands still and /ready says so."""
        tp = TP(self.settings.topics.events, partition)
        reason = await self._until_there(lambda: self._difference(tp, mark), "the log") if mark is not None else None
        if reason is None:
            self.mismatches.pop(partition, None)
            return True
        error = LogMismatch(partition=partition, topic=tp.topic, reason=reason)
        if partition not in self.mismatches:
            log.error("%s", error)
        self.mismatches[partition] = error
        return False

    async def _difference(self, tp: TP, mark: Mark) -> str | None:
        self._cluster_id = self._cluster_id or await self.parts.reader.cluster_id()
        return await log_check.difference(self.parts.reader, tp, mark, self._cluster_id)

    # ── World: definitions, expressions, effects ────────────────────────────────────────────────

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        return self.parts.resolver.resolve(partition, offset, command)

    def evaluate(self, run: Run, expressions: Sequence[str]) -> Values | None:
        values = self.parts.evaluator.now(run, expressions)
        if values is None:

            async def ask() -> None:
                found = await self.parts.evaluator.later(run, expressions)
                self.engine.evaluated(run.id, run.pc, found, self.parts.clock())
                self._ring()

            self._spawn(ask())
        return values

    def start_effect(self, run: Run, epoch: int) -> None:  # noqa: ARG002 - of interest to tests
        run_id, pc, attempt = run.id, run.pc, run.attempt

        def done(result: EffectResult) -> None:
            self.engine.effect_ended(run_id, pc, attempt, result, self.parts.clock())
            self._ring()

        self.parts.effects.start(run, effect_input(run), done)

    def cancel_effect(self, run_id: str) -> None:
        self.parts.effects.cancel(run_id)

    # ── time and offsets ────────────────────────────────────────────────────────────────────────

    def _tick(self) -> None:
        self._alarm = None
        self.engine.tick(self.parts.clock())
        self._ring()

    def _ring(self) -> None:
        """Wake for the next due time, and a few times a second in any case: due times go by the wall clock."""
        due = self.engine.next_due()
        wait_s = TICK_S if due is None else min(TICK_S, max(0.0, due - self.parts.clock()))
        at = self._loop.time() + wait_s
        if self._alarm is not None:
            if self._alarm_at <= at + 0.001:
                return
            self._alarm.cancel()
        self._alarm, self._alarm_at = self._loop.call_at(at, self._tick), at

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self._commit(None)

    async def _commit(self, bound_s: float | None) -> None:
        offsets = self._safe_offsets()
        if offsets:
            await self._bounded(self.group.commit(offsets), bound_s)

    def _safe_offsets(self) -> dict[TP, int]:
        topics, offsets = self.settings.topics, dict[TP, int]()
        for number, part in self.engine.partitions.items():
            if part.owner:
                offsets[TP(topics.trigger, number)] = part.safe_commands()
                offsets[TP(topics.events, number)] = part.safe_events()
        return offsets

    async def _bounded(self, work: Awaitable[Any], bound_s: float | None) -> None:
        try:
            await asyncio.wait_for(work, bound_s)
        except TimeoutError:
            log.warning(
                "the offsets were not committed within %s s; what was done since is done again, without effect", bound_s
            )

    async def _until_there(self, ask: Callable[[], Awaitable[T]], what: str) -> T:
        """Ask until the broker answers."""
        while True:
            try:
                return await ask()
            except BrokerAway as away:
                log.warning("waiting for %s: %s", what, away)
                await asyncio.sleep(RETRY_S)

    def _note_time(self, partition: int, appended_s: float, now: float) -> None:
        """How far the clocks are apart at the most: an event read late looks like a clock that is ahead."""
        part = self.engine.partitions.get(partition)
        if part is not None and part.owner:  # what an owner reads was written a moment ago, by itself
            self.parts.clock.heard(appended_s)
        skew_s = appended_s - now
        self.skew_s = skew_s if skew_s > 0 else max(skew_s, self.skew_s * 0.9) if self.skew_s < 0 else skew_s

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a task of the worker failed; the process ends", exc_info=error)
            self.on_failure(error)


def _ignore(_offset: int | None, _error: Exception | None) -> None:
    """An append is settled by being read back; that it failed is told by the producer's loss."""


def _raise(error: BaseException) -> None:
    raise error
