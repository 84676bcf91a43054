"""An API process."""

from __future__ import annotations

import asyncio

from api.server import serve
from ops.roles import until_there
from projections.stores import open_store
from projections.tables import Tables
from schemas.settings import Settings
from streams.topics import ensure_topics


async def api(settings: Settings, stop: asyncio.Event) -> int:
    """Serve until `stop`. The socket is open at once; /ready says "starting" until topics and tables are there."""
    store = open_store(settings)
    preparing = asyncio.ensure_future(_prepare(settings, store, stop))
    try:
        code = await serve(settings, store, stop)
        if preparing.done() and (failure := preparing.exception()) is not None:
            raise failure
        return code
    finally:
        preparing.cancel()
        await asyncio.wait({preparing})
        await store.close()


async def _prepare(settings: Settings, store: Tables, stop: asyncio.Event) -> None:
    """Make what is missing. What cannot be mended by waiting stops the process."""
    try:
        await until_there(lambda: ensure_topics(settings), stop, "the topics are not there yet")
        await until_there(store.migrate, stop, "the tables are not there yet")
    except Exception:
        stop.set()
        raise
