"""One API process, put together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from api.app import build_app
from api.commands import KafkaCommandSender
from api.guard import guard
from api.health import ApiHealth
from api.http_server import HttpServer, bind
from api.ids import new_id
from api.ports import Deps
from projections.overview import SharedProjection
from projections.tables import Tables
from schemas.settings import Settings
from streams.catalog_reader import CatalogReader
from streams.folding import FoldedTopic
from streams.kafka import LogReader
from streams.key_reader import KeyReader
from streams.owners import Owners

log = logging.getLogger(__name__)


async def serve(
    settings: Settings,
    store: Tables,
    stop: asyncio.Event,
    *,
    prepared: asyncio.Event | None = None,
    listening: Callable[[str], None] = lambda _: None,
) -> int:
    """Serve until `stop` is set; 0. Raises BadSetting when the port cannot be had, or may not be without keys.

    /ready says "starting" until Kafka and the store have answered once and `prepared`, if given, is set: topics and
    tables are made, a store without a projector is level. `listening` is told the address. The store stays open.
    """
    socket = bind(settings.api_host, settings.api_port, setting="API_PORT")
    guard(socket, settings)
    sender = KafkaCommandSender(settings)
    catalog = CatalogReader(settings, sender.append, clock=time.time)
    keys = KeyReader(settings, sender.append, clock=time.time) if settings.workflow_auth == "keys" else None
    topics: list[FoldedTopic] = [catalog] if keys is None else [catalog, keys]
    async with LogReader(settings, bound_s=5.0) as reader:
        health = ApiHealth(
            settings,
            store=store,
            reader=reader,
            catalog=catalog,
            keys=keys,
            sender=sender,
            prepared=prepared,
            stop=stop,
        )
        owners = Owners(settings, reader)
        projection = None if settings.storage_backend == "memory" else SharedProjection(settings, store, reader)
        app = build_app(
            Deps(settings, store, catalog, sender, health, time.time, new_id, keys, projection, owners=owners)
        )
        server = HttpServer(app, socket, grace_s=settings.workflow_stop_grace_s)
        sender.start()
        for topic in topics:
            topic.start()
        background = [asyncio.create_task(health.run(), name="health")]
        if keys is not None:
            background.append(asyncio.create_task(_settle(keys), name="keys"))
        try:
            await server.start()
            log.info("API at %s", server.address)
            listening(server.address)
            await stop.wait()
            await server.stop()
        finally:
            for task in background:
                task.cancel()
            await asyncio.wait(background)
            for topic in topics:
                await topic.stop()
            await sender.stop()
    return 0


async def _settle(keys: KeyReader) -> None:
    """Know the keys, and say so if there is none that lets anybody in."""
    await keys.settle()
    if keys.levelled and not any(key.usable for key in keys.all()):
        log.warning("There is no API key yet that may be used: make one with `workflow keys create`")
