"""The rule, the same for every reader: which record is a fact.

A `PartitionTaken` is a fact if its epoch is higher than the partition's. A run event is a fact if it stands in its run's
home partition, carries the partition's epoch and extends its run's tip. All else is an orphan: ignored and counted.
"""

from __future__ import annotations

from typing import Literal

from schemas.events import PARTITION_TAKEN, Envelope, partition_subject
from schemas.identity import RUN_ID, home

Orphan = Literal["unreadable", "old epoch", "not the tip", "not at home", "after the end"]


def takes(envelope: Envelope, partition: int, epoch: int) -> bool:
    """Whether this `PartitionTaken` is a fact in a partition that stands at `epoch`."""
    taken: bool = envelope["epoch"] > epoch and envelope["subject"] == partition_subject(partition)
    return taken


def orphaned(envelope: Envelope, epoch: int, seq: int, tip: str | None, done: bool) -> Orphan | None:
    """Why this run event is no fact, None when it is one. `seq`, `tip`, `done`: of its run so far, (0, None, False) for a new one."""
    if envelope["epoch"] != epoch:
        return "old epoch"
    if done:
        return "after the end"
    if envelope["seq"] != seq + 1 or envelope["prev"] != tip:
        return "not the tip"
    return None


def at_home(envelope: Envelope, partition: int, partitions: int) -> bool:
    """Asked of a run's first event; the others extend a tip, which only its home partition has.

    A subject that is no run id is at home nowhere.
    """
    subject: str = envelope["subject"]
    return RUN_ID.match(subject) is not None and home(subject, partitions) == partition


def is_taken(envelope: Envelope) -> bool:
    """Whether the record speaks of the partition and not of a run."""
    return envelope["type"] == PARTITION_TAKEN  # type: ignore[no-any-return]
