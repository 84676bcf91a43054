"""One partition as its worker knows it: the fold up to a position, and what it holds while it owns it."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from schemas import rule
from schemas.commands import CancelRun, Command
from schemas.events import RUN_COMPLETED, Envelope, decode
from schemas.identity import digest
from schemas.run import Run, extend
from schemas.store import Snapshot
from streams.ports import Record


@dataclass(slots=True)
class Held:
    """A command that is not settled yet; `command` None: it is only on its way elsewhere (home, or set aside).

    `answer`: store position of the look-up that said no, -1 before it came.
    """

    offset: int
    command: Command | None
    looking: bool = False
    answer: int = -1


@dataclass(slots=True)
class End:
    """The end of a run that the broker has not acknowledged on `workflow.completed`."""

    run_id: str
    value: bytes
    sent: bool = False


@dataclass(slots=True)
class Ask:
    """A `PartitionTaken` that was sent."""

    epoch: int
    sent_at: float


@dataclass(slots=True)
class Outstanding:
    """An append of a run that was not read back: the run's `seq` once it is."""

    seq: int
    sent_at: float


NOT_LOADED: Final = -1


@dataclass(slots=True)
class Partition:
    """Fold, ownership and held commands of one partition. The fold survives revocation; the rest does not."""

    number: int
    partitions: int
    # the fold
    position: int = NOT_LOADED
    base: int = 0
    """position of the snapshot: below it nothing is folded"""
    base_digest: str | None = None
    """of the record before it"""
    last: bytes | None = None
    """value of the record before the position, None until one was read"""
    epoch: int = 0
    runs: dict[str, Run] = field(default_factory=dict)
    finished: dict[str, tuple[int, str, int]] = field(default_factory=dict)
    """run id → (seq, last digest, offset after the end) of runs that the store may not cover yet"""
    finish_order: deque[tuple[int, str]] = field(default_factory=deque)
    ends: dict[int, End] = field(default_factory=dict)
    announced: int = 0
    """the group's offset on the events: every end below it was announced"""
    unjudged: dict[int, tuple[str, str, bytes]] = field(default_factory=dict)
    """offset → (run id, digest, value) of ends below the snapshot, until the store says whether they are facts"""
    mark: int = 0
    """a look-up's no counts only from a store that stands here or above"""
    orphans: Counter[str] = field(default_factory=Counter)
    # the assignment
    assigned: bool = False
    token: str = ""
    seen: bool = False
    """the record that the fold rests on was met in the log again, since the assignment or the loss of a producer"""
    end: int | None = None
    """the log's end as it was after the assignment: to be read before asking"""
    mine: int = 0
    """the epoch that we own, 0 for none"""
    asked: Ask | None = None
    confirming: int | None = None
    """the epoch from which a confirmation is being asked"""
    refused_at: float = 0.0
    """when the group last said that the partition is not ours"""
    out: dict[str, Outstanding] = field(default_factory=dict)
    check: tuple[int, float] | None = None
    """(end of the log, sent at or before): once the fold passes it, whatever is still outstanding from then is unknown"""
    checking: float | None = None
    # commands
    taken: int = 0
    hole_at: int = -1
    held: dict[int, Held] = field(default_factory=dict)
    by_run: dict[str, list[int]] = field(default_factory=dict)
    waiting: deque[Held] = field(default_factory=deque)
    store_position: int = 0
    polling: bool = False
    """the store was asked where it stands and has not answered"""
    paused: bool = False
    idle_since: float | None = None

    @property
    def loaded(self) -> bool:
        return self.position != NOT_LOADED

    @property
    def owner(self) -> bool:
        return self.assigned and self.mine != 0 and self.mine == self.epoch

    def load(self, snapshot: Snapshot) -> None:
        """Start the fold from a snapshot; reading begins at the lower of its position and the group's offset on the events."""
        mark = snapshot.mark
        self.base = self.mark = mark.position if mark else 0
        self.base_digest, self.seen = mark.digest if mark else None, mark is None
        self.store_position = self.base
        self.epoch = mark.epoch if mark else 0
        self.runs = {run.id: run for run in snapshot.runs}
        self.position = min(self.base, self.announced)

    def assign(self, token: str, commands: int, announced: int) -> None:
        """A new assignment: the fold stays, nothing is owned, commands are read again from the committed offset."""
        self.release()
        self.assigned, self.token, self.taken, self.idle_since = True, token, commands, None
        self.end, self.check, self.checking, self.hole_at, self.refused_at = None, None, None, -1, 0.0
        self.seen = self.position == self.base == 0
        self.announced = announced
        self.ends = {offset: end for offset, end in self.ends.items() if offset >= announced}
        self.unjudged = {offset: end for offset, end in self.unjudged.items() if offset >= announced}

    def release(self) -> None:
        """Stop deciding: what was outstanding or held belongs to the next owner."""
        self.assigned, self.mine, self.asked, self.confirming, self.paused = False, 0, None, None, False
        self.polling = False
        self.out.clear()
        self.held.clear()
        self.by_run.clear()
        self.waiting.clear()

    def disown(self) -> None:
        """An append's outcome is unknown: the partition must be taken anew before anything is decided."""
        self.mine, self.asked, self.check, self.checking = 0, None, None, None
        self.out.clear()

    def set_back(self, now: float) -> None:
        """Nothing was sent later than now: a clock that went back makes nobody wait until it has caught up."""
        self.refused_at = min(self.refused_at, now)
        if self.asked is not None:
            self.asked.sent_at = min(self.asked.sent_at, now)
        oldest = next(iter(self.out.values()), None)
        if oldest is not None and oldest.sent_at > now:
            for out in self.out.values():
                out.sent_at = min(out.sent_at, now)

    @property
    def rests_on(self) -> int:
        """Offset of the last record that the fold was made of."""
        return max(self.position, self.base) - 1

    @property
    def reads_from(self) -> int:
        """Where reading goes on: at the record that the fold rests on, until it was seen to stand there still."""
        return self.position if self.seen else min(self.position, self.rests_on)

    def meet(self, record: Record) -> bool:
        """The record that the fold rests on is read again: whether it is the one that is known."""
        if record.offset == self.base - 1:
            self.seen = digest(record.value or b"") == self.base_digest
        else:
            self.seen = record.value == self.last
        return self.seen

    def fold(self, record: Record, touched: dict[str, Run]) -> bool:
        """Take the next record; runs it changed go into `touched`. True when it made us the owner."""
        self.position, self.last = record.offset + 1, record.value
        envelope = decode(record.value)
        if envelope is None:
            self.orphans["unreadable"] += 1
            return False
        if rule.is_taken(envelope):
            return record.offset >= self.base and self._taken(envelope)
        value: bytes = record.value  # type: ignore[assignment]
        if record.offset < self.base:
            if envelope["type"] == RUN_COMPLETED:
                self.unjudged[record.offset] = (envelope["subject"], digest(value), value)
            return False
        run = self._fact(envelope)
        if run is None:
            return False
        extend(run, envelope, digest(value))
        touched[run.id] = run
        if run.phase == "done":
            self._ended(run, record.offset, value)
        return False

    def _taken(self, envelope: Envelope) -> bool:
        data = envelope.get("data")
        own = self.assigned and isinstance(data, dict) and data.get("token") == self.token
        if own:
            self.asked = None
        if not rule.takes(envelope, self.number, self.epoch):
            self.orphans["lost take"] += 1
            return False
        self.epoch = envelope["epoch"]
        self.mine = self.epoch if own else 0
        self.out.clear()
        return own

    def _fact(self, envelope: Envelope) -> Run | None:
        """The run of which this record is the next fact, None for an orphan."""
        run_id: str = envelope["subject"]
        run = self.runs.get(run_id)
        if run is not None:
            orphan = rule.orphaned(envelope, self.epoch, run.seq, run.tip, False)
        elif run_id in self.finished:
            orphan = rule.orphaned(envelope, self.epoch, 0, None, True)
        else:
            orphan = rule.orphaned(envelope, self.epoch, 0, None, False)
            if orphan is None and not rule.at_home(envelope, self.number, self.partitions):
                orphan = "not at home"
            if orphan is None:
                run = self.runs[run_id] = Run(run_id)
        if orphan is not None:
            self.orphans[orphan] += 1
            return None
        return run

    def _ended(self, run: Run, offset: int, value: bytes) -> None:
        """A finished run shrinks at once to its id and last digest; its end waits to be announced."""
        del self.runs[run.id]
        self.finished[run.id] = (run.seq, run.tip or "", offset + 1)
        self.finish_order.append((offset + 1, run.id))
        if offset >= self.announced:
            self.ends[offset] = End(run.id, value)

    def forget(self, store_position: int) -> None:
        """The store stands here: finished runs that it covers leave the memory."""
        self.store_position = store_position
        while self.finish_order and self.finish_order[0][0] <= store_position:
            after, run_id = self.finish_order.popleft()
            self.finished.pop(run_id, None)
            self.mark = max(self.mark, after)

    def knows(self, run_id: str) -> bool:
        return run_id in self.runs or run_id in self.finished

    def hold(self, held: Held) -> None:
        self.held[held.offset] = held
        if held.command is not None:
            self.by_run.setdefault(held.command.run_id, []).append(held.offset)

    def settle(self, offset: int) -> None:
        """The command at this offset needs nothing more."""
        held = self.held.pop(offset, None)
        if held is None or held.command is None:
            return
        offsets = self.by_run.get(held.command.run_id, [])
        if offset in offsets:
            offsets.remove(offset)
        if not offsets:
            self.by_run.pop(held.command.run_id, None)

    def cancel_of(self, run_id: str) -> Held | None:
        """The first held CancelRun of a run."""
        for offset in self.by_run.get(run_id, ()):
            if isinstance(self.held[offset].command, CancelRun):
                return self.held[offset]
        return None

    def safe_commands(self) -> int:
        """Below it every command is settled."""
        return min(self.held, default=self.taken)

    def safe_events(self) -> int:
        """Below it every end was announced and the broker has it."""
        return min(min(self.ends, default=self.position), min(self.unjudged, default=self.position))
