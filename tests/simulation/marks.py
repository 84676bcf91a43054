"""The rare things that the seeds together must have met: a simulation that never does something rare has not tested it."""

from __future__ import annotations

from collections import Counter
from typing import Final

import orjson

from tests.simulation.schedule import Mode
from tests.simulation.world import Cluster

SURVIVED: Final = (
    # of the log
    "orphan unreadable",
    "orphan lost take",
    "orphan old epoch",
    "orphan not the tip",
    "orphan not at home",
    "orphan after the end",
    "appends torn",
    "producers_lost",
    "unknown_appends",
    "gaps",
    # of runs
    "StepInterrupted",
    "StepRetryScheduled",
    "cancelled",
    "failed",
    "interrupted too often",
    "too_large",
    "delays that another owner ends",
    "effects dropped",
    "effects across an assignment",
    # of partitions that move
    "asks again",
    "zombie appends",
    "zombie decisions",
    "folds kept",
    "folds given back",
    "workers that leave with effects",
    "ends folded by others",
    "old ends announced",
    "old ends that are no facts",
    "repeated announcements",
    # of commands
    "intake paused",
    "rejected",
    "sent_home",
    "starts refused at the end of a wait",
    # of the store
    "look-ups that find a run",
    "look-ups of a store that is behind",
    "look-ups that waited for the store",
    "loads that waited for the store",
    # of machines
    "times that went back while an append is outstanding",
    "cut off from log",
    "cut off from group",
    "cut off from store",
    "cut off from kafka",
    "cut off from processor",
)
"""What the seeds with survivable faults must have met."""
UNLIMITED: Final = (
    "logs cut",
    "workers deceived",
    "cut logs noticed by a fetch",
    "cut logs noticed by a read",
    "cut logs noticed by an assignment",
    "tables of another cluster noticed",
    "tables of another log noticed",
    "tables of a longer log noticed",
    "runs that begin twice",
    "asks of a second owner",
    "StepInterrupted",
    "zombie appends",
    "zombie decisions",
    "times that went back",
)
"""What the seeds with faults without limit must have met."""


def missing(mode: Mode, met: Counter[str]) -> list[str]:
    """Rare things that were not met."""
    return [rare for rare in (SURVIVED if mode == "survivable" else UNLIMITED) if not met[rare]]


def seen(cluster: Cluster) -> Counter[str]:
    """Rare things that the engines met."""
    met, truths = cluster.watch.marks.copy(), cluster.truth.values()
    for worker in cluster.processes:
        met += worker.engine.stats
    ends = [value for truth in truths for value in truth.ends.values()]
    met["cancelled"] = sum(b'"status":"CANCELLED"' in value for value in ends)
    met["failed"] = sum(b'"status":"FAILED"' in value for value in ends)
    met["interrupted too often"] = sum(b'"interrupted_too_often"' in value for value in ends)
    met["repeated announcements"] = len(cluster.completed) - len(ends)
    met["runs that begin twice"] = sum(len(truth.twice) for truth in truths)
    met["delays that another owner ends"] = sum(_delays_taken_over(cluster, number) for number in cluster.log)
    return met


def _delays_taken_over(cluster: Cluster, number: int) -> int:
    """Delays that began under one epoch and ended under another."""
    truth, count = cluster.truth[number], 0
    for record, verdict in zip(cluster.log[number], truth.verdicts, strict=True):
        value = record.value or b""
        if not verdict and b'"StepSucceeded"' in value and b'"output":{"until"' in value:
            event = orjson.loads(value)
            attempt = (event["subject"], event["data"]["step"], event["data"]["attempt"])
            count += truth.attempts[attempt][1] != event["epoch"]
    return count
