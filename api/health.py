"""What an API process knows of itself and of what it depends on. Asked in the background, so that a probe waits for nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

from api.commands import KafkaCommandSender
from api.ports import Component, ReadyReport
from api.probes import behind
from projections.lag import Lag, LagWatch, look_up_age
from schemas.errors import WorkflowError
from schemas.ports import TP, Reader
from schemas.settings import Settings
from schemas.store import ReadStore
from streams.catalog_reader import CatalogReader
from streams.key_reader import KeyReader

log = logging.getLogger(__name__)

PULSE_S: Final = 1.0


class ApiHealth:
    """`run` it as a task; `report` is what /ready says."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: ReadStore,
        reader: Reader,
        catalog: CatalogReader,
        sender: KafkaCommandSender,
        prepared: asyncio.Event | None,
        stop: asyncio.Event,
        keys: KeyReader | None = None,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._store, self._reader, self._catalog, self._sender = store, reader, catalog, sender
        self._prepared, self._stop = prepared, stop
        self._kafka_seen = self._store_seen = False
        self._store_away: str | None = "not asked yet"
        self._ends_away: str | None = "not asked yet"
        self._watch = LagWatch()
        self._quarantined: int | None = None
        topics, numbers = settings.topics, range(settings.workflow_partitions)
        self._places = {
            TP(topic, n): (letter, n)
            for letter, topic in (("e", topics.events), ("t", topics.trigger))
            for n in numbers
        }

    async def run(self) -> None:
        """Ask until cancelled. The log is looked at also while the store hangs: the ages of what comes hang on it."""
        asking: asyncio.Future[None] | None = None
        try:
            while True:
                await self._ask_log()
                if asking is None or asking.done():
                    asking = asyncio.ensure_future(self._ask_store())
                await asyncio.wait({asking}, timeout=PULSE_S)  # after the log, so that level tables are seen to be
                if asking.done():
                    asking.result()
                if self._settings.storage_backend == "memory":  # elsewhere projectors do, who may read the events
                    self._quarantined = await self._store.count_set_aside()
                    await look_up_age(self._watch, self._reader, self._settings.topics.events)
                self._kafka_seen = self._kafka_seen or (self._sender.away is None and self._catalog.away is None)
                await asyncio.sleep(PULSE_S)
        finally:
            if asking is not None:
                asking.cancel()

    def report(self) -> ReadyReport:
        """Ready from the first answer of Kafka and of the store until the stop; what is away later only degrades."""
        lags = self._watch.lags(time.monotonic())
        events = {place[1]: lag for place, lag in lags.items() if place[0] == "e"}
        components = {
            "kafka": self._kafka(),
            "store": _component(self._store_away, seen=self._store_seen),
            "projection": self._projection(list(lags.values())),
        }
        if self._keys is not None:
            components["keys"] = _component(_trouble(self._keys), seen=self._keys.levelled)
        stopping = self._stop.is_set()
        ready = not stopping and self._kafka_seen and self._store_seen and self._is_prepared()
        sound = all(component.state == "ok" for component in components.values())
        status = "draining" if stopping else "starting" if not ready else "ready" if sound else "degraded"
        return ReadyReport(ready, status, components, events, self._quarantined)

    def _is_prepared(self) -> bool:
        """Topics and tables are there, and a key that was made before the start is known."""
        keys_known = self._keys is None or self._keys.levelled
        return keys_known and (self._prepared is None or self._prepared.is_set())

    def _kafka(self) -> Component:
        return _component(self._sender.away or self._catalog.away, seen=self._kafka_seen)

    def _projection(self, lags: Sequence[Lag]) -> Component:
        if not self._store_seen or self._ends_away is not None:
            return Component("unknown", self._ends_away or "")
        return behind(lags, store_away=self._store_away is not None)

    async def _ask_store(self) -> None:
        try:
            at = await self._store.positions()
        except WorkflowError as error:
            self._store_away = error.message
            return
        self._store_seen, self._store_away = True, None
        self._watch.tables({place: at.get(place, 0) for place in self._places.values()})

    async def _ask_log(self) -> None:
        try:
            ends = await self._reader.end_offsets(self._places)
        except WorkflowError as error:
            self._ends_away = error.message
            return
        self._ends_away = None
        self._watch.ends({self._places[tp]: end for tp, end in ends.items()}, time.monotonic())


def _trouble(keys: KeyReader) -> str | None:
    """Why callers cannot be let in, or why news of keys does not come."""
    if keys.failure is not None:
        return keys.failure.message
    return keys.away if keys.levelled else f"{keys.topic} is not read to its end yet"


def _component(away: str | None, *, seen: bool) -> Component:
    if away is None:
        return Component("ok")
    return Component("degraded" if seen else "unknown", away)
