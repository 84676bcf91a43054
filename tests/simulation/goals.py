"""What must have happened when a simulation is at rest, and what must be so of any log that it leaves."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from projections.fold import PartitionFold
from schemas.events import decode, time_s
from tests.checker import Judge
from tests.histories import LogRecord
from tests.reader import Raw
from tests.simulation.tables import CLUSTER
from tests.simulation.truth import Truth
from tests.simulation.world import Cluster


def unrest(cluster: Cluster, besides: Container[str] = ()) -> str:
    """What is not yet as it must be in the end, "" at rest. `besides`: producers of which nothing more is expected for now."""
    if any(flight.producer not in besides for flight in cluster.flying):
        return "L3: records are on their way"
    for name, worker in cluster.workers.items():
        if worker.answers or worker.effects:
            return f"L3: {name} waits for {[answer.name for answer in worker.answers][:9]}, {list(worker.effects)}"
    return next((why for number in cluster.log if (why := _unrest(cluster, number))), "")


def _unrest(cluster: Cluster, number: int) -> str:
    worker = cluster.workers.get(cluster.owner[number])
    part = worker.engine.partitions.get(number) if worker is not None else None
    if part is None or not part.owner:
        return f"L1: nobody owns partition {number}"
    commands, events = cluster.committed[number]
    undone = {
        "L3: outstanding": part.out,
        "L2: held": part.held,
        "L4: unfinished": part.runs,
        "L5: unannounced": part.ends or part.unjudged,
        "L2: not committed": commands < len(cluster.commands[number]),
        "L5: not committed": events < len(cluster.log[number]),
    }
    return next((f"{what} in partition {number}" for what, left in undone.items() if left), "")


def check(cluster: Cluster, accepted: Mapping[str, Any]) -> Judge:
    """Every accepted run ended once and was announced, as the log has it; owner and truth agree; the history is sound.

    `accepted`: run id → payload of its first start.
    """
    for number, truth in cluster.truth.items():
        owner = cluster.workers[cluster.owner[number]].engine.partitions[number]
        assert owner.mine == truth.reader.epoch, f"L1: partition {number} has no owner"
    judge = check_safety(cluster, ended=True)
    judge.check_accepted(accepted)
    judge.check_announcements()
    assert not judge.violations, judge.violations[0]
    return judge


def check_safety(cluster: Cluster, *, ended: bool = False) -> Judge:
    """The history is sound, and the projector, which reads from the first record on, finds the same facts in it."""
    log = {n: [_judged(cluster, record) for record in records] for n, records in cluster.log.items()}
    told = {0: [Raw(n, 0, _subject(value), value) for n, value in enumerate(cluster.completed)]}
    judge = Judge({"workflow.events": log, "workflow.completed": told}, ended=ended)
    assert not judge.violations, judge.violations[0]
    for number, truth in cluster.truth.items():
        fold = PartitionFold(number, cluster.partitions, CLUSTER)
        taken = fold.take(cluster.log[number], dict.fromkeys(truth.reader.tips))
        facts = {row.offset for row in fold.batch().history}
        assert taken == len(truth.verdicts), f"S1: the projector waits in {number} at {taken}"
        for offset, verdict in enumerate(truth.verdicts):
            assert verdict or offset in facts or offset in _takings(truth), (
                f"S1: the projector passes over {number}/{offset}"
            )
            assert not verdict or offset not in facts, f"S1: the projector takes {number}/{offset}, which is {verdict}"
        runs = {run.id: run.dump() for run in fold.runs.values()}
        assert (fold.epoch, runs) == (truth.states[-1].epoch, truth.states[-1].runs), (
            f"S1: the projector differs in {number}"
        )
    return judge


def _takings(truth: Truth) -> set[int]:
    return {offset for offset, _ in truth.takers.values()}


def _judged(cluster: Cluster, record: LogRecord) -> Raw:
    """A record for the judge. Where clocks are off, a timer is judged by the clock of the worker in which it went off."""
    written = decode(record.value) if cluster.skewed else None
    at_ms = record.timestamp if written is None else round(time_s(written["time"]) * 1000)
    return Raw(record.offset, at_ms, record.key, record.value)


def _subject(value: bytes) -> bytes:
    return value.split(b'"subject":"', 1)[1].split(b'"', 1)[0]
