"""The judge of what others have noted beside the log: I1 by every answer, I7 by the receiver, I10 reads, I13 life after faults.

As tests/checker.py, it uses none of the product's code.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from tests.checker import Judge, text

ENDED: Final = frozenset({"SUCCESS", "FAILED", "CANCELLED"})


class Ask(NamedTuple):
    """A start that was asked for. `n`: a number of its own in the payload; `status` None: no answer; `run`: what a 202 told."""

    n: int
    status: int | None
    run: str | None


class Read(NamedTuple):
    """What a client was shown of a run, in the order in which it was shown."""

    client: str
    run: str
    seq: int
    status: str


def check_asks(judge: Judge, asks: Iterable[Ask]) -> None:
    """I1. One run for each start with a 202, and the one that it told; at most one where no answer or a 5xx came; none where
    every answer was a 4xx."""
    begun, by_number = defaultdict[int, list[str]](list), defaultdict[int, list[Ask]](list)
    for run, facts in judge.runs.items():
        payload = facts[0][0]["data"].get("payload") or {}
        if isinstance(payload.get("n"), int):
            begun[payload["n"]].append(run)
    for ask in asks:
        by_number[ask.n].append(ask)
    for n, answers in by_number.items():
        runs, told = begun[n], {ask.run for ask in answers if ask.status == 202}
        refused = all(ask.status is not None and 400 <= ask.status < 500 for ask in answers)
        judge.bad(len(runs) > 1, f"I1 start {n} began {len(runs)} runs")
        judge.bad(told and told != set(runs), f"I1 start {n} was told {told} and began {runs}")
        judge.bad(refused and runs, f"I1 start {n} was refused and began {runs}")


def check_deliveries(judge: Judge, journal: Iterable[Mapping[str, Any]]) -> None:
    """I7. The receiver answers with what it got, so a success tells under which key and with which body it was made.
    Bodies say for which run and step they are, so that two keys of one step, two steps under one key, and more deliveries
    than attempts are found however the step has ended."""
    received, owner = defaultdict[str, list[str]](list), dict[str, tuple[str, str]]()
    keys, owners = defaultdict[tuple[str, str], set[str]](set), defaultdict[str, set[tuple[str, str]]](set)
    for request in journal:
        key, body = request["headers"].get("idempotency-key", ""), request["body"]
        received[key].append(text(body))
        if isinstance(body, dict) and {"run", "step"} <= body.keys():
            keys[body["run"], body["step"]].add(key)
            owners[key].add((body["run"], body["step"]))
        judge.bad(len(owners[key]) > 1, f"I7 one key was used by {owners[key]}")
    judge.bad("" in received, "I7 a delivery without Idempotency-Key")
    for place, found in keys.items():
        judge.bad(len(found) > 1, f"I7 {place} was called under {len(found)} keys")
    for run, facts in judge.runs.items():
        starts = Counter(event["data"]["step"] for event, _ in facts if event["type"] == "StepStarted")
        for step, started in starts.items():
            times = sum(len(received[key]) for key in keys.get((run, step), ()))
            judge.bad(times > started, f"I7 {run} {step}: {started} attempts, delivered {times} times")
        for data in (event["data"] for event, _ in facts if event["type"] == "StepSucceeded" and _echo(event)):
            step, echo = data["step"], data["output"]["body"]
            key = echo["headers"].get("idempotency-key", "")
            wrong = owner.setdefault(key, (run, step)) != (run, step)
            judge.bad(wrong, f"I7 {run} {step} has the key of {owner[key]}")
            judge.bad(text(echo["body"]) not in received[key], f"I7 {run} {step} succeeded and was not delivered")
            judge.bad(len(received[key]) > starts[step], f"I7 {run} {step}: delivered {len(received[key])} times")


def _echo(event: Mapping[str, Any]) -> bool:
    output = event["data"]["output"]
    return isinstance(output, dict) and isinstance(output.get("body"), dict) and "headers" in output["body"]


def check_reads(judge: Judge, reads: Iterable[Read]) -> None:
    """I10. A client that passes on its positions never sees a run go back, whichever process it asks."""
    seen = dict[tuple[str, str], Read]()
    for read in reads:
        before = seen.get((read.client, read.run))
        if before is not None:
            judge.bad(read.seq < before.seq, f"I10 {read.run} went from {before} to {read}")
            judge.bad(before.status in ENDED and read.status != before.status, f"I10 {read.run} ended twice: {read}")
        seen[read.client, read.run] = read


def check_life(judge: Judge, workers: Iterable[str], apis: Mapping[str, int], since_ms: float) -> None:
    """I13. After the last fault every worker has written a fact, and every API has started a run.

    `workers`: their names as they stand in PartitionTaken. `apis`: each one's starts since then.
    """
    wrote = set[str]()
    for run, facts in judge.runs.items():
        late = [event["epoch"] for event, record in facts if record.timestamp >= since_ms]
        wrote |= {judge.owners[judge.homes[run], epoch] for epoch in late}
    for worker in workers:
        judge.bad(worker not in wrote, f"I13 {worker} has written nothing since the last fault")
    for api, starts in apis.items():
        judge.bad(starts == 0, f"I13 {api} has started nothing since the last fault")


def lateness_s(judge: Judge) -> list[float]:
    """I6, the other half: how long after their due times timers fired, by the log's clock; shortest first."""
    found = []
    for facts in judge.runs.values():
        due_ms = 0.0
        for event, record in facts:
            if due_ms and event["type"] in {"StepSucceeded", "StepStarted"}:
                found.append((record.timestamp - due_ms) / 1000)
            until = event["data"].get("until") if isinstance(event["data"], dict) else None
            due_ms = datetime.fromisoformat(until).timestamp() * 1000 if until else 0.0
    return sorted(found)
