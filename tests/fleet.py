"""A platform of real processes for the tests that kill, freeze and restart them, and its client with a journal of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx
import orjson

from ops.echo import Echo
from ops.parts import OwnRole, command, environment
from ops.ports import free_port
from schemas.settings import Settings
from tests.kafka_dump import dump
from tests.reader import Raw
from tests.workload import Start, definitions, mix

READY_S: Final = 60.0
START_S: Final = 60.0
"""A start is tried again for so long, with the same key."""
STARTS_AT_ONCE: Final = 32
_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Plain HTTP needs no authorities, and reading them takes 20 ms a client."""


class Member:
    """One process of ours. `address`: the URL of its /health and /ready, and of the API."""

    def __init__(
        self,
        role: OwnRole,
        settings: Settings,
        log: Path,
        *,
        line: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        port: int | None = None,
        socket: Path | None = None,
    ) -> None:
        """`line` starts it in place of the usual command, with `env` over its environment. `socket`: a Unix socket that
        leads to its `port`, where that cannot be reached from here."""
        port = port or free_port()
        more = {"api_port": port} if role == "api" else {"workflow_health_port": port}
        self.role, self.address, self.log = role, f"http://127.0.0.1:{port}", log
        self.told_to_end = False
        self._socket = socket
        environ = {**environment(settings.model_copy(update=more)), **(env or {})}
        with log.open("ab") as out:
            self.process = subprocess.Popen(line or command(role), env=environ, stdout=out, stderr=out)

    def client(self, timeout_s: float) -> httpx.AsyncClient:
        """For its own address."""
        uds = None if self._socket is None else str(self._socket)
        transport = httpx.AsyncHTTPTransport(uds=uds, verify=_NO_TLS)
        return httpx.AsyncClient(base_url=self.address, timeout=timeout_s, transport=transport, verify=_NO_TLS)

    def kill(self) -> None:
        """Kill -9."""
        self.told_to_end = True
        self._signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        self.told_to_end = True
        self._signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, within_s)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def _signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.process.pid, number)

    async def ready(self) -> None:
        """Wait until /ready says so."""
        await until(self.is_ready, f"{self.role} is ready", READY_S)

    async def report(self) -> dict[str, str]:
        """What /ready says of each part: name → "state: detail"."""
        async with self.client(5) as http:
            parts = (await http.get("/ready")).json()["components"]
        return {name: f"{part['state']}: {part['detail']}" for name, part in parts.items()}

    async def is_ready(self) -> bool:
        """Whether /ready says so."""
        assert self.alive, f"{self.role} ended with {self.process.returncode}, see {self.log}"
        try:
            async with self.client(2) as http:
                return (await http.get("/ready")).status_code == 200
        except httpx.TransportError:
            return False


class Asked(NamedTuple):
    """A request for a start. `n`: the number in its payload; `status` None: no answer came; `run`: the id that a 202 told."""

    n: int
    api: str
    at_s: float
    status: int | None
    run: str | None


def reaching(settings: Settings, receiver: str) -> Settings:
    """Settings of workers whose webhooks may go to this URL's host and port, and nowhere else on this machine."""
    return settings.model_copy(update={"webhook_allow": urlsplit(receiver).netloc})


Told = dict[OwnRole, dict[str, Any]]
"""Role → settings, by field name, of its processes alone."""


class Fleet:
    """All processes of one test, the receiver of its webhooks, and the client's journal of what was accepted."""

    def __init__(self, settings: Settings, folder: Path, receiver: str, journal: Path) -> None:
        """`receiver`: the URL of the target of webhooks; `journal`: the file in which it notes each request."""
        self.settings, self.folder, self.receiver, self._journal = (
            reaching(settings, receiver),
            folder,
            receiver,
            journal,
        )
        self.members: list[Member] = []
        self.accepted: dict[str, Start] = {}
        """run id → what was asked for, of every start that was answered with 202"""
        self.asked: list[Asked] = []
        """every request for a start, and what came of it"""
        self.build: str | None = None
        """a name of `tests.broken`: the build that processes are started from"""
        self._endless = mix()
        self.told: Told = {}
        self.connection: dict[str, Any] = {}
        """what a Kafka client of the test's own needs beside the servers"""

    def start(self, role: OwnRole) -> Member:
        """One more process."""
        log = self.folder / f"{role}-{len(self.members)}.log"
        settings = self.settings.model_copy(update=self.told.get(role, {}))
        if self.build is None:
            member = Member(role, settings, log)
        else:
            line = [sys.executable, "-P", "-m", "tests.harness.child", role]
            member = Member(role, settings, log, line=line, env={"HARNESS_BREAK": self.build})
        self.members.append(member)
        return member

    async def up(self, *, apis: int = 1, workers: int = 1, projectors: int = 1) -> None:
        """Start so many of each, wait until they work, and define the workflows of the workload."""
        wanted: list[tuple[OwnRole, int]] = [("api", apis), ("worker", workers), ("projector", projectors)]
        members = [self.start(role) for role, count in wanted for _ in range(count)]
        await asyncio.gather(*(member.ready() for member in members))
        if workers:
            await self.owned()
        for definition in definitions(self.receiver):
            await self.define(definition)

    def of(self, role: OwnRole) -> list[Member]:
        """The living members of a role."""
        return [member for member in self.members if member.role == role and member.alive]

    async def owned(self, within_s: float = READY_S) -> None:
        """Wait until every partition has its owner and every living worker has some."""
        await until(self._all_owned, "all partitions are owned", within_s)

    async def _all_owned(self) -> bool:
        try:
            numbers = [owns(await worker.report()) for worker in self.of("worker")]
        except httpx.TransportError:
            return False
        return sum(numbers) == self.settings.workflow_partitions and all(numbers)

    async def define(self, definition: dict[str, Any]) -> None:
        async with httpx.AsyncClient(base_url=self.of("api")[0].address, timeout=30) as http:
            answer = await http.post("/api/v1/workflows", json=definition)
        assert answer.status_code in {200, 201}, answer.text

    # the client

    async def trigger(self, count: int, starts: Iterator[Start] | None = None, *, rate: float = 100.0) -> None:
        """Start runs, `rate` of them a second, each with a key of its own under which it is tried until it is accepted."""
        began, room = time.monotonic(), asyncio.Semaphore(STARTS_AT_ONCE)
        async with httpx.AsyncClient(timeout=20) as http, asyncio.TaskGroup() as group:
            for index, start in enumerate(islice(starts or self._endless, count)):
                await room.acquire()
                group.create_task(self._trigger(http, start)).add_done_callback(lambda _: room.release())
                await asyncio.sleep(max(0.0, began + (index + 1) / rate - time.monotonic()))

    @asynccontextmanager
    async def load(self, rate: float = 20.0) -> AsyncIterator[None]:
        """Runs are started all the time until the end of the block."""
        ended = asyncio.Event()

        def starts() -> Iterator[Start]:
            while not ended.is_set():
                yield next(self._endless)

        task = asyncio.ensure_future(self.trigger(1_000_000, starts(), rate=rate))
        try:
            yield
        finally:
            ended.set()
            await task

    async def more(self, count: int = 40) -> None:
        """Wait until so many more starts of the load are accepted."""
        wanted = len(self.accepted) + count

        async def accepted() -> bool:
            return len(self.accepted) >= wanted

        await until(accepted, f"{count} more starts are accepted", START_S)

    async def _trigger(self, http: httpx.AsyncClient, start: Start) -> None:
        key, ends = uuid.uuid4().hex, time.monotonic() + START_S
        while time.monotonic() < ends:
            for api in self._in_turn(self.of("api")):
                asked = await self._ask(http, api, key, start)
                self.asked.append(asked)
                if asked.run is not None:
                    self.accepted[asked.run] = start
                    return
            await asyncio.sleep(0.2)
        raise AssertionError(f"no API took the start within {START_S:g} s")

    def _in_turn(self, apis: list[Member]) -> list[Member]:
        """Another one first each time."""
        first = len(self.asked) % max(1, len(apis))
        return [*apis[first:], *apis[:first]]

    async def _ask(self, http: httpx.AsyncClient, api: Member, key: str, start: Start) -> Asked:
        body, headers = {"workflow_id": start[0], "payload": start[1]}, {"Idempotency-Key": key}
        try:
            answer = await http.post(f"{api.address}/api/v1/trigger", json=body, headers=headers)
        except httpx.TransportError:
            return Asked(start[1]["n"], api.address, time.time(), None, None)
        assert answer.status_code in {202, 503}, answer.text
        run = answer.json()["run_id"] if answer.status_code == 202 else None
        return Asked(start[1]["n"], api.address, time.time(), answer.status_code, run)

    def deliveries(self) -> list[dict[str, Any]]:
        """The receiver's journal."""
        return [orjson.loads(line) for line in self._journal.read_bytes().splitlines()]

    async def ended(self, within_s: float = 60.0) -> None:
        """Wait until the end of every accepted run is announced."""

        async def all_told() -> bool:
            return self.accepted.keys() <= {run_of(record) for record in await self._records("completed")}

        try:
            await until(all_told, "the end of every accepted run is announced", within_s, every_s=0.5)
        except AssertionError as error:
            error.add_note(await self._unended())
            raise

    async def _records(self, topic: str) -> list[Raw]:
        settings = self.settings
        servers, prefix = settings.kafka_bootstrap_servers, settings.workflow_topic_prefix
        topics = await dump(servers, prefix, [topic], **self.connection)
        return [record for records in topics[f"workflow.{topic}"].values() for record in records]

    async def _unended(self) -> str:
        """The last thing that the log says of each run that has no announced end, the first few of them."""
        waiting = self.accepted.keys() - {run_of(record) for record in await self._records("completed")}
        last = dict.fromkeys(waiting, b"nothing in the log")
        for record in await self._records("events"):
            run = run_of(record)
            if run in last:
                last[run] = record.value or b""
        lines = [f"{run} {self.accepted[run]}: {value[:700]!r}" for run, value in last.items()]
        return "\n".join([f"{len(waiting)} of {len(self.accepted)} runs did not end:", *lines[:8]])

    # the end of a test

    def deaths(self) -> list[str]:
        """Processes that ended although nobody told them to."""
        dead = (member for member in self.members if not (member.alive or member.told_to_end))
        return [f"{member.role} ended with {member.process.returncode}, see {member.log}" for member in dead]

    def story(self) -> str:
        """The last lines of every process, for the report of a failed test."""
        tails = [
            f"── {member.log} (pid {member.pid}, {member.process.poll()})\n{_tail(member.log)}"
            for member in self.members
        ]
        return "\n".join([*self.deaths(), *tails])

    def close(self) -> None:
        for member in self.members:
            member.kill()


@asynccontextmanager
async def platform(
    settings: Settings,
    folder: Path,
    *,
    apis: int = 1,
    workers: int = 1,
    projectors: int = 1,
    build: str | None = None,
    told: Told | None = None,
    connection: dict[str, Any] | None = None,
) -> AsyncIterator[Fleet]:
    """A fleet that works, until the end of the block. `build`: a broken one; `connection`: how the test itself reaches
    Kafka, beside the servers."""
    journal = folder / "journal.jsonl"
    async with Echo(journal=journal) as echo:
        fleet = Fleet(settings, folder, echo.url, journal)
        fleet.build = build
        fleet.told, fleet.connection = told or {}, connection or {}
        try:
            await fleet.up(apis=apis, workers=workers, projectors=projectors)
            yield fleet
        except BaseException as error:
            error.add_note(fleet.story())
            raise
        finally:
            fleet.close()


def run_of(record: Raw) -> str:
    """The run that a record's key names; anybody may have written any key."""
    return (record.key or b"").decode(errors="replace")


def owns(report: dict[str, str]) -> int:
    """How many partitions a worker owns, by its report."""
    return int(report["partitions"].split()[2])


def runs_effects(report: dict[str, str]) -> int:
    """How many effects a worker carries out, by its report."""
    return int(report["effects"].split()[1])


async def until(condition: Callable[[], Awaitable[bool]], what: str, within_s: float, *, every_s: float = 0.1) -> None:
    """Wait for something that must come to be."""
    ends = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < ends, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(every_s)


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
