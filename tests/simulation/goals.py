"""What must have happened when a simulation is at rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.checker import Judge
from tests.reader import Raw
from tests.simulation.world import Cluster


def at_rest(cluster: Cluster) -> bool:
    """Nothing flies, is read, asked, held or unannounced, and both offsets are committed."""
    busy = cluster.flying or any(worker.answers or worker.effects for worker in cluster.workers.values())
    return not busy and all(_idle(cluster, number) for number in cluster.log)


def _idle(cluster: Cluster, number: int) -> bool:
    worker = cluster.workers.get(cluster.owner[number])
    part = worker.engine.partitions.get(number) if worker is not None else None
    if part is None or not part.owner or part.runs or part.out or part.held or part.ends or part.unjudged:
        return False
    return cluster.committed[number] == (len(cluster.commands[number]), len(cluster.log[number]))


def check(cluster: Cluster, accepted: Mapping[str, Any]) -> Judge:
    """Every accepted run ended once and was announced, as the log has it; owner and truth agree; the history is sound.

    `accepted`: run id → payload of its first start.
    """
    for number, truth in cluster.truth.items():
        owner = cluster.workers[cluster.owner[number]].engine.partitions[number]
        assert owner.mine == truth.reader.epoch, f"L1: partition {number} has no owner"
    log = {n: [Raw(r.offset, r.timestamp, r.key, r.value) for r in records] for n, records in cluster.log.items()}
    told = {0: [Raw(n, 0, _subject(value), value) for n, value in enumerate(cluster.completed)]}
    judge = Judge({"workflow.events": log, "workflow.completed": told})
    judge.check_accepted(accepted)
    judge.check_announcements()
    assert not judge.violations, judge.violations[0]
    return judge


def _subject(value: bytes) -> bytes:
    return value.split(b'"subject":"', 1)[1].split(b'"', 1)[0]
