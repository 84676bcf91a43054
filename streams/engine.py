"""The engine: fold → decide → append, for the partitions that this worker has.

Plain Python that knows neither Faust nor Kafka. It is handed assignments, batches, answers and the time, and acts through
its port (`streams.ports.World`); so the same object runs on the real log and on a simulated one. Its rules:
the state changes only by folding what was read back from the log; a step starts only after its own `StepStarted` was read
back as a fact; one append per run is outstanding at a time; whatever may have been lost is decided again under a new epoch.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from schemas.commands import CancelRun
from schemas.durations import DURATION_MAX_S
from schemas.effects import EffectResult
from schemas.errors import LogMismatch
from schemas.events import encode, encode_taken, partition_subject, time_text
from schemas.identity import digest, home
from schemas.run import Run, evolve
from schemas.store import Snapshot, Tip
from streams import intake
from streams.decider import AttemptEnded, AttemptLost, Draft, Input, Needs, TimerFired, advance, decide, due
from streams.partition import Ask, End, Outstanding, Partition
from streams.ports import Record, World
from streams.sizes import fits, smaller

log = logging.getLogger(__name__)

RETRY_S: Final = 0.5
POLL_STORE_S: Final = 0.5
OLD_ENDS_ASKED_MAX: Final = 5_000
"""How many ends below the snapshot the store is asked about at once."""
TIMERS_SLACK: Final = 1_000
"""Timers that nobody waits for any more, beside those that count, before they are swept out."""
KEEP_FOLD_S: Final = 600.0
"""How long the fold of a partition that went elsewhere stays in memory."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the engine; seconds, bytes, numbers."""

    append_timeout_s: float = 10.0
    record_bytes_max: int = 1_000_000
    effects_max: int = 500
    held_max: int = 10_000
    depth_max: int = 32
    delay_max_s: float = DURATION_MAX_S


class Engine:
    """All partitions of one worker. Every method takes `now`, seconds since 1970, where time matters."""

    def __init__(
        self,
        worker: str,
        partitions: int,
        world: World,
        *,
        remembers: bool,
        trigger_topic: str = "workflow.trigger",
        events_topic: str = "workflow.events",
        limits: Limits | None = None,
    ) -> None:
        self.worker, self.count, self.world = worker, partitions, world
        self.remembers, self.trigger_topic, self.events_topic = remembers, trigger_topic, events_topic
        self.limits = limits or Limits()
        self.partitions: dict[int, Partition] = {}
        self.running: dict[str, tuple[int, int]] = {}
        """run id → (step index, attempt) of the effect that runs in this process"""
        self.results: dict[str, tuple[int, int, EffectResult]] = {}
        """results that no fact has settled yet"""
        self.values: dict[str, tuple[int, Mapping[str, Any] | None]] = {}
        """run id → (step index, values of its expressions, None while they are being worked out)"""
        self.timers: list[tuple[float, str]] = []
        self.armed: dict[str, float] = {}
        self.stats: Counter[str] = Counter()
        self.draining = False
        """this worker is about to leave: what runs may end, no further effect is begun"""
        self._outbox: list[tuple[bytes, bytes]] = []
        self._polled_at = 0.0

    # ── assignment ──────────────────────────────────────────────────────────────────────────────

    def assign(self, offsets: Mapping[int, tuple[int, int]], token: str, now: float) -> None:
        """The group gave us these partitions: number → committed offsets (commands, events). `token` is random, new each time."""
        self.revoke(now)
        for number, (commands, announced) in offsets.items():
            part = self.partitions.setdefault(number, Partition(number, self.count))
            part.assign(token, commands, announced)
            self.world.end_of(number, token)
            if not part.loaded:
                self.world.load(number, token)

    def revoke(self, now: float) -> None:
        """Stop deciding everywhere. Folds and running effects stay: a partition may come back."""
        for part in self.partitions.values():
            if part.assigned:
                part.release()
                part.idle_since = now

    def loaded(self, number: int, token: str, snapshot: Snapshot) -> None:
        """The snapshot of a partition that had no fold."""
        part = self._current(number, token)
        if part is not None and not part.loaded:
            part.load(snapshot)
            self.world.seek(number, events=part.reads_from)

    def end_known(self, number: int, token: str, end: int, now: float) -> None:
        """The end of the partition of the log, read after it was asked for."""
        part = self._current(number, token)
        if part is None:
            return
        if part.end is None:
            part.end = end
        if part.checking is not None:
            part.check, part.checking = (end, part.checking), None
        self._settle_unknown(part, now)
        self._take(part, now)

    def confirmed(self, number: int, token: str, ours: bool, now: float) -> None:
        """The group's word on whether the partition is still ours."""
        part = self._current(number, token)
        if part is None or part.confirming is None:
            return
        counted_from, part.confirming = part.confirming, None
        if not ours:
            part.refused_at = now
        elif counted_from != part.epoch:
            self._take(part, now)
        elif not part.owner and part.asked is None and part.seen:
            part.asked = Ask(part.epoch + 1, now)
            value = encode_taken(number, part.epoch + 1, self.worker, token, time_text(now))
            self.world.append(number, [(partition_subject(number).encode(), value)])

    def producer_lost(self, now: float) -> None:
        """An append may or may not have landed. What was outstanding is decided again, under a new epoch."""
        self.stats["producers_lost"] += 1
        self.world.drop_producer()
        for part in self.partitions.values():
            if part.assigned and part.loaded:
                self._look_again(part)
            if part.out or part.asked is not None:
                part.disown()
                self._take(part, now)

    def _look_again(self, part: Partition) -> None:
        """A broker that failed may have lost the log's end: read on at the record that the fold rests on."""
        part.seen = part.rests_on < 0
        self.world.seek(part.number, events=part.reads_from)

    def positions(self) -> dict[int, tuple[int | None, int]]:
        """Where reading goes on for each partition that we have: (events or None while it loads, commands)."""
        return {
            number: (part.reads_from if part.loaded else None, part.taken)
            for number, part in self.partitions.items()
            if part.assigned
        }

    def _current(self, number: int, token: str) -> Partition | None:
        part = self.partitions.get(number)
        return part if part is not None and part.assigned and part.token == token else None

    def _take(self, part: Partition, now: float) -> None:
        """Ask for the partition once it is read to its end: first the group's word, then the log's."""
        if not part.assigned or not part.loaded or part.owner or part.asked is not None or part.confirming is not None:
            return
        if not part.seen or part.end is None or part.position < part.end or now < part.refused_at + RETRY_S:
            return
        part.confirming = part.epoch
        self.world.confirm(part.number, part.token)

    def _acquired(self, part: Partition, now: float) -> None:
        """The partition is ours and all before is folded: every unfinished run goes on, every held command is looked at."""
        self.stats["takeovers"] += 1
        for run in list(part.runs.values()):
            self.act(part, run, now)
        part.waiting.clear()
        for held in part.held.values():
            held.looking, held.answer = False, -1
        self._announce(part)
        intake.queue(self, part, part.held.values(), now)

    # ── the log ─────────────────────────────────────────────────────────────────────────────────

    def on_events(self, number: int, records: Sequence[Record], now: float) -> None:
        """A batch of the partition of the log. What stands past the position is asked for again: the topic has no holes.
        Raises LogMismatch when the record that the fold rests on is another one now."""
        part = self.partitions.get(number)
        if part is None or not part.assigned or not part.loaded or not records:
            return
        touched: dict[str, Run] = {}
        acquired = False
        for record in records:
            if record.offset > (part.position if part.seen else part.reads_from):
                self.stats["gaps"] += 1
                self.world.seek(number, events=part.reads_from)
                break
            if not part.seen and record.offset == part.rests_on and not part.meet(record):
                reason = f"the record at {record.offset} is not the one that this worker knows"
                raise LogMismatch(partition=number, topic=self.events_topic, reason=reason)
            if record.offset == part.position:
                acquired = part.fold(record, touched) or acquired
        self._clean(part, touched)
        if acquired and part.owner:
            self._acquired(part, now)
        elif part.owner:
            for run in touched.values():
                self.act(part, run, now)
            self._announce(part)
        self._flush(part)
        self._settle_unknown(part, now)
        self._take(part, now)

    def _clean(self, part: Partition, touched: Mapping[str, Run]) -> None:
        """What the new facts settle: outstanding appends, commands, results and effects of closed attempts."""
        for run_id, run in touched.items():
            out = part.out.get(run_id)
            if out is not None and run.seq >= out.seq:
                del part.out[run_id]
            if run_id in part.by_run:
                intake.settle(part, run)
            if run.phase == "done":
                self.armed.pop(run_id, None)
            if run_id in self.values and (run.phase == "done" or self.values[run_id][0] != run.pc):
                del self.values[run_id]
            if run_id in self.results and not _open(run, *self.results[run_id][:2]):
                del self.results[run_id]
            if run_id in self.running and not _open(run, *self.running[run_id]):
                del self.running[run_id]
                self.world.cancel_effect(run_id)

    def act(self, part: Partition, run: Run, now: float) -> None:
        """Whatever a run needs next, from its state and from what runs or ended in this process."""
        if run.id in part.out or run.phase == "done" or run.set_aside is not None:
            return
        cancel = part.cancel_of(run.id) if part.by_run else None
        if cancel is not None and isinstance(cancel.command, CancelRun):
            self.write(
                part,
                run,
                cancel.command,
                now,
                cause=f"{self.trigger_topic}/{part.number}/{cancel.offset}",
                actor=cancel.command.actor,
            )
            return
        given: Input | None = None
        if run.phase == "started":
            given = self._given(part, run, now)
            if given is None:
                return
        elif run.phase == "retrying" and not self._is_due(run, now):
            return
        self.write(part, run, given, now)

    def _given(self, part: Partition, run: Run, now: float) -> Input | None:
        """What has come of an open attempt: None while it goes on."""
        if run.until is not None:
            return TimerFired() if self._is_due(run, now) else None
        result = self.results.get(run.id)
        if result is not None and _open(run, *result[:2]):
            return AttemptEnded(result[1], result[2])
        if run.id in self.running and _open(run, *self.running[run.id]):
            return None
        if run.open_epoch != part.mine:
            return AttemptLost()
        self.running[run.id] = (run.pc, run.attempt)
        self.world.start_effect(run, part.mine)
        return None

    def _is_due(self, run: Run, now: float) -> bool:
        """Whether the run's due time has come; arms its timer when not. One that is no time sets the run aside."""
        try:
            at = due(run)
        except (ValueError, TypeError, OverflowError) as error:
            self._set_aside(run, error)
            return False
        if at is None or at <= now:
            self.armed.pop(run.id, None)
            return True
        if self.armed.get(run.id) != at:
            self.armed[run.id] = at
            heapq.heappush(self.timers, (at, run.id))
        return False

    def _set_aside(self, run: Run, error: Exception) -> None:
        log.error("run %s cannot be decided and is set aside", run.id, exc_info=error)
        run.set_aside = f"it cannot be decided: {type(error).__name__} {error}"
        self.stats["set_aside"] += 1

    def write(
        self,
        part: Partition,
        run: Run,
        given: Input | None,
        now: float,
        *,
        cause: str | None = None,
        actor: str | None = None,
    ) -> bool:
        """Decide on a run, then go on by itself until it waits for the log; all of it one append. False when nothing came of it."""
        ahead, key, values = run.clone(), run.id.encode(), list[bytes]()
        time = time_text(now)
        try:
            drafts = decide(ahead, given, now) if given is not None else self._advance(ahead, now)
            while drafts and not (self.draining and _begins_effect(drafts[0])):
                for draft in drafts:
                    values.append(self._stamp(part, ahead, draft, key, time, cause, actor))
                drafts = self._advance(ahead, now)
        except Exception as error:  # noqa: BLE001 - a poisoned run is set aside, never the partition
            self._set_aside(run, error)
            return False
        if not values:
            return False
        part.out[run.id] = Outstanding(ahead.seq, now)
        self._outbox.extend((key, value) for value in values)
        return True

    def _advance(self, run: Run, now: float) -> tuple[Draft, ...]:
        drafts = advance(run, now)
        if not isinstance(drafts, Needs):
            return drafts
        known = self.values.get(run.id)
        values = known[1] if known is not None and known[0] == run.pc else None
        if values is None and (known is None or known[0] != run.pc):
            values = self.world.evaluate(run, drafts.expressions)
            self.values[run.id] = (run.pc, values)
        if values is None:
            return ()
        drafts = advance(run, now, values, delay_max_s=self.limits.delay_max_s)
        assert not isinstance(drafts, Needs), "asked for values that were given"
        return drafts

    def _stamp(
        self, part: Partition, ahead: Run, draft: Draft, key: bytes, time: str, cause: str | None, actor: str | None
    ) -> bytes:
        """The record of a draft, chained to the run's tip; `ahead` is evolved by it."""
        for _ in range(3):
            value = encode(
                draft[0],
                ahead.id,
                draft[1],
                time=time,
                epoch=part.mine,
                seq=ahead.seq + 1,
                prev=ahead.tip,
                cause=cause,
                actor=actor,
            )
            if fits(value, key, self.limits.record_bytes_max):
                break
            self.stats["too_large"] += 1
            draft = smaller(draft, self.limits.record_bytes_max)
        else:
            raise ValueError(f"{draft[0]} does not fit a record of {self.limits.record_bytes_max} bytes")
        evolve(ahead, draft[0], draft[1], time, part.mine)
        ahead.seq, ahead.tip = ahead.seq + 1, digest(value)
        return value

    def _flush(self, part: Partition) -> None:
        """Hand what was decided to the producer, in order."""
        if self._outbox:
            batch, self._outbox = self._outbox, []
            self.stats["appended"] += len(batch)
            self.world.append(part.number, batch)

    def _settle_unknown(self, part: Partition, now: float) -> None:
        """Appends that the fold has not met although it passed an end of the log read long after they were sent are unknown."""
        if part.check is None or part.position < part.check[0]:
            return
        sent_before, part.check = part.check[1], None
        old = any(out.sent_at <= sent_before for out in part.out.values())
        if old or (part.asked is not None and part.asked.sent_at <= sent_before):
            self.stats["unknown_appends"] += 1
            self.producer_lost(now)

    # ── ends ────────────────────────────────────────────────────────────────────────────────────

    def _announce(self, part: Partition) -> None:
        for offset, end in part.ends.items():
            if not end.sent:
                end.sent = True
                self.world.announce(part.number, offset, end.run_id.encode(), end.value)

    def announced(self, number: int, offset: int, acknowledged: bool) -> None:
        """The broker has the announcement of the end at `offset`, or may not have it: then it is made again."""
        part = self.partitions.get(number)
        end = part.ends.get(offset) if part is not None else None
        if part is None or end is None:
            return
        if acknowledged:
            del part.ends[offset]
        else:
            end.sent = False

    def _judge_old_ends(self, part: Partition, position: int, tips: Mapping[str, Tip], asked: Collection[str]) -> None:
        """Ends below the snapshot: facts are those whose digest is the last one of their run, by a store that stands above them."""
        for offset, (run_id, last, value) in list(part.unjudged.items()):
            if run_id in asked and position > offset:
                del part.unjudged[offset]
                tip = tips.get(run_id)
                if tip is not None and tip.digest == last:
                    part.ends[offset] = End(run_id, value)
        if part.owner:
            self._announce(part)

    # ── answers ─────────────────────────────────────────────────────────────────────────────────

    def looked_up(
        self, number: int, token: str, run_ids: Sequence[str], position: int, tips: Mapping[str, Tip], now: float
    ) -> None:
        """The store's answer for these runs."""
        part = self._current(number, token)
        if part is None:
            return
        part.polling = False
        part.forget(position)
        self._judge_old_ends(part, position, tips, frozenset(run_ids))
        intake.answered(self, part, run_ids, position, tips, now)
        self._flush(part)

    def on_commands(self, number: int, records: Sequence[Record], now: float) -> None:
        """A batch of the partition of the commands; it may have holes."""
        part = self.partitions.get(number)
        if part is not None and part.assigned and records:
            intake.take(self, part, records, now)
            self._flush(part)

    def passed_on(self, number: int, offset: int, token: str) -> None:
        """A command that was refused or sent home stands where it belongs, acknowledged."""
        part = self._current(number, token)
        if part is not None:
            part.settle(offset)

    def evaluated(self, run_id: str, pc: int, values: Mapping[str, Any], now: float) -> None:
        """Values that `World.evaluate` did not have at once."""
        if run_id in self.values and self.values[run_id][0] == pc:
            self.values[run_id] = (pc, values)
            self._touch(run_id, now)

    def effect_ended(self, run_id: str, pc: int, attempt: int, result: EffectResult, now: float) -> None:
        """An effect has its result; it counts if its attempt is still open in the fold."""
        if self.running.get(run_id) != (pc, attempt):
            return
        del self.running[run_id]
        self.results[run_id] = (pc, attempt, result)
        self._touch(run_id, now)

    def _touch(self, run_id: str, now: float) -> None:
        part = self.partitions.get(home(run_id, self.count))
        run = part.runs.get(run_id) if part is not None else None
        if part is not None and run is not None and part.owner:
            self.act(part, run, now)
            self._flush(part)

    # ── time ────────────────────────────────────────────────────────────────────────────────────

    def next_due(self) -> float | None:
        """When the next timer is due."""
        return self.timers[0][0] if self.timers else None

    def tick(self, now: float) -> None:
        """Fire what is due and look after what waits; called at every due time and a few times a second."""
        while self.timers and self.timers[0][0] <= now:
            at, run_id = heapq.heappop(self.timers)
            if self.armed.get(run_id) == at:
                del self.armed[run_id]
                self._touch(run_id, now)
        if len(self.timers) > 2 * len(self.armed) + TIMERS_SLACK:
            self.timers = [(at, run_id) for run_id, at in self.armed.items()]
            heapq.heapify(self.timers)
        poll = not 0 <= now - self._polled_at < POLL_STORE_S
        if poll:
            self._polled_at = now
        for part in list(self.partitions.values()):
            if part.assigned:
                self._tend(part, now, poll)
            elif part.idle_since is not None and now - part.idle_since > KEEP_FOLD_S:
                self._drop_fold(part)

    def _tend(self, part: Partition, now: float, poll: bool) -> None:
        part.set_back(now)
        late = now - self.limits.append_timeout_s
        if part.check is None and part.checking is None and _waits_since(part, late):
            part.checking = late
            self.world.end_of(part.number, part.token)
        curious = part.owner and not self.remembers and not part.polling
        if poll and curious and (part.finished or part.unjudged):
            part.polling = True
            old_ends = islice(part.unjudged.values(), OLD_ENDS_ASKED_MAX)
            self.world.look_up(part.number, part.token, [run_id for run_id, _, _ in old_ends])
        if part.owner:
            self._announce(part)
            if part.waiting:
                intake.process(self, part, now)
        intake.balance(self, part)
        self._flush(part)
        self._take(part, now)

    def _drop_fold(self, part: Partition) -> None:
        """The partition lives elsewhere for good: its memory is given back. Its effects are dropped with it."""
        del self.partitions[part.number]
        for run_id in [run_id for run_id in self.running if home(run_id, self.count) == part.number]:
            del self.running[run_id]
            self.world.cancel_effect(run_id)
        for known in (self.results, self.values, self.armed):
            for run_id in [run_id for run_id in known if home(run_id, self.count) == part.number]:
                del known[run_id]

    @property
    def effects_full(self) -> bool:
        """Whether new starts should wait until effects have ended."""
        return len(self.running) >= self.limits.effects_max


def _begins_effect(draft: Draft) -> bool:
    """Whether something will be carried out once this is read back; delays need nobody."""
    return draft[0] == "StepStarted" and "until" not in draft[1]


def _open(run: Run, pc: int, attempt: int) -> bool:
    """Whether this attempt is the run's open one."""
    return run.phase == "started" and run.pc == pc and run.attempt == attempt


def _waits_since(part: Partition, late: float) -> bool:
    if part.asked is not None and part.asked.sent_at <= late:
        return True
    oldest = next(iter(part.out.values()), None)
    return oldest is not None and oldest.sent_at <= late
