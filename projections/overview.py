"""A projection as people look at it: how far it is, its rebuild, what it has set aside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from projections.board import PROJECTION, Rebuild
from projections.rows import PROJECTION_VERSION
from projections.tables import Tables
from schemas.ports import TP, Reader
from schemas.settings import Settings


async def overview(settings: Settings, store: Tables, reader: Reader) -> dict[str, Any]:
    """{name, version, code_version, state, behind, rebuild}; `behind`: events of the log that the tables do not hold;
    `state`: "live", "rebuilding", or "other version" where the tables are not those of this program."""
    tps = [TP(settings.topics.events, number) for number in range(settings.workflow_partitions)]
    ends, stands = await reader.end_offsets(tps), await store.positions()
    rebuild, version = await store.board().read(), await store.projection_version()
    running = rebuild is not None and not rebuild.ended
    return {
        "name": PROJECTION,
        "version": version,
        "code_version": PROJECTION_VERSION,
        "state": "rebuilding" if running else "live" if version == PROJECTION_VERSION else "other version",
        "behind": sum(max(0, end - stands.get(("e", tp.partition), 0)) for tp, end in ends.items()),
        "rebuild": None if rebuild is None else rebuild_view(rebuild),
    }


def rebuild_view(rebuild: Rebuild) -> dict[str, Any]:
    """A rebuild for people: phase, numbers, report. `events_per_s` until all was folded for the first time."""
    folded = rebuild.events if rebuild.folded_s else rebuild.done
    return {
        "id": rebuild.id,
        "phase": rebuild.phase,
        "by": rebuild.by,
        "version": rebuild.version,
        "started_at": _time(rebuild.started_s),
        "folded_at": _time(rebuild.folded_s),
        "ended_at": _time(rebuild.ended_s),
        "events": rebuild.done,
        "total": rebuild.total,
        "folded": folded,
        "workers": len(
            {part.claim.owner for part in rebuild.parts if part.claim} | ({rebuild.one.owner} if rebuild.one else set())
        ),
        "report": None
        if rebuild.report is None
        else {
            "equal": rebuild.report.equal,
            "differing": rebuild.report.differing,
            "missing": rebuild.report.missing,
            "extra": rebuild.report.extra,
            "differences": [each._asdict() for each in rebuild.report.differences],
        },
        "error": rebuild.error,
    }


def _time(at_s: float | None) -> str | None:
    return (
        None
        if at_s is None
        else datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
