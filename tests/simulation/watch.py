"""What is watched while a simulation runs: the truth of the log, and the promises that hold at every step.

The rule is asked of `tests.reader`, which is none of the product's code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from schemas import commands
from schemas.commands import TriggerRun
from schemas.errors import CommandRefused
from schemas.events import decode
from schemas.identity import digest, home
from schemas.run import Run, extend
from tests import shapes
from tests.reader import Reader

if TYPE_CHECKING:
    from tests.simulation.world import Cluster, Worker

TRIGGER = "workflow.trigger"


class State(NamedTuple):
    """A partition at a position: epoch, tip of every run that ever was, and the unfinished runs as they are saved."""

    epoch: int
    tips: Mapping[str, tuple[int, str | None, bool]]
    runs: Mapping[str, bytes]


class Truth:
    """A partition of the log as a reader sees it who forgets nothing: its state at every position."""

    def __init__(self, number: int, partitions: int) -> None:
        self.reader = Reader(number, partitions)
        self.states = [State(0, {}, {})]
        self.verdicts: list[str] = []
        self.attempts: dict[tuple[str, str, int], tuple[int, int]] = {}
        """(run, step, attempt) → offset and epoch of its StepStarted"""
        self.ends: dict[int, bytes] = {}
        """offset → value of every RunCompleted that is a fact"""
        self._runs: dict[str, Run] = {}

    def take(self, value: bytes) -> None:
        offset, verdict, runs = len(self.verdicts), self.reader.take(value), self.states[-1].runs
        self.verdicts.append(verdict)
        event = self.reader.event
        if not verdict and event["type"] != "PartitionTaken":
            run = self._runs.setdefault(event["subject"], Run(event["subject"]))
            envelope = decode(value)
            assert envelope is not None
            extend(run, envelope, digest(value))
            runs = {**runs, run.id: run.dump()}
            if event["type"] == "RunCompleted":
                del runs[run.id]
                self.ends[offset] = value
            if event["type"] == "StepStarted":
                self.attempts[run.id, event["data"]["step"], event["data"]["attempt"]] = (offset, event["epoch"])
        self.states.append(State(self.reader.epoch, dict(self.reader.tips), runs))


class Watch:
    """Asserts at each step what must never be otherwise."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.marks: Counter[str] = Counter()
        self._started: set[tuple[str, str, int]] = set()
        self._owners: dict[tuple[int, int], str] = {}
        self._checked = dict.fromkeys(cluster.truth, (0, 0))

    def state(self, worker: Worker, number: int) -> State:
        """The truth at the worker's position."""
        return self.cluster.truth[number].states[worker.engine.partitions[number].position]

    def read(self, worker: Worker, number: int) -> None:
        """S1: a reader that forgets finished runs, or began from a snapshot, finds the facts of one that forgets nothing.
        S2: an epoch belongs to one assignment of one worker."""
        part = worker.engine.partitions[number]
        if part.loaded and part.position >= part.base:
            epoch, tips, runs = self.state(worker, number)
            assert part.epoch == epoch, f"S1: {worker.name} has epoch {part.epoch}, not {epoch}"
            assert {run.id: run.dump() for run in part.runs.values()} == runs, f"S1: {worker.name} has other runs"
            for run_id, (seq, tip, _) in part.finished.items():
                assert tips.get(run_id) == (seq, tip, True), f"S1: {worker.name} has another end of {run_id}"
        if part.mine:
            owner = self._owners.setdefault((number, part.mine), part.token)
            assert owner == part.token, f"S2: epoch {part.mine} has a second owner, {worker.name}"

    def sent(self, worker: Worker, number: int, values: Sequence[bytes]) -> None:
        """S4: no start is decided of a run that had its first event below the decider's position. Events have their shape."""
        part = worker.engine.partitions[number]
        self.marks["zombie appends"] += self.cluster.owner.get(number) != worker.name
        for value in values:
            shapes.check(value)
            event = orjson.loads(value)
            if event["type"] != "PartitionTaken":
                assert event["epoch"] == part.mine == part.epoch, "written under an epoch that is not the writer's"
            if event["seq"] == 1:
                assert event["subject"] not in self.state(worker, number).tips, f"S4: {event['subject']} starts again"

    def started(self, worker: Worker, run: Run, epoch: int) -> None:
        """S3: an effect starts for a StepStarted that its worker read back as a fact of its own epoch, once in all."""
        number = home(run.id, self.cluster.partitions)
        attempt, part = (run.id, run.step, run.attempt), worker.engine.partitions[number]
        offset, written = self.cluster.truth[number].attempts.get(attempt, (part.position, 0))
        assert offset < part.position, f"S3: {attempt} starts before its fact was read"
        assert written == epoch == part.mine, f"S3: {attempt} of epoch {written} starts under {epoch}"
        assert attempt not in self._started, f"S3: {attempt} starts a second time"
        assert not self.state(worker, number).tips[run.id][2], f"S3: {attempt} starts after the end"
        self._started.add(attempt)

    def looked_up(self, worker: Worker, number: int, position: int, tips: Mapping[str, Any]) -> None:
        part = worker.engine.partitions.get(number)
        self.marks["look-ups that find a run"] += len(tips) > 0
        self.marks["look-ups of a store that is behind"] += part is not None and position < part.mark

    def refused(self, worker: Worker, number: int, value: bytes | None) -> None:
        """S5: a cancel is refused only where its run is not known, or is set aside."""
        self.marks["refused"] += 1
        run_id = orjson.loads(value)["subject"] if value and value.startswith(b'{"specversion') else ""
        tip = self.state(worker, number).tips.get(run_id)
        assert tip is None or tip[2], f"S5: a command to {run_id} was refused while it goes on"

    def committed(self, number: int) -> None:
        """S5: below the offset of the commands all are settled. S6: below that of the events every end was announced."""
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
