"""An app without servers: what it sends is kept, what the log says of it is folded into the store by the tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx
import orjson
from fastapi import FastAPI

from api.app import build_app
from api.ports import Component, Deps, Outgoing, ReadyReport
from projections.fold import PartitionFold
from projections.memory import MemoryStore
from projections.overview import SharedProjection
from schemas.catalog import Catalog, Defined
from schemas.events import time_s
from schemas.identity import home
from schemas.keys import Token
from schemas.position import Position
from schemas.settings import Settings
from schemas.store import PendingRow
from streams.reasons import Worker
from tests.fake_log import FakeTopics
from tests.histories import BASE_S, Log, LogRecord, Story, definition
from tests.keyring import KeyRing

PARTITIONS = 4
CLUSTER = "test"
DEFINED_AT = "2026-01-01T00:00:00.000Z"
DEFINED_MS = int(time_s(DEFINED_AT) * 1000)


class Commands:
    """`workflow.trigger` without Kafka: keeps what is sent, or fails as it is told."""

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []
        self.failure: Exception | None = None
        self._ends = [0] * PARTITIONS

    async def send(self, command: Outgoing) -> Position:
        return await self.send_many([command])

    async def send_many(self, commands: Sequence[Outgoing]) -> Position:
        if self.failure is not None:
            raise self.failure
        position: Position = {}
        for command in commands:
            partition = home(command.run_id, PARTITIONS)
            self._ends[partition] += 1
            position["t", partition] = self._ends[partition]
        self.sent += commands
        return position


class Definitions:
    """`workflow.definitions` without Kafka. What another process has written is in `behind` until it is read."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.behind: list[bytes] = []
        self.failure: Exception | None = None

    @property
    def position(self) -> int:
        return self.catalog.position

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        return self.catalog.get(workflow_id, version)

    def get_then(self, workflow_id: str, at_ms: int) -> Defined | None:
        return self.catalog.get_then(workflow_id, at_ms)

    def newest(self) -> list[Defined]:
        return self.catalog.newest()

    async def level(self) -> None:
        if self.failure is not None:
            raise self.failure
        while self.behind:
            self.catalog.fold(self.position, self.behind.pop(0), DEFINED_MS)

    async def reach(self, position: int, timeout_s: float) -> bool:
        await self.level()
        return self.position >= position

    async def define(self, definition: dict[str, Any], actor: str | None = None) -> tuple[Defined, bool]:
        await self.level()
        newest = self.catalog.get(definition["id"])
        if newest is not None and newest.definition == definition:
            return newest, False
        made = self.catalog.fold(self.position, self.catalog.next_record(definition, DEFINED_AT, actor), DEFINED_MS)
        assert made is not None
        return made, True


class Owners:
    """The workers' group without Kafka: whatever the test says."""

    def __init__(self) -> None:
        self.answer = Worker("owned", "w-1", "10.0.0.7")
        self.commands: int | None = 0
        self.events: int | None = None

    async def look(self) -> None: ...

    def worker(self, partition: int) -> Worker:
        return self.answer

    def settled(self, partition: int) -> int | None:
        return self.commands

    def end(self, partition: int) -> int | None:
        return self.events


class Health:
    """Whatever the test says."""

    def __init__(self) -> None:
        self.answer = ReadyReport(ready=True, status="ready", components={"kafka": Component("ok")})

    def report(self) -> ReadyReport:
        return self.answer


@dataclass
class World:
    """The app with everything around it."""

    settings: Settings
    store: MemoryStore = field(default_factory=MemoryStore)
    commands: Commands = field(default_factory=Commands)
    catalog: Definitions = field(default_factory=Definitions)
    health: Health = field(default_factory=Health)
    owners: Owners = field(default_factory=Owners)
    keys: KeyRing = field(default_factory=KeyRing)
    log: Log = field(default_factory=lambda: Log(PARTITIONS))

    def __post_init__(self) -> None:
        self.now_s = BASE_S
        self.store.clock = lambda: self.now_s
        numbers = count(1)
        self.topics = FakeTopics(self.settings, self.log, cluster=CLUSTER)
        shared = SharedProjection(self.settings, self.store, self.topics)
        self.folds = [PartitionFold(n, PARTITIONS, CLUSTER) for n in range(PARTITIONS)]
        self.app: FastAPI = build_app(
            Deps(
                self.settings,
                self.store,
                self.catalog,
                self.commands,
                self.health,
                lambda: self.now_s,
                lambda: f"run-{next(numbers)}",
                self.keys if self.settings.workflow_auth == "keys" else None,
                shared if self.settings.storage_backend != "memory" else None,
                owners=self.owners,
            )
        )
        for partition in range(PARTITIONS):
            self.log.take(partition)

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The commands that were sent."""
        return [orjson.loads(command.value) for command in self.commands.sent]

    async def define(self, workflow_id: str = "greet", steps: int = 2) -> Defined:
        return (await self.catalog.define(definition(workflow_id, steps)))[0]

    def story(self, run_id: str | None = None, *, at_s: float = 0.0, **fields: Any) -> Story:
        """A run to be told; its events are appended by `tell`."""
        story = self.log.story(0 if run_id is None else home(run_id, PARTITIONS), **fields)
        story.run_id = run_id or story.run_id
        story.clock_s = BASE_S + at_s
        return story

    async def tell(self, story: Story, values: Sequence[bytes] | None = None) -> None:
        """Append events of a run (all of them unless given), and have the store fold the log."""
        partition = home(story.run_id, PARTITIONS)
        for value in values if values is not None else story.whole(self.log.epochs[partition]):
            self.log.append(partition, value, story.run_id.encode())
        await self.project(partition)

    async def project(self, partition: int) -> None:
        """Fold what stands in the partition of the log."""
        fold = self.folds[partition]
        records: list[LogRecord] = self.log.records[partition][fold.position :]
        tips = dict.fromkeys(fold.unknown(records))
        tips.update((await self.store.tips(partition, list(tips)))[1])
        assert fold.take(records, tips) == len(records)
        await self.store.apply(fold.batch())

    async def show_pending(self, command: Outgoing) -> None:
        """Have the projector see a command that no worker has taken yet."""
        partition = home(command.run_id, PARTITIONS)
        start = (await self.store.positions()).get(("t", partition), 0)
        data = orjson.loads(command.value)
        fields = data["data"]
        row = PendingRow(
            command.run_id,
            partition,
            start,
            fields["workflow_id"],
            fields.get("version"),
            orjson.dumps(fields["payload"]),
            data["time"],
        )
        await self.store.apply_pending(partition, start, start + 1, [row])


@asynccontextmanager
async def client_of(world: World, token: Token | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client, with a key if one is given."""
    transport = httpx.ASGITransport(world.app, raise_app_exceptions=False)
    headers = {} if token is None else {"Authorization": f"Bearer {token.text}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as client:
        yield client


def make_world(**settings: Any) -> World:
    """A world whose settings differ from the defaults in these."""
    fast = {"workflow_partitions": PARTITIONS, "workflow_position_wait_s": 0.05}
    return World(Settings(**{**fast, **settings}))


async def until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    """Return when it holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is watched has no event
            await asyncio.sleep(0.01)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document of an answer, after a look at its outside."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert body["type"] == f"/problems/{code}"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["detail"]
    return body


def pointers(body: dict[str, Any]) -> list[str]:
    """Where the errors of a problem are."""
    return [error["pointer"] for error in body["errors"]]
