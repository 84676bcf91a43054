"""What an API process says of itself: starting, ready, degraded, draining."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from api import health as health_module
from api import probes
from api.health import ApiHealth
from api.metrics import of_report
from api.probes import ready_body
from projections.memory import MemoryStore
from schemas.errors import BrokerAway, LogMismatch, StoreAway
from schemas.ports import TP, Record
from schemas.position import Position
from schemas.settings import Settings
from streams.key_reader import KeyReader
from tests.api.world import until
from tests.feeding import feed
from tests.histories import LogRecord, random_log

SETTINGS = Settings(workflow_partitions=2)


@dataclass
class Kafka:
    """Ends of the topics, or no answer. Also what sender and catalog say of the broker."""

    away: str | None = None
    ends: dict[str, int] = field(default_factory=dict)
    age_s: float = 0.0

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        if self.away is not None:
            raise BrokerAway(address="k", reason=self.away)
        return {tp: self.ends.get(f"{tp.topic}/{tp.partition}", 0) for tp in tps}

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 0)

    async def cluster_id(self) -> str:
        return "test"

    async def read_record(self, tp: TP, offset: int) -> Record | None:
        return LogRecord(offset, round((time.time() - self.age_s) * 1000), None, b"")

    def read(self, tp: TP, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        raise NotImplementedError


class Store(MemoryStore):
    """A store that may be away, or behind."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.at: Position = {}
        self.answers = asyncio.Event()
        self.answers.set()

    async def positions(self) -> Position:
        if self.away:
            raise StoreAway(reason="down")
        await self.answers.wait()
        return self.at


@dataclass
class Process:
    kafka: Kafka = field(default_factory=Kafka)
    store: Store = field(default_factory=Store)
    prepared: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    keys: KeyReader | None = None
    settings: Settings = SETTINGS

    def __post_init__(self) -> None:
        asks = cast("Any", self.kafka)
        self.health = ApiHealth(
            self.settings,
            store=self.store,
            reader=self.kafka,
            catalog=asks,
            sender=asks,
            prepared=self.prepared,
            stop=self.stop,
            keys=self.keys,
        )

    @property
    def status(self) -> tuple[bool, str]:
        report = self.health.report()
        return report.ready, report.status

    def part(self, name: str) -> tuple[str, str]:
        component = self.health.report().components[name]
        return component.state, component.detail


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Process]:
    monkeypatch.setattr(health_module, "PULSE_S", 0.005)
    process = Process()
    task = asyncio.create_task(process.health.run())
    yield process
    task.cancel()
    await asyncio.wait([task])


async def test_a_process_is_starting_until_everything_has_answered_once(process: Process) -> None:
    """Kafka, the store, and whatever has to be prepared."""
    process.kafka.away, process.store.away = "no route", True
    assert process.status == (False, "starting")
    process.kafka.away = None
    await until(lambda: process.part("kafka")[0] == "ok")
    assert process.status == (False, "starting")
    process.store.away = False
    await until(lambda: process.part("store")[0] == "ok")
    assert process.status == (False, "starting")
    process.prepared.set()
    await until(lambda: process.status == (True, "ready"))


async def test_where_keys_are_asked_for_it_is_starting_until_they_are_known(process: Process) -> None:
    """Then what keeps news of them away degrades, and a topic that is another one is told by its name."""
    keys = process.keys = KeyReader(SETTINGS, clock=lambda: 0.0)
    process.__post_init__()
    task = asyncio.create_task(process.health.run())
    try:
        process.prepared.set()
        await until(lambda: process.part("store")[0] == "ok")
        assert process.status == (False, "starting")
        assert process.part("keys") == ("unknown", "workflow.keys is not read to its end yet")
        keys.levelled, keys.away = True, None
        await until(lambda: process.status == (True, "ready"))
        keys.away = "no route"
        assert process.part("keys") == ("degraded", "no route")
        keys.fail(LogMismatch(partition=0, topic="workflow.keys", reason="it ends at 0"))
        assert "start the process again" in process.part("keys")[1]
        assert process.status == (True, "degraded")
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_what_is_away_later_degrades_only(process: Process) -> None:
    """Ready stays true: all replicas must not drop at once. The component says why."""
    process.prepared.set()
    await until(lambda: process.status == (True, "ready"))
    process.kafka.away, process.store.away = "no route", True
    await until(lambda: process.part("kafka") == ("degraded", "no route") and process.part("store")[0] == "degraded")
    assert process.status == (True, "degraded")
    process.kafka.away, process.store.away = None, False
    await until(lambda: process.status == (True, "ready"))


async def test_a_projection_that_is_behind_shows_by_how_much(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """In records and seconds; degraded past the bound; level again when the tables have caught up."""
    process.prepared.set()
    process.kafka.ends = {"workflow.events/0": 7, "workflow.trigger/1": 3}
    process.store.at = {("e", 0): 5, ("t", 1): 3}
    await until(lambda: process.part("projection")[1].startswith("2 records"))
    monkeypatch.setattr(probes, "BEHIND_S", 0.0)
    assert process.part("projection")[0] == "degraded"
    assert process.status == (True, "degraded")
    process.store.at = {("e", 0): 7, ("t", 1): 3}
    await until(lambda: process.part("projection") == ("ok", "level with the log"))


async def test_tables_of_its_own_tell_how_many_runs_are_set_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No projector counts them elsewhere; where tables are shared, one does."""
    monkeypatch.setattr(health_module, "PULSE_S", 0.005)
    log = random_log(24, partitions=1, runs=20)
    for backend in ("memory", "postgres"):
        process = Process(settings=SETTINGS.model_copy(update={"storage_backend": backend}))
        process.prepared.set()
        await feed(process.store, log)
        task = asyncio.create_task(process.health.run())
        await until(lambda process=process: process.health.report().ready)  # type: ignore[misc]
        samples = {sample.name: sample.value for sample in of_report(process.health.report())}
        expected = len(await process.store.set_aside("", limit=100)) if backend == "memory" else None
        assert samples.get("workflow_runs_quarantined") == expected != 0
        task.cancel()
        await asyncio.wait([task])


async def test_the_log_is_looked_at_while_the_store_hangs(process: Process) -> None:
    """Records that come meanwhile are counted, each from when it came."""
    process.prepared.set()
    await until(lambda: process.part("projection") == ("ok", "level with the log"))
    process.store.answers.clear()
    process.kafka.ends = {"workflow.events/0": 2}
    await until(lambda: process.part("projection")[1].startswith("2 records"))
    process.kafka.ends = {"workflow.events/0": 5}
    await until(lambda: process.part("projection")[1].startswith("5 records"))
    process.store.at = {("e", 0): 5}
    process.store.answers.set()
    await until(lambda: process.part("projection") == ("ok", "level with the log"))


@pytest.mark.parametrize(("backend", "seconds"), [("memory", 600), ("postgres", 0)])
async def test_the_lag_stands_by_partition_in_the_report(
    monkeypatch: pytest.MonkeyPatch, backend: str, seconds: int
) -> None:
    """Of the events alone. What stood there when the process began is as old as the log says, and degrades at once, where
    the process may read the log; elsewhere it counts from then."""
    monkeypatch.setattr(health_module, "PULSE_S", 0.005)
    settings = SETTINGS.model_copy(update={"storage_backend": backend})
    process = Process(Kafka(ends={"workflow.events/0": 7, "workflow.trigger/1": 3}, age_s=600.0), settings=settings)
    process.store.at = {("e", 0): 5}
    task = asyncio.create_task(process.health.run())
    try:
        state = "degraded" if seconds else "ok"
        await until(lambda: process.part("projection") == (state, f"5 records and {seconds} s behind the log"))
        process.prepared.set()
        await until(lambda: process.health.report().ready)
        status, body = ready_body(process.health.report())
        lags: Any = body["lag"]
        assert (status, body["status"]) == (200, "degraded" if seconds else "ready")
        assert [(lag["partition"], lag["events"], round(lag["seconds"], -1)) for lag in lags] == [
            (0, 2, seconds),
            (1, 0, 0),
        ]
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_process_that_stops_is_draining(process: Process) -> None:
    """503 from the first moment of the stop."""
    process.prepared.set()
    await until(lambda: process.status == (True, "ready"))
    process.stop.set()
    assert process.status == (False, "draining")
