"""The truth of a partition of the log: what a reader finds in it who forgets nothing.

The rule is asked of `tests.reader`, which is none of the product's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from schemas.events import decode
from schemas.identity import digest
from schemas.run import Run, extend
from tests.reader import Reader


class State(NamedTuple):
    """A partition at a position: epoch, tip of every run that ever was, and the unfinished runs as they are saved."""

    epoch: int
    tips: Mapping[str, tuple[int, str | None, bool]]
    runs: Mapping[str, bytes]


NOTHING = State(0, {}, {})


class Truth:
    """A partition's state at every position."""

    def __init__(self, number: int, partitions: int) -> None:
        self.reader = Reader(number, partitions)
        self.states = [NOTHING]
        self.verdicts: list[str] = []
        self.attempts: dict[tuple[str, str, int], tuple[int, int]] = {}
        """(run, step, attempt) → offset and epoch of its StepStarted"""
        self.ends: dict[int, bytes] = {}
        """offset → value of every RunCompleted that is a fact"""
        self.takers: dict[int, tuple[int, str]] = {}
        """epoch → offset of the record that took it, and the token of the assignment that it was taken in"""
        self.twice: set[str] = set()
        """runs whose first event stands a second time behind their end, under one epoch: what the rule rests on is not so"""
        self._runs: dict[str, Run] = {}

    def take(self, value: bytes) -> None:
        """The next record."""
        offset, verdict = len(self.verdicts), self.reader.take(value)
        self.verdicts.append(verdict)
        event, runs = self.reader.event, self.states[-1].runs
        if verdict == "after the end" and event["seq"] == 1:
            self.twice.add(event["subject"])
        if not verdict and event["type"] == "PartitionTaken":
            self.takers[event["epoch"]] = (offset, event["data"]["token"])
        elif not verdict:
            runs = self._extended(offset, value)
        self.states.append(State(self.reader.epoch, dict(self.reader.tips), runs))

    def _extended(self, offset: int, value: bytes) -> Mapping[str, bytes]:
        """The unfinished runs after a fact of one of them."""
        event = self.reader.event
        run = self._runs.setdefault(event["subject"], Run(event["subject"]))
        envelope = decode(value)
        assert envelope is not None, "a fact that the product cannot read"
        extend(run, envelope, digest(value))
        runs = {**self.states[-1].runs, run.id: run.dump()}
        if event["type"] == "RunCompleted":
            del runs[run.id]
            self.ends[offset] = value
        if event["type"] == "StepStarted":
            self.attempts[run.id, event["data"]["step"], event["data"]["attempt"]] = (offset, event["epoch"])
        return runs

    def cut(self, length: int) -> None:
        """All from this offset on is gone."""
        del self.states[length + 1 :], self.verdicts[length:]
        state = self.states[-1]
        self.reader.epoch, self.reader.tips = state.epoch, dict(state.tips)
        self.attempts = {attempt: at for attempt, at in self.attempts.items() if at[0] < length}
        self.ends = {offset: value for offset, value in self.ends.items() if offset < length}
        self.takers = {epoch: at for epoch, at in self.takers.items() if at[0] < length}
        self._runs = {run_id: Run.load(run_id, dump) for run_id, dump in state.runs.items()}
