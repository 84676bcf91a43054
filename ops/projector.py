"""A projector process."""

from __future__ import annotations

import asyncio

from api.ports import Component, ReadyReport
from ops.member import run_member
from ops.roles import until_there
from projections.projector import Projector
from projections.stores import open_store
from schemas.settings import Settings
from streams.kafka import LogReader
from streams.topics import ensure_topics

LAG_S_MAX = 10.0


async def projector(settings: Settings, stop: asyncio.Event) -> int:
    """Run one projector until `stop`; 0, or the code of what ended it."""
    store = open_store(settings)
    reader = LogReader(settings)
    try:
        await until_there(lambda: ensure_topics(settings), stop, "the topics are not there yet")
        await until_there(store.migrate, stop, "the tables are not there yet")
        if stop.is_set():
            return 0
        one = Projector(settings, store, reader)
        try:
            return await run_member(
                settings,
                one,
                group=settings.workflow_projector_group,
                reader=reader,
                excused=one.excused,
                report=lambda: _report(one, stop),
                leave=stop,
            )
        finally:
            await one.close()
    finally:
        await reader.close()
        await store.close()


def _report(one: Projector, stop: asyncio.Event) -> ReadyReport:
    """What `/ready` of a projector says."""
    status = one.status()
    lag = sum(lane.lag for lane in status.values())
    waits = [f"partition {number}: {lane.waits}" for number, lane in status.items() if lane.waits]
    stopped = [f"partition {number}: {lane.stopped}" for number, lane in status.items() if lane.stopped]
    loading = [number for number, lane in status.items() if not lane.loaded]
    components = {
        "partitions": Component("degraded" if loading else "ok", f"has {len(status)}, {len(loading)} not loaded"),
        "store": Component("degraded", waits[0]) if waits else Component("ok"),
        "projection": Component("ok", f"{lag} events behind the log"),
        "log": Component("degraded", stopped[0]) if stopped else Component("ok"),
        "orphans": Component("ok", ", ".join(f"{why}: {count}" for why, count in one.orphans().items())),
    }
    well = all(component.state == "ok" for component in components.values())
    return ReadyReport(not stop.is_set(), "draining" if stop.is_set() else "ready" if well else "degraded", components)
