"""Builds of the engine that leave the protocol in one place each, and by that break a promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from schemas import rule
from schemas.events import Envelope
from schemas.run import Run
from schemas.store import Snapshot, Tip
from streams import decider, engine, intake, log_check
from streams.engine import Engine
from streams.partition import Held, Partition
from streams.ports import Record

Mutant = Callable[[pytest.MonkeyPatch], None]


def after(patch: pytest.MonkeyPatch, owner: type, name: str, then: Callable[..., object]) -> None:
    """Let something more happen after each call of a method."""
    original = getattr(owner, name)

    def patched(self: Any, *args: Any) -> Any:
        result = original(self, *args)
        then(self, *args)
        return result

    patch.setattr(owner, name, patched)


def no_epoch_check(patch: pytest.MonkeyPatch) -> None:
    """A run event is a fact whatever its epoch."""
    judged = rule.orphaned

    def orphaned(envelope: Envelope, epoch: int, seq: int, tip: str | None, done: bool) -> rule.Orphan | None:
        return judged({**envelope, "epoch": epoch}, epoch, seq, tip, done)

    patch.setattr(rule, "orphaned", orphaned)


def no_chain_check(patch: pytest.MonkeyPatch) -> None:
    """A run event is a fact whatever it extends."""
    judged = rule.orphaned

    def orphaned(envelope: Envelope, epoch: int, seq: int, tip: str | None, done: bool) -> rule.Orphan | None:
        return judged({**envelope, "seq": seq + 1, "prev": tip}, epoch, seq, tip, done)

    patch.setattr(rule, "orphaned", orphaned)


def no_look_up(patch: pytest.MonkeyPatch) -> None:
    """A start whose run is not in memory is new."""

    def done(engine: Engine, part: Partition, held: Held, now: float, unknown: list[str]) -> bool:
        held.answer = 10**9
        return original(engine, part, held, now, unknown)

    original = intake._done
    patch.setattr(intake, "_done", done)


def any_no_counts(patch: pytest.MonkeyPatch) -> None:
    """A look-up's no counts wherever the store stands."""
    original = intake.answered

    def answered(
        engine: Engine, part: Partition, run_ids: Sequence[str], position: int, tips: Mapping[str, Tip], now: float
    ) -> None:
        original(engine, part, run_ids, 10**9, tips, now)

    patch.setattr(intake, "answered", answered)


def snapshot_does_not_count(patch: pytest.MonkeyPatch) -> None:
    """A look-up's no counts from a store below the snapshot that was loaded."""
    after(patch, Partition, "load", lambda part, _: setattr(part, "mark", 0))


def start_when_sent(patch: pytest.MonkeyPatch) -> None:
    """An effect starts with its append, before that was read back."""
    original = Engine.write

    def write(self: Engine, part: Partition, run: Run, *args: Any, **kwargs: Any) -> bool:
        before = len(self._outbox)
        done = original(self, part, run, *args, **kwargs)
        ahead = part.runs.get(run.id, run).clone()
        for _, value in self._outbox[before:]:
            ahead.phase = "ready" if b'"StepStarted"' not in value else "started"
        if len(self._outbox) > before and ahead.phase == "started" and ahead.plan.steps and ahead.until is None:
            ahead.attempt += 1
            self.running[run.id] = (ahead.pc, ahead.attempt)
            self.world.start_effect(ahead, part.mine)
        return done

    patch.setattr(Engine, "write", write)


def commit_when_sent(patch: pytest.MonkeyPatch) -> None:
    """A command counts as settled when its first event was sent."""

    def safe_commands(self: Partition) -> int:
        open_ = [at for at, held in self.held.items() if held.command is None or held.command.run_id not in self.out]
        return min(open_, default=self.taken)

    patch.setattr(Partition, "safe_commands", safe_commands)


def commit_without_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    """The offset of the events is the position."""
    patch.setattr(Partition, "safe_events", lambda self: self.position)


def ends_of_the_owner_only(patch: pytest.MonkeyPatch) -> None:
    """An end that is folded by a worker that does not own the partition is forgotten."""

    def forget(part: Partition, _: Run, offset: int, value: bytes) -> None:
        if not part.owner:
            part.ends.pop(offset, None)

    after(patch, Partition, "_ended", forget)


def ends_not_kept(patch: pytest.MonkeyPatch) -> None:
    """Ends not announced are dropped when the partition leaves."""
    after(patch, Partition, "release", lambda part: part.ends.clear())


def start_at_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    """A new owner does not read from the events' offset when that is lower than its snapshot."""
    after(patch, Partition, "load", lambda part, _: setattr(part, "position", part.base))


def old_ends_by_an_old_store(patch: pytest.MonkeyPatch) -> None:
    """Whether an end below the snapshot is a fact is asked of any store."""
    original = Engine._judge_old_ends

    def judge(self: Engine, part: Partition, position: int, tips: Mapping[str, Tip], asked: Sequence[str]) -> None:
        original(self, part, 10**9, tips, asked)

    patch.setattr(Engine, "_judge_old_ends", judge)


def own_by_epoch(patch: pytest.MonkeyPatch) -> None:
    """A PartitionTaken is one's own if it has the epoch that was asked for."""
    original = Partition._taken

    def taken(self: Partition, envelope: Envelope) -> bool:
        mine = self.asked is not None and self.asked.epoch == envelope["epoch"]
        data = {"worker": "", "token": self.token if mine else ""}
        return original(self, {**envelope, "data": data})

    patch.setattr(Partition, "_taken", taken)


def token_is_a_name(patch: pytest.MonkeyPatch) -> None:
    """The token of an assignment is the worker's name: what an earlier assignment or process asked for counts as well."""
    original = Engine.assign
    patch.setattr(Engine, "assign", lambda self, offsets, _, now: original(self, offsets, self.worker, now))


def same_attempt(patch: pytest.MonkeyPatch) -> None:
    """An interrupted attempt starts again under its number."""
    original = decider._next_attempt

    def next_attempt(run: Run, now: float, config: dict[str, Any] | None = None) -> decider.Draft:
        type_, data = original(run, now, config)
        return type_, {**data, "attempt": data["attempt"] - (run.interruptions > 0)}

    patch.setattr(decider, "_next_attempt", next_attempt)


def retaken_under_the_same_epoch(patch: pytest.MonkeyPatch) -> None:
    """After an unknown append everything is decided again without a new epoch."""

    def producer_lost(self: Engine, now: float) -> None:
        self.world.drop_producer()
        for part in self.partitions.values():
            if part.owner:
                part.check = part.checking = None
                part.out.clear()
                self._acquired(part, now)
                self._flush(part)
            else:
                part.disown()
                self._take(part, now)

    patch.setattr(Engine, "producer_lost", producer_lost)


def held_dropped(patch: pytest.MonkeyPatch) -> None:
    """What waited is not decided again when the partition was taken anew."""
    original = Engine._acquired

    def acquired(self: Engine, part: Partition, now: float) -> None:
        part.held = {at: held for at, held in part.held.items() if held.command is None}
        part.by_run.clear()
        original(self, part, now)

    patch.setattr(Engine, "_acquired", acquired)


def never_unknown(patch: pytest.MonkeyPatch) -> None:
    """An append that is not read back is waited for."""
    patch.setattr(engine, "_waits_since", lambda *_: False)


def loaded_at_two_moments(patch: pytest.MonkeyPatch) -> None:
    """The snapshot's position was read before its rows."""

    def earlier(part: Partition, _: Snapshot) -> None:
        part.base = part.mark = max(0, part.base - 1)
        part.position = min(part.base, part.announced)

    after(patch, Partition, "load", earlier)


def gaps_are_passed_over(patch: pytest.MonkeyPatch) -> None:
    """A batch is folded from wherever it starts."""
    original = Engine.on_events

    def on_events(self: Engine, number: int, records: Sequence[Any], now: float) -> None:
        part = self.partitions.get(number)
        if part is not None and part.loaded and records and records[0].offset > part.position:
            part.position = records[0].offset
        original(self, number, records, now)

    patch.setattr(Engine, "on_events", on_events)


def clocks_never_go_back(patch: pytest.MonkeyPatch) -> None:
    """What was sent waits until the clock by which it was sent has caught up."""
    patch.setattr(Partition, "set_back", lambda *_: None)


def kept_folds_are_trusted(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the record that a fold rests on still stands in the log."""

    def meet(self: Partition, _: Record) -> bool:
        self.seen = True
        return True

    patch.setattr(Partition, "meet", meet)


def tables_are_trusted(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the log is the one that the tables were made from."""

    async def difference(*_: object) -> None:
        return None

    patch.setattr(log_check, "difference", difference)
    kept_folds_are_trusted(patch)
