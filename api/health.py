"""What an API process knows of itself and of what it depends on. Asked in the background, so that a probe waits for nobody."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final

from api.commands import KafkaCommandSender
from api.ports import Component, ReadyReport
from schemas.errors import WorkflowError
from schemas.ports import TP, Reader
from schemas.position import Position, reached
from schemas.settings import Settings
from schemas.store import ReadStore
from streams.catalog_reader import CatalogReader
from streams.key_reader import KeyReader

log = logging.getLogger(__name__)

PULSE_S: Final = 1.0
BEHIND_S: Final = 10.0
"""A projection that lags for longer shows as degraded."""
_SAMPLES_MAX: Final = 120


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
        self._ahead: deque[tuple[float, Position]] = deque()  # ends that the tables have not reached, oldest first
        self._records_behind = 0

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._ask_log()
            await self._ask_store()  # after the log, so that tables which are level are seen to be
            self._kafka_seen = self._kafka_seen or (self._sender.away is None and self._catalog.away is None)
            await asyncio.sleep(PULSE_S)

    def report(self) -> ReadyReport:
        """Ready from the first answer of Kafka and of the store until the stop; what is away later only degrades."""
        components = {
            "kafka": self._kafka(),
            "store": _component(self._store_away, seen=self._store_seen),
            "projection": self._projection(),
        }
        if self._keys is not None:
            components["keys"] = _component(_trouble(self._keys), seen=self._keys.levelled)
        if self._stop.is_set():
            return ReadyReport(ready=False, status="draining", components=components)
        if not (self._kafka_seen and self._store_seen and self._is_prepared()):
            return ReadyReport(ready=False, status="starting", components=components)
        sound = all(component.state == "ok" for component in components.values())
        return ReadyReport(ready=True, status="ready" if sound else "degraded", components=components)

    def _is_prepared(self) -> bool:
        """Topics and tables are there, and a key that was made before the start is known."""
        keys_known = self._keys is None or self._keys.levelled
        return keys_known and (self._prepared is None or self._prepared.is_set())

    def _kafka(self) -> Component:
        return _component(self._sender.away or self._catalog.away, seen=self._kafka_seen)

    def _projection(self) -> Component:
        if not self._store_seen or self._ends_away is not None:
            return Component("unknown", self._ends_away or "")
        if not self._ahead:
            return Component("ok", "level with the log")
        behind_s = time.monotonic() - self._ahead[0][0]
        state = "degraded" if behind_s > BEHIND_S or self._store_away is not None else "ok"
        return Component(state, f"{self._records_behind} records and {behind_s:.0f} s behind the log")

    async def _ask_store(self) -> None:
        try:
            at = await self._store.positions()
        except WorkflowError as error:
            self._store_away = error.message
            return
        self._store_seen, self._store_away = True, None
        while self._ahead and reached(at, self._ahead[0][1]):
            self._ahead.popleft()
        if self._ahead:
            newest = self._ahead[-1][1]
            self._records_behind = sum(max(0, end - at.get(place, 0)) for place, end in newest.items())

    async def _ask_log(self) -> None:
        topics, partitions = self._settings.topics, range(self._settings.workflow_partitions)
        tps = {TP(topics.events, n): ("e", n) for n in partitions} | {
            TP(topics.trigger, n): ("t", n) for n in partitions
        }
        try:
            ends = await self._reader.end_offsets(tps)
        except WorkflowError as error:
            self._ends_away = error.message
            return
        self._ends_away = None
        if len(self._ahead) < _SAMPLES_MAX:
            self._ahead.append((time.monotonic(), {tps[tp]: end for tp, end in ends.items()}))


def _trouble(keys: KeyReader) -> str | None:
    """Why callers cannot be let in, or why news of keys does not come."""
    if keys.failure is not None:
        return keys.failure.message
    return keys.away if keys.levelled else f"{keys.topic} is not read to its end yet"


def _component(away: str | None, *, seen: bool) -> Component:
    if away is None:
        return Component("ok")
    return Component("degraded" if seen else "unknown", away)
