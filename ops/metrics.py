"""What workers and projectors know, as samples for /metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Final

from api.metrics import Sample
from ops.watch import ENDED
from projections.lane import STARTED
from projections.projector import Projector
from projections.verifying import Verifying
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


def of_projector(one: Projector, verifying: Verifying) -> Iterator[Sample]:
    """Its partitions, the runs that it brought into the tables, and what verifying them has found."""
    yield Sample("workflow_runs_started_total", one.counts[STARTED])
    yield from (Sample("workflow_runs_ended_total", one.counts[status], (status,)) for status in sorted(ENDED))
    if one.quarantined is not None:
        yield Sample("workflow_runs_quarantined", one.quarantined)
    for number, lane in one.status().items():
        yield Sample("workflow_projection_position", lane.position, (str(number),))
        yield from _orphans(number, lane.orphans)
    now_s = time.monotonic()
    for number, known in verifying.status().items():
        yield Sample("workflow_projection_drift", len(known.differing), (str(number),))
        yield Sample("workflow_projection_verified_age_seconds", known.age_s(now_s), (str(number),))
        yield Sample("workflow_projection_verified_events_total", known.events, (str(number),))


def _orphans(number: int, orphans: Mapping[str, int]) -> Iterator[Sample]:
    for reason, count in orphans.items():
        yield Sample("workflow_orphans_total", count, (str(number), reason))
