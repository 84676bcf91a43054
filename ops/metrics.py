"""What workers and projectors know, as samples for /metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from api.metrics import Sample
from ops.watch import ENDED
from projections.lane import STARTED
from projections.projector import Projector
from streams.worker import Worker

_STATS: Final[Mapping[str, str]] = {
    "workflow_takeovers_total": "takeovers",
    "workflow_events_appended_total": "appended",
    "workflow_appends_unknown_total": "unknown_appends",
    "workflow_producers_lost_total": "producers_lost",
    "workflow_commands_rejected_total": "rejected",
}


def of_worker(one: Worker) -> Iterator[Sample]:
    """The engine's counters, and its partitions."""
    engine = one.engine
    yield from (Sample(name, engine.stats[stat]) for name, stat in _STATS.items())
    yield Sample("workflow_effects_running", len(engine.running))
    yield Sample("workflow_effects_limit", engine.limits.effects_max)
    yield Sample("workflow_clock_skew_seconds", one.skew_s)
    yield Sample("workflow_partitions_assigned", sum(part.assigned for part in engine.partitions.values()))
    yield Sample("workflow_partitions_owned", sum(part.owner for part in engine.partitions.values()))
    for number, part in engine.partitions.items():
        if part.owner:
            yield Sample("workflow_runs_unfinished", len(part.runs), (str(number),))
            yield Sample("workflow_commands_held", len(part.held), (str(number),))
        yield from _orphans(number, part.orphans)


def of_projector(one: Projector) -> Iterator[Sample]:
    """Its partitions, and the runs that it brought into the tables."""
    yield Sample("workflow_runs_started_total", one.counts[STARTED])
    yield from (Sample("workflow_runs_ended_total", one.counts[status], (status,)) for status in sorted(ENDED))
    for number, lane in one.status().items():
        yield Sample("workflow_projection_position", lane.position, (str(number),))
        yield from _orphans(number, lane.orphans)


def _orphans(number: int, orphans: Mapping[str, int]) -> Iterator[Sample]:
    for reason, count in orphans.items():
        yield Sample("workflow_orphans_total", count, (str(number), reason))
