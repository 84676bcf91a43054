"""A projection as people look at it: how far it is, its rebuild; and what they do with it from afar."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from projections import rebuild
from projections.board import PROJECTION, Part, Rebuild
from projections.progress import Progress
from projections.rows import PROJECTION_VERSION
from projections.tables import Tables
from schemas.ports import TP, Reader
from schemas.settings import Settings


class SharedProjection:
    """The projection in tables that processes share. Each call raises StoreAway and BrokerAway."""

    def __init__(self, settings: Settings, store: Tables, reader: Reader) -> None:
        self._settings, self._store, self._reader = settings, store, reader

    async def overview(self) -> dict[str, Any]:
        """As `overview` says."""
        return await overview(self._settings, self._store, self._reader)

    async def rebuild(self, by: str) -> dict[str, Any]:
        """Have it rebuilt; the rebuild that runs now. Raises RebuildOfAnother."""
        return rebuild_view(await rebuild.request(self._store, by))

    async def cancel(self) -> dict[str, Any] | None:
        """End the rebuild that runs; None when there is none."""
        cancelled = await rebuild.cancel(self._store)
        return None if cancelled is None else rebuild_view(cancelled)


async def overview(settings: Settings, store: Tables, reader: Reader) -> dict[str, Any]:
    """{name, version, code_version, state, behind, quarantined, partitions, rebuild, old_tables}; `behind`: events of the log
    that the tables do not hold, and `partitions` where each stands; `quarantined`: runs that are set aside; `state`: "live",
    "rebuilding", or "other version" where the tables are not those of this program; `old_tables`: whether those that the last
    rebuild replaced are still there."""
    (last, now_s), version = await store.board().look(), await store.projection_version()
    running = last is not None and not last.ended
    partitions = await _partitions(settings, store, reader)
    return {
        "name": PROJECTION,
        "version": version,
        "code_version": PROJECTION_VERSION,
        "state": "rebuilding" if running else "live" if version in (None, PROJECTION_VERSION) else "other version",
        "quarantined": await store.count_set_aside(),
        "behind": sum(each["behind"] for each in partitions),
        "partitions": partitions,
        "rebuild": None if last is None else rebuild_view(last, now_s),
        "old_tables": await store.has_old(),
    }


async def events_behind(settings: Settings, store: Tables, reader: Reader) -> int:
    """Events of the log that the tables do not hold yet."""
    return sum(each["behind"] for each in await _partitions(settings, store, reader))


async def _partitions(settings: Settings, store: Tables, reader: Reader) -> list[dict[str, int]]:
    """{partition, position, behind} of each: events of the log that the tables hold, and that they do not."""
    tps = [TP(settings.topics.events, number) for number in range(settings.workflow_partitions)]
    ends, stands = await reader.end_offsets(tps), await store.positions()
    found = []
    for tp in tps:
        position = stands.get(("e", tp.partition), 0)
        found.append({"partition": tp.partition, "position": position, "behind": max(0, ends[tp] - position)})
    return found


def rebuild_view(one: Rebuild, now_s: float | None = None) -> dict[str, Any]:
    """A rebuild for people: phase, numbers, report. `events_per_s`: until all was folded for the first time, while somebody
    worked on it; `eta_s`: until then, None where it cannot be told."""
    now_s = now_s or time.time()
    progress = Progress(one.events if one.folded_s else one.done, one.total, one.worked_s(now_s))
    owners = one.workers(now_s)
    return {
        "id": one.id,
        "phase": one.phase,
        "by": one.by,
        "version": one.version,
        "started_at": _time(one.started_s),
        "folded_at": _time(one.folded_s),
        "ended_at": _time(one.ended_s),
        "events": one.done,
        "total": one.total,
        "events_per_s": round(progress.events_per_s),
        "eta_s": _rounded(progress.eta_s) if one.phase == "folding" and owners else None,
        "workers": len(owners),
        "partitions": [_part(number, part, owners) for number, part in enumerate(one.parts)],
        "report": None if one.report is None else one.report.told(),
        "error": one.error,
    }


def _part(number: int, part: Part, owners: Collection[str]) -> dict[str, Any]:
    """How far a partition of the second set is; `owners` work on it."""
    owner = None if part.claim is None or part.claim.owner not in owners else part.claim.owner
    return {"partition": number, "events": part.position, "total": max(part.end, part.position), "worker": owner}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _time(at_s: float | None) -> str | None:
    if at_s is None:
        return None
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
