"""An API process."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from api.server import serve
from ops.roles import until_there
from projections.follower import Follower
from projections.stores import open_store
from projections.tables import Tables
from schemas.settings import Settings
from streams.following import TopicFollower
from streams.topics import ensure_topics


async def api(settings: Settings, stop: asyncio.Event) -> int:
    """Serve until `stop`. The socket is open at once; /ready says "starting" until topics and tables are there."""
    store, prepared = open_store(settings), asyncio.Event()
    preparing = asyncio.ensure_future(_prepare(settings, store, prepared, stop))
    try:
        code = await serve(settings, store, stop, prepared=prepared)
        if preparing.done() and (failure := preparing.exception()) is not None:
            raise failure
        return code
    finally:
        preparing.cancel()
        await asyncio.wait({preparing})
        await store.close()


async def _prepare(settings: Settings, store: Tables, prepared: asyncio.Event, stop: asyncio.Event) -> None:
    """Make what is missing. What cannot be mended by waiting stops the process."""
    try:
        await until_there(lambda: ensure_topics(settings), stop, "the topics are not there yet")
        await until_there(store.migrate, stop, "the tables are not there yet")
        if settings.storage_backend == "memory":
            await _follow(settings, store, prepared, stop)
        elif not stop.is_set():
            prepared.set()
    except Exception:
        stop.set()
        raise


async def _follow(settings: Settings, store: Tables, prepared: asyncio.Event, stop: asyncio.Event) -> None:
    """A store in memory has no projector: fold the topics here, ready as soon as what stood there is in it."""
    async with aclosing(TopicFollower(settings)) as source:
        follower = Follower(settings, store, source)
        following = asyncio.ensure_future(follower.run())
        levelling = asyncio.ensure_future(until_there(follower.level, stop, "the log is not read to its end yet"))
        try:
            await asyncio.wait({following, levelling}, return_when=asyncio.FIRST_COMPLETED)
            if levelling.done() and not stop.is_set():
                levelling.result()
                prepared.set()
            await following
        finally:
            for task in (following, levelling):
                task.cancel()
            await asyncio.wait({following, levelling})
