"""Histories made by hand, sound and broken, for the judge to judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas import events
from schemas.run import Run
from streams.decider import Draft
from tests.checker import Judge
from tests.given import NOW, delay, interrupted, requested, retrying, started, succeeded, take, webhook, workflow
from tests.reader import Raw

FLOW = workflow(webhook("call"), delay("wait", 1))
DUE = NOW + 1
UNTIL = events.time_text(DUE)
ECHO = {"status": 200, "body": {"headers": {"idempotency-key": "r1/call"}, "body": {"n": 1}}}
DELIVERY = {"headers": {"idempotency-key": "r1/call"}, "body": {"n": 1}}


def end(status: str = "SUCCESS", error: Any = None) -> Draft:
    return "RunCompleted", {"status": status, "error": error, "results": {}}


GOOD = [
    requested(FLOW, n=1),
    started(),
    interrupted(),
    started(attempt=2),
    retrying(attempt=2, until=NOW),
    started(attempt=3),
    succeeded(attempt=3, output=ECHO),
    started("wait", until=UNTIL),
    succeeded("wait", output={"until": UNTIL}),
    end(),
]


class Topics:
    """A log of one partition, and what goes with it."""

    def __init__(self, epoch: int = 1) -> None:
        self.events: list[Raw] = []
        self.completed: list[Raw] = []
        self.epoch = epoch
        self.add(events.encode_taken(0, epoch, "w", "t", UNTIL), b"partition/0")

    def add(self, value: bytes | None, key: bytes = b"r1", at: float = DUE) -> None:
        self.events.append(Raw(len(self.events), round(at * 1000), key, value))

    def run(self, drafts: Sequence[Draft], run_id: str = "r1", at: float = DUE) -> bytes:
        values = take(Run(run_id), drafts, epoch=self.epoch)
        for value in values:
            self.add(value, run_id.encode(), at)
        return values[-1]

    def tell(self, value: bytes, run_id: str = "r1") -> None:
        self.completed.append(Raw(len(self.completed), 0, run_id.encode(), value))

    def judge(self, *, ended: bool = True) -> Judge:
        return Judge({"workflow.events": {0: self.events}, "workflow.completed": {0: self.completed}}, ended=ended)


def sound() -> Topics:
    """A sound history of one run, announced twice."""
    made = Topics()
    last = made.run(GOOD)
    made.tell(last)
    made.tell(last)
    return made


def red(judge: Judge, invariant: str) -> None:
    assert any(text.startswith(invariant + " ") for text in judge.violations), judge.violations
