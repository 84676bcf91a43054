"""A projector process."""

from __future__ import annotations

import asyncio
import logging
from itertools import chain

from api.metrics import MetricsPage, of_report
from api.ports import Component, ReadyReport
from api.probes import behind
from api.probes_server import serve_probes
from ops.member import run_member
from ops.metrics import of_projector
from ops.rebuilding import Rebuilding
from ops.roles import until_there
from projections.projector import Projector
from projections.stores import open_store
from projections.tables import Tables
from projections.verifying import Verifying, drift
from schemas.settings import Settings
from streams.kafka import LogReader
from streams.topics import ensure_topics

log = logging.getLogger(__name__)


async def projector(settings: Settings, stop: asyncio.Event) -> int:
    """Run one projector until `stop`; 0, or the code of what ended it."""
    store = open_store(settings)
    reader = LogReader(settings)
    try:
        await until_there(lambda: ensure_topics(settings), stop, "the topics are not there yet")
        await until_there(store.migrate, stop, "the tables are not there yet")
        if stop.is_set():
            return 0
        rebuilding = Rebuilding(settings, store)
        beside = asyncio.ensure_future(rebuilding.run())
        beside.add_done_callback(_tell_end)
        try:
            await _until_ours(settings, rebuilding, stop)
            return 0 if stop.is_set() else await _project(settings, store, reader, stop)
        finally:
            beside.cancel()
            await asyncio.wait({beside})
    finally:
        await reader.close()
        await store.close()


async def _until_ours(settings: Settings, rebuilding: Rebuilding, stop: asyncio.Event) -> None:
    """Wait for tables that this release may write to. /ready says "starting": a deployment that goes step by step leaves the
    projectors of the release before in place until then."""

    def report() -> ReadyReport:
        return _waiting(rebuilding, stop)

    page = MetricsPage("projector", lambda: of_report(report()))
    probes = await serve_probes(settings.workflow_health_host, settings.workflow_health_port, report, page)
    try:
        await rebuilding.until_ours(stop)
    finally:
        await probes.stop()


def _tell_end(beside: asyncio.Task[None]) -> None:
    if not beside.cancelled() and (error := beside.exception()) is not None:
        log.critical("nothing is done for rebuilds any more", exc_info=error)


def _waiting(rebuilding: Rebuilding, stop: asyncio.Event) -> ReadyReport:
    status = "draining" if stop.is_set() else "starting"
    return ReadyReport(False, status, {"projection": Component("degraded", rebuilding.waits)})


async def _project(settings: Settings, store: Tables, reader: LogReader, stop: asyncio.Event) -> int:
    one = Projector(settings, store, reader)
    verifying = Verifying(settings, store, reader, ours=one.status, lags=one.lags)

    def report() -> ReadyReport:
        return _report(one, verifying, stop)

    beside = asyncio.ensure_future(verifying.run())
    try:
        return await run_member(
            settings,
            one,
            group=settings.workflow_projector_group,
            reader=reader,
            excused=one.excused,
            report=report,
            metrics=MetricsPage("projector", lambda: chain(of_report(report()), of_projector(one, verifying))),
            leave=stop,
        )
    finally:
        beside.cancel()
        await asyncio.wait({beside})
        await one.close()


def _report(one: Projector, verifying: Verifying, stop: asyncio.Event) -> ReadyReport:
    """What `/ready` of a projector says."""
    status = one.status()
    lags = {number: lane.lag for number, lane in status.items() if lane.lag is not None}
    waits = [f"partition {number}: {lane.waits}" for number, lane in status.items() if lane.waits]
    stopped = [f"partition {number}: {lane.stopped}" for number, lane in status.items() if lane.stopped]
    loading = [number for number, lane in status.items() if not lane.loaded]
    components = {
        "partitions": Component("degraded" if loading else "ok", f"has {len(status)}, {len(loading)} not loaded"),
        "store": Component("degraded", waits[0]) if waits else Component("ok"),
        "projection": behind(lags.values()),
        "log": Component("degraded", stopped[0]) if stopped else Component("ok"),
        "orphans": Component("ok", ", ".join(f"{why}: {count}" for why, count in one.orphans().items())),
    }
    if verifying.on:
        differs = drift(verifying.status())
        components["verify"] = Component("degraded" if differs else "ok", differs or "no difference was found")
    well = all(component.state == "ok" for component in components.values())
    said = "draining" if stop.is_set() else "ready" if well else "degraded"
    return ReadyReport(not stop.is_set(), said, components, lags)
