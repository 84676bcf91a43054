"""A member of a consumer group as a process: its life, its watchdog, its probes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from api.metrics import MetricsPage
from api.ports import ReadyReport
from api.probes_server import serve_probes
from schemas.ports import TP, BatchHandler, Group, Reader
from schemas.settings import Settings
from streams.lifecycle import GroupProgress, Watchdog, run_app
from streams.transport import build_app

ENDS_S = 2.0


class Handler(BatchHandler, Protocol):
    """What is run: it is given its group, and tells of what nobody handled."""

    on_failure: Callable[[BaseException], None]

    def connect(self, group: Group) -> None: ...

    def start(self) -> None: ...


async def run_member(
    settings: Settings,
    handler: Handler,
    *,
    group: str,
    reader: Reader,
    excused: Callable[[], Collection[TP]],
    report: Callable[[], ReadyReport],
    metrics: MetricsPage,
    leave: asyncio.Event,
) -> int:
    """Run the handler in its group on commands and events until `leave`; 0, or the code of what ended it."""
    app = build_app(settings, group=group, topics=[settings.topics.trigger, settings.topics.events], handler=handler)
    handler.connect(app.group)
    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        leave.set()

    handler.on_failure = fail
    progress = GroupProgress(app.group, reader, excused)
    dog = Watchdog(progress, stall_s=settings.workflow_watchdog_s)
    following = asyncio.ensure_future(progress.run(ENDS_S))
    probes = await serve_probes(settings.workflow_health_host, settings.workflow_health_port, report, metrics)
    dog.start()
    handler.start()
    try:
        code = await run_app(app, leave, grace_s=settings.workflow_stop_grace_s)
        return 1 if failures else code
    finally:
        dog.stop()
        following.cancel()
        await probes.stop()
