"""Logs for tests: legal histories of runs, chained as the engine chains them, and the orphans that a real log has among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from schemas import commands, events
from schemas.commands import TriggerRun
from schemas.identity import digest, home

BASE_S = 1_790_000_000.0


@dataclass(frozen=True, slots=True)
class LogRecord:
    """A record as a consumer hands it over."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(slots=True)
class Story:
    """A run as its owner writes it: each event names the digest of the one before."""

    run_id: str
    definition: dict[str, Any]
    payload: dict[str, Any] = field(default_factory=dict)
    seq: int = 0
    tip: str | None = None
    clock_s: float = BASE_S

    def event(self, epoch: int, type_: str, data: Any) -> bytes:
        """The next event of the run."""
        self.clock_s += 0.013
        self.seq += 1
        value = events.encode(
            type_,
            self.run_id,
            data,
            time=self.now,
            epoch=epoch,
            seq=self.seq,
            prev=self.tip,
            cause="workflow.trigger/0/0",
        )
        self.tip = digest(value)
        return value

    @property
    def now(self) -> str:
        return events.time_text(self.clock_s)

    def requested(self, epoch: int) -> bytes:
        data = {
            "workflow_id": self.definition["id"],
            "version": 1,
            "definition": self.definition,
            "payload": self.payload,
            "command": f"c-{self.run_id}",
            "requested_at": self.now,
        }
        return self.event(epoch, "RunRequested", data)

    def completed(
        self, epoch: int, status: str = "SUCCESS", results: dict[str, Any] | None = None, error: Any = None
    ) -> bytes:
        data = {
            "status": status,
            "workflow_id": self.definition["id"],
            "version": 1,
            "results": results or {},
            "error": error,
            "steps": [],
            "created_at": self.now,
            "started_at": None,
        }
        return self.event(epoch, "RunCompleted", data)

    def whole(self, epoch: int, output: Any = None) -> list[bytes]:
        """All events of a run whose steps succeed at once."""
        names = [step["name"] for step in self.definition["steps"]]
        values = [self.requested(epoch)]
        for name in names:
            values.append(self.event(epoch, "StepStarted", {"step": name, "attempt": 1}))
            values.append(self.event(epoch, "StepSucceeded", {"step": name, "attempt": 1, "output": output}))
        return [*values, self.completed(epoch, results=dict.fromkeys(names, output))]


def definition(workflow_id: str = "greet", steps: int = 2) -> dict[str, Any]:
    """A workflow of delays of 0, as the log carries it."""
    return {
        "id": workflow_id,
        "name": workflow_id.title(),
        "description": "",
        "steps": [{"name": f"step_{n}", "type": "delay", "config": {"duration": 0}} for n in range(steps)],
    }


def id_at(rng: Random, partition: int, partitions: int) -> str:
    """A run id whose home is the partition."""
    while True:
        run_id = f"r-{rng.getrandbits(64):016x}"
        if home(run_id, partitions) == partition:
            return run_id


class Log:
    """Partitions of `workflow.events` as a list of records each."""

    def __init__(self, partitions: int = 1, seed: int = 0) -> None:
        self.partitions = partitions
        self.rng = Random(seed)
        self.records: list[list[LogRecord]] = [[] for _ in range(partitions)]
        self.epochs = [0] * partitions

    def append(self, partition: int, value: bytes | None, key: bytes | None = None) -> LogRecord:
        records = self.records[partition]
        record = LogRecord(len(records), round(BASE_S * 1000) + 7 * len(records), key, value)
        records.append(record)
        return record

    def take(self, partition: int) -> int:
        """A worker takes the partition: the new epoch."""
        self.epochs[partition] += 1
        epoch = self.epochs[partition]
        self.append(partition, events.encode_taken(partition, epoch, "w1", f"t{epoch}", events.time_text(BASE_S)))
        return epoch

    def story(
        self, partition: int, *, workflow_id: str = "greet", steps: int = 2, payload: dict[str, Any] | None = None
    ) -> Story:
        """A new run at home in the partition; nothing is appended yet."""
        run_id = id_at(self.rng, partition, self.partitions)
        clock_s = BASE_S + self.rng.randrange(1_000_000) / 1000
        return Story(run_id, definition(workflow_id, steps), payload or {"n": self.rng.randrange(100)}, clock_s=clock_s)


def random_log(seed: int, *, partitions: int = 2, runs: int = 12) -> Log:
    """Interleaved runs under changing epochs, some unfinished, some set aside, with orphans of every kind between them."""
    log = Log(partitions, seed)
    for partition in range(partitions):
        log.take(partition)
        open_runs = [_random_run(log, partition) for _ in range(runs)]
        while open_runs:
            index = log.rng.randrange(min(5, len(open_runs)))
            if next(open_runs[index], None) is None:
                del open_runs[index]
            _noise(log, partition)
    return log


def _noise(log: Log, partition: int) -> None:
    """Now and then a takeover or a record that is no fact."""
    rng, records = log.rng, log.records[partition]
    match rng.randrange(24):
        case 0:
            log.take(partition)
        case 1 | 2:
            log.append(partition, rng.choice(records).value)
        case 3:
            log.append(partition, rng.choice([None, b"", b"{", b"[]", b'{"subject": 1}', b"\xff\xfe"]))
        case 4:
            stray = Story(id_at(rng, partition, log.partitions), definition(), {})
            stray.requested(1)
            log.append(partition, stray.event(log.epochs[partition], "StepStarted", {"step": "step_0", "attempt": 1}))
        case 5 if log.partitions > 1:
            foreign = Story(id_at(rng, (partition + 1) % log.partitions, log.partitions), definition(), {})
            log.append(partition, foreign.requested(log.epochs[partition]))


def _random_run(log: Log, partition: int) -> Iterator[bytes]:
    """Appends the events of one random run, one at each step of the iterator."""
    rng = log.rng
    story = log.story(
        partition,
        workflow_id=rng.choice(["greet", "bill", "ship"]),
        steps=rng.randrange(1, 4),
        payload={
            "n": rng.choice([1, 2**53 + 1, -(2**63), 0.1, 1e300]),
            "text": rng.choice(["", "é", "\u0001", "😀" * 9]),
        },
    )
    for value in _random_events(log, partition, story):
        log.append(
            partition, value, story.run_id.encode() if rng.random() < 0.8 else rng.choice([None, b"\xff", b"other"])
        )
        yield value
        if rng.random() < 0.03:
            return


def _random_events(log: Log, partition: int, story: Story) -> Iterator[bytes]:
    rng = log.rng

    def event(type_: str, **data: Any) -> bytes:
        return story.event(log.epochs[partition], type_, data)

    yield story.requested(log.epochs[partition])
    results: dict[str, Any] = {}
    error: dict[str, Any] = {"code": "http_500", "message": "the receiver failed"}
    for step in (step["name"] for step in story.definition["steps"]):
        attempt = 0
        while True:
            attempt += 1
            yield event(
                "StepStarted", step=step, attempt=attempt, **({"until": story.now} if rng.random() < 0.3 else {})
            )
            chance = rng.random()
            if chance < 0.2:
                yield event("StepRetryScheduled", step=step, attempt=attempt, error=error, until=story.now)
            elif chance < 0.3:
                yield event("StepInterrupted", step=step, attempt=attempt)
            elif chance < 0.36:
                yield event("StepFailed", step=step, attempt=attempt, error=error)
                yield story.completed(log.epochs[partition], "FAILED", results, error)
                return
            elif chance < 0.4:
                yield event("StepTeleported", step=step)
            elif chance < 0.44:
                yield event("StepSucceeded", step="no_such_step", attempt=attempt, output=None)
            elif chance < 0.48:
                yield story.completed(log.epochs[partition], "CANCELLED", results)
                return
            else:
                output = rng.choice([None, 2**53 + 1, {"a": [1, 2.5, "ü"]}, "x" * 50])
                results[step] = output
                yield event("StepSucceeded", step=step, attempt=attempt, output=output)
                break
    yield story.completed(log.epochs[partition], "SUCCESS", results)


def command(
    run_id: str, workflow_id: str = "greet", *, payload: dict[str, Any] | None = None, at_s: float = BASE_S
) -> bytes:
    """The record value of a `TriggerRun`."""
    return commands.encode(TriggerRun(f"c-{run_id}", run_id, workflow_id, None, payload or {}, events.time_text(at_s)))


def reencoded(value: bytes, **changes: Any) -> bytes:
    """An event with other envelope fields."""
    return orjson.dumps({**orjson.loads(value), **changes})


def cut(records: Sequence[LogRecord], rng: Random, largest: int = 40) -> list[Sequence[LogRecord]]:
    """The records in batches of random sizes."""
    batches, at = [], 0
    while at < len(records):
        size = rng.randrange(1, largest + 1)
        batches.append(records[at : at + size])
        at += size
    return batches
