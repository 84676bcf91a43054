"""What is watched while a simulation runs: the promises that hold at every step, and the rare things that were met.

`docs/architecture.md` says what S1 to S9 are, and which of them hold when faults have no bound.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import orjson

from schemas import commands
from schemas.commands import TriggerRun
from schemas.errors import CommandRefused
from schemas.identity import digest, home
from schemas.run import Run
from schemas.store import Snapshot
from streams.partition import Partition
from tests import shapes
from tests.simulation.truth import State

if TYPE_CHECKING:
    from tests.simulation.member import Worker
    from tests.simulation.world import Cluster, Flight

TRIGGER = "workflow.trigger"


class Watch:
    """Asserts at each step what must never be otherwise."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.marks: Counter[str] = Counter()
        self.unlimited = False
        """faults take away what the rule rests on: runs that begin twice within an epoch are nobody's mistake"""
        self.apart: set[int] = set()
        """partitions whose log and tables are not, or were not always, of each other: there S4 to S6 are not promised"""
        self.deceived: dict[tuple[str, int], int] = {}
        """(process, partition) → epoch owned, of those who have read what is no longer in the log and have not noticed"""
        self._started: set[tuple[str, str, int]] = set()
        self._asked: set[tuple[int, str]] = set()
        self._checked = dict.fromkeys(cluster.truth, (0, 0))

    def state(self, worker: Worker, number: int) -> State:
        """The truth at the worker's position."""
        return self.cluster.truth[number].states[worker.engine.partitions[number].position]

    def is_deceived(self, worker: Worker, number: int) -> bool:
        return (worker.process, number) in self.deceived

    def cutting(self, number: int, length: int) -> None:
        """The log is about to lose its tail; whoever has read of it does not know."""
        truth = self.cluster.truth[number]
        self.apart.add(number)
        for worker in self.cluster.workers.values():
            part = worker.engine.partitions.get(number)
            if part is not None and part.loaded and max(part.position, part.base) > length:
                self.deceived.setdefault((worker.process, number), part.mine)
        gone = {attempt for attempt, (offset, _) in truth.attempts.items() if offset >= length}
        self._started -= gone
        self._checked[number] = (0, 0)
        self.marks["logs cut"] += 1
        self.marks["workers deceived"] += sum(at == number for _, at in self.deceived)

    def loaded(self, worker: Worker, number: int, snapshot: Snapshot) -> None:
        """The worker has another fold now, of tables that were of the log when that was looked at."""
        self.deceived.pop((worker.process, number), None)
        mark, log = snapshot.mark, self.cluster.log[number]
        if mark is not None and not (
            mark.position <= len(log) and digest(log[mark.position - 1].value or b"") == mark.digest
        ):
            self.deceived[worker.process, number] = 0

    def read(self, worker: Worker, number: int) -> None:
        """S1: a reader that forgets finished runs, or began from a snapshot, finds the facts of one that forgets nothing.
        S2: an epoch belongs to one assignment of one worker. S9: a log that lost its tail is noticed, not folded over."""
        part, truth = worker.engine.partitions[number], self.cluster.truth[number]
        wrong = self._wrong(worker, number) if part.loaded and part.position >= part.base else ""
        strange = part.mine and truth.takers.get(part.mine, (0, ""))[1] != part.token
        if self.is_deceived(worker, number) and (wrong or strange):
            before = self.deceived[worker.process, number]
            assert part.mine in (0, before), f"S9: {worker.name} takes {number} with a fold of what is not in the log"
            return
        self.deceived.pop((worker.process, number), None)
        assert not wrong, f"S1: {worker.name} has {wrong}"
        assert not strange, f"S2: epoch {part.mine} is not {worker.name}'s"
        self.marks["ends folded by others"] += bool(part.ends) and not part.owner

    def _twice(self, number: int) -> AbstractSet[str]:
        return self.cluster.truth[number].twice if self.unlimited else frozenset()

    def _wrong(self, worker: Worker, number: int) -> str:
        """What in a worker's fold is not as a reader has it who forgets nothing; "" when all is."""
        part, twice = worker.engine.partitions[number], self._twice(number)
        if part.position > len(self.cluster.log[number]):
            return "read past the end"
        epoch, tips, runs = self.state(worker, number)
        if part.epoch != epoch:
            return f"epoch {part.epoch}, not {epoch}"
        if {run.id: run.dump() for run in part.runs.values() if run.id not in twice} != _without(runs, twice):
            return "other runs"
        ends = {run_id: (seq, tip, True) for run_id, (seq, tip, _) in part.finished.items() if run_id not in twice}
        return f"other ends: {ends}" if any(tips.get(run_id) != end for run_id, end in ends.items()) else ""

    def sent(self, worker: Worker, number: int, values: Sequence[bytes]) -> None:
        """S4: no start is decided of a run that had its first event below the decider's position. S8: nobody writes under
        an epoch that is not its own. Events have their shape."""
        part, truth = worker.engine.partitions[number], self.cluster.truth[number]
        deceived = self.is_deceived(worker, number)
        self.marks["zombie appends"] += not self.cluster.has(worker.name, number)
        for value in values:
            shapes.check(value)
            event = orjson.loads(value)
            if event["type"] == "PartitionTaken":
                self.marks["asks of a second owner"] += self.cluster.also.get(number) == worker.name
                self.marks["asks again"] += (number, part.token) in self._asked
                self._asked.add((number, part.token))
                continue
            self.marks["zombie decisions"] += event["epoch"] < truth.reader.epoch
            assert event["epoch"] == part.mine == part.epoch, "S8: written under an epoch that is not the writer's"
            own = deceived or truth.takers[event["epoch"]][1] == part.token
            assert own, f"S8: {worker.name} writes under an epoch that another one took"
            if event["seq"] == 1 and not deceived and number not in self.apart:
                assert event["subject"] not in self.state(worker, number).tips, f"S4: {event['subject']} starts again"

    def started(self, worker: Worker, run: Run, epoch: int) -> None:
        """S3: an effect starts for a StepStarted that its worker read back as a fact of its own epoch, once in all."""
        number = home(run.id, self.cluster.partitions)
        truth, part = self.cluster.truth[number], worker.engine.partitions[number]
        if self.is_deceived(worker, number) or run.id in self._twice(number):
            return
        attempt = (run.id, run.step, run.attempt)
        offset, written = truth.attempts.get(attempt, (part.position, 0))
        assert offset < part.position, f"S3: {attempt} starts before its fact was read"
        assert written == epoch == part.mine, f"S3: {attempt} of epoch {written} starts under {epoch}"
        assert attempt not in self._started, f"S3: {attempt} starts a second time"
        assert not self.state(worker, number).tips[run.id][2], f"S3: {attempt} starts after the end"
        self._started.add(attempt)

    def lost(self, flight: Flight) -> None:
        """A record never lands: of an append of several, its first part may have."""
        event = orjson.loads(flight.value)
        tip = self.cluster.truth[flight.partition].reader.tips.get(event["subject"], (0, None, False))
        self.marks["appends torn"] += flight.place > 0 and tip[:2] == (event["seq"] - 1, event["prev"])

    def time_went(self, seconds: float, part: Partition) -> None:
        self.marks["times that went back"] += seconds < -1
        self.marks["times that went back while an append is outstanding"] += seconds < -1 and bool(part.out)

    def stands_still(self, reason: str | None) -> None:
        """Tables were held against the log; `reason`: what does not fit."""
        if reason is not None:
            cluster, ahead = reason.startswith("the tables were made"), reason.startswith("it ends")
            what = "another cluster" if cluster else "a longer log" if ahead else "another log"
            self.marks[f"tables of {what} noticed"] += 1

    def learns(self, worker: Worker) -> None:
        self.marks["effects across an assignment"] += bool(worker.effects)
        self.marks["folds kept"] += any(part.loaded for part in worker.engine.partitions.values())

    def announcing(self, worker: Worker, number: int, offset: int) -> None:
        self.marks["old ends announced"] += offset < worker.engine.partitions[number].base

    def looked_up(self, worker: Worker, number: int, position: int, tips: Mapping[str, Any]) -> None:
        part = worker.engine.partitions.get(number)
        self.marks["look-ups that find a run"] += len(tips) > 0
        self.marks["look-ups of a store that is behind"] += part is not None and position < part.mark

    def judged(self, worker: Worker, number: int, before: AbstractSet[int]) -> None:
        """The store has said which ends below the snapshot are facts. `before`: those that were asked about."""
        part = worker.engine.partitions.get(number)
        gone = before - part.unjudged.keys() - part.ends.keys() if part is not None else ()
        self.marks["old ends that are no facts"] += len(gone)

    def refused(self, worker: Worker, number: int, value: bytes | None) -> None:
        """S5: a cancel is refused only where its run is not known, or is set aside."""
        self.marks["refused"] += 1
        if self.is_deceived(worker, number) or number in self.apart:
            return
        run_id = orjson.loads(value)["subject"] if value and value.startswith(b'{"specversion') else ""
        tip = self.state(worker, number).tips.get(run_id)
        assert tip is None or tip[2], f"S5: a command to {run_id} was refused while it goes on"

    def committed(self, number: int) -> None:
        """S5: below the offset of the commands all are settled. S6: below that of the events every end was announced."""
        if number in self.apart:
            return
        before, now = self._checked[number], self.cluster.committed[number]
        for record in self.cluster.commands[number][before[0] : now[0]]:
            assert self._settled(number, record), f"S5: committed past {record}"
        for offset, value in self.cluster.truth[number].ends.items():
            if before[1] <= offset < now[1]:
                assert value in self.cluster.completed, f"S6: committed past the end at {number}/{offset}"
        self._checked[number] = (max(before[0], now[0]), max(before[1], now[1]))

    def _settled(self, number: int, record: Any) -> bool:
        if (number, record.offset) in self.cluster.passed_on:
            return True
        try:
            command = commands.decode(
                record.value,
                topic=TRIGGER,
                partition=number,
                offset=record.offset,
                timestamp_ms=record.timestamp,
                partitions=self.cluster.partitions,
            )
        except CommandRefused:
            return False
        tip = self.cluster.truth[number].reader.tips.get(command.run_id)
        return tip is not None and (isinstance(command, TriggerRun) or tip[2])


def _without(known: Mapping[str, Any], run_ids: AbstractSet[str]) -> Mapping[str, Any]:
    return {run_id: what for run_id, what in known.items() if run_id not in run_ids} if run_ids else known
