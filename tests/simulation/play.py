"""A simulated cluster played by hand: each thing happens when the test says so."""

from __future__ import annotations

from typing import Any

import orjson

from streams.engine import Limits
from streams.partition import Partition
from tests.given import webhook, workflow
from tests.simulation.member import WELL, Worker
from tests.simulation.world import LIMITS, Cluster

ONE_CALL = workflow(webhook())
WHOLE = ["RunRequested", "StepStarted", "StepSucceeded", "RunCompleted"]
"""The facts of a run of it that meets no trouble."""
ROUNDS = 20
"""More than anything takes that does not wait for something."""


class Play(Cluster):
    """Everything goes well until something else is said; worker A has all partitions and has taken them."""

    def __init__(
        self, definition: dict[str, Any] | None = None, *, partitions: int = 1, limits: Limits = LIMITS
    ) -> None:
        super().__init__(definition or ONE_CALL, partitions=partitions, limits=limits)
        self.fate = WELL
        """of announcements"""
        self.a = self.start("A")
        self.assign("A")
        self.go()

    def assign(self, name: str) -> None:
        """The group gives all partitions to this member; nobody has learned of it."""
        self.give(dict.fromkeys(self.log, name))

    def go(self, *workers: Worker, land: bool = True, take: bool = True) -> None:
        """Everything happens that needs neither time nor the end of an effect, in the workers named (all by default)."""
        for _ in range(ROUNDS):
            for worker in workers or tuple(self.workers.values()):
                if worker.generation != self.generation:
                    worker.learn()
                self.answer(worker)
                for number in self.log:
                    worker.read(number)
                    if take:
                        worker.take(number)
            while land and self.flying:
                self.land(self.flying[0])
            self.tick()

    def answer(self, worker: Worker) -> None:
        """Everything that was asked so far is answered once."""
        answers, worker.answers[:] = list(worker.answers), []
        for one in answers:
            one.give(self.fate)

    def types(self, run_id: str = "r1") -> list[str]:
        """The facts of a run, in order."""
        found = []
        for number, log in self.log.items():
            for record, verdict in zip(log, self.truth[number].verdicts, strict=True):
                event = orjson.loads(record.value or b"{}") if not verdict else {}
                if event.get("subject") == run_id:
                    found.append(event["type"])
        return found

    def orphans(self, number: int = 0) -> list[str]:
        """Why records are no facts."""
        return [verdict for verdict in self.truth[number].verdicts if verdict]

    def cover(self) -> None:
        """The store comes level."""
        for number, log in self.log.items():
            self.store[number] = len(log)

    def told(self) -> list[str]:
        """Runs whose end was announced, once for each time."""
        return [orjson.loads(value)["subject"] for value in self.completed]


def part(worker: Worker, number: int = 0) -> Partition:
    return worker.engine.partitions[number]
