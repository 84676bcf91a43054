"""One API process, put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from api.app import build_app
from api.commands import KafkaCommandSender
from api.health import ApiHealth
from api.http_server import HttpServer, bind
from api.ids import new_id
from api.ports import Deps
from schemas.settings import Settings
from schemas.store import ReadStore
from streams.catalog_reader import CatalogReader
from streams.kafka import LogReader

log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    store: ReadStore,
    stop: asyncio.Event,
    *,
    prepared: asyncio.Event | None = None,
    listening: Callable[[str], None] = lambda _: None,
) -> int:
    """Serve until `stop` is set; 0. Raises BadSetting when the port cannot be had.

    /ready says "starting" until Kafka and the store have answered once and `prepared`, if given, is set: topics and
    tables are made, a store without a projector is level. `listening` is told the address. The store stays open.
    """
    socket = bind(settings.api_host, settings.api_port, setting="API_PORT")
    sender = KafkaCommandSender(settings)
    catalog = CatalogReader(settings, sender.append, clock=time.time)
    async with LogReader(settings, bound_s=5.0) as reader:
        health = ApiHealth(
            settings, store=store, reader=reader, catalog=catalog, sender=sender, prepared=prepared, stop=stop
        )
        app = build_app(Deps(settings, store, catalog, sender, health, time.time, new_id))
        server = HttpServer(app, socket, grace_s=settings.workflow_stop_grace_s)
        sender.start()
        catalog.start()
        pulse = asyncio.create_task(health.run(), name="health")
        try:
            await server.start()
            log.info("API at %s", server.address)
            listening(server.address)
            await stop.wait()
            await server.stop()
        finally:
            pulse.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await pulse
            await catalog.stop()
            await sender.stop()
    return 0
