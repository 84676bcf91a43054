"""A platform of real processes for the tests that kill, freeze and restart them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import httpx

from ops.parts import OwnRole, command, environment
from ops.ports import free_port
from schemas.settings import Settings
from tests.kafka_dump import dump

READY_S: Final = 60.0


class Member:
    """One process of ours. `address`: the URL of its /health and /ready (and of the API)."""

    def __init__(self, role: OwnRole, settings: Settings, log: Path) -> None:
        port = free_port()
        more = {"api_port": port} if role == "api" else {"workflow_health_port": port}
        self.role, self.address, self.log = role, f"http://127.0.0.1:{port}", log
        env = environment(settings.model_copy(update=more))
        with log.open("ab") as out:
            self.process = subprocess.Popen(command(role), env=dict(env), stdout=out, stderr=out)

    def kill(self) -> None:
        """kill -9."""
        self._signal(signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self, within_s: float = 30.0) -> int:
        """SIGTERM, and the exit code."""
        self._signal(signal.SIGTERM)
        return self.process.wait(within_s)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def _signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.process.pid, number)

    async def ready(self) -> None:
        """Wait until /ready says so."""
        await until(self._answers, f"{self.role} is ready, see {self.log}", READY_S)

    async def report(self) -> Any:
        """The body of /ready."""
        async with httpx.AsyncClient() as http:
            return (await http.get(f"{self.address}/ready")).json()

    async def _answers(self) -> bool:
        assert self.alive, f"{self.role} ended with {self.process.returncode}: {self.log.read_text()[-2000:]}"
        try:
            async with httpx.AsyncClient() as http:
                return (await http.get(f"{self.address}/ready", timeout=2)).status_code == 200
        except httpx.TransportError:
            return False


class Fleet:
    """All processes of one test, and the client's own journal of what was accepted."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.members: list[Member] = []
        self.accepted: dict[str, Any] = {}
        """run id → payload of every start that was answered with 202"""

    def start(self, role: OwnRole, **settings: Any) -> Member:
        log = self.folder / f"{role}-{len(self.members)}.log"
        member = Member(role, self.settings.model_copy(update=settings), log)
        self.members.append(member)
        return member

    async def up(self, *, apis: int = 1, workers: int = 1, projectors: int = 1) -> None:
        roles: list[OwnRole] = ["api"] * apis + ["worker"] * workers + ["projector"] * projectors
        for role in roles:
            self.start(role)
        for member in self.members:
            await member.ready()
        await until(self._all_owned, "all partitions are owned", READY_S)

    def of(self, role: OwnRole) -> list[Member]:
        """The living members of a role."""
        return [member for member in self.members if member.role == role and member.alive]

    async def _all_owned(self) -> bool:
        reports = [await member.report() for member in self.of("worker")]
        return sum(_owned(report) for report in reports) == self.settings.workflow_partitions

    async def define(self, steps: list[dict[str, Any]], workflow_id: str = "w") -> None:
        definition = {"id": workflow_id, "name": workflow_id, "steps": steps}
        async with httpx.AsyncClient(base_url=self.of("api")[0].address, timeout=30) as http:
            answer = await http.post("/api/v1/workflows", json=definition)
        assert answer.status_code in (200, 201), answer.text

    async def trigger(self, count: int, *, workflow_id: str = "w", rate: float = 100.0) -> None:
        """Start runs one by one, each with a key of its own, again with the same key after a 503 or a broken connection."""
        async with httpx.AsyncClient(timeout=30) as http:
            began = time.monotonic()
            for index in range(count):
                await self._trigger(http, workflow_id, {"n": index, "batch": began}, f"{began}-{index}")
                await asyncio.sleep(max(0.0, began + (index + 1) / rate - time.monotonic()))

    async def _trigger(self, http: httpx.AsyncClient, workflow_id: str, payload: Any, key: str) -> None:
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            for api in self.of("api"):
                try:
                    body = {"workflow_id": workflow_id, "payload": payload}
                    answer = await http.post(f"{api.address}/api/v1/trigger", json=body, headers={"Idempotency-Key": key})
                except httpx.TransportError:
                    continue
                if answer.status_code == 202:
                    self.accepted[answer.json()["run_id"]] = payload
                    return
                assert answer.status_code == 503, answer.text
            await asyncio.sleep(0.2)
        raise AssertionError("no API took the start within 60 s")

    async def ended(self, within_s: float = 90.0) -> None:
        """Wait until every accepted run has an end in the log and an announcement."""

        async def all_told() -> bool:
            topics = self.settings.topics
            told = await dump(self.settings, [topics.completed])
            keys = {record.key.decode() for records in told[topics.completed].values() for record in records if record.key}
            return self.accepted.keys() <= keys

        await until(all_told, "every accepted run is announced", within_s, every_s=0.5)

    def verify(self) -> subprocess.CompletedProcess[str]:
        """`workflow verify` against the tables as they stand."""
        env = dict(environment(self.settings))
        line = [sys.executable, "-P", "-m", "ops", "verify"]
        return subprocess.run(line, env=env, capture_output=True, text=True, timeout=120, check=False)

    async def level(self, within_s: float = 60.0) -> None:
        """Wait until the read side has reached the end of the log."""

        async def is_level() -> bool:
            done = self.verify()
            return done.returncode == 0 and "behind" not in done.stdout

        await until(is_level, "the tables are level with the log", within_s, every_s=1.0)

    def close(self) -> None:
        for member in self.members:
            member.thaw()
            member.kill()


def _owned(report: Any) -> int:
    words = report["components"]["partitions"]["detail"].split()
    return int(words[1])


async def until(condition: Callable[[], Any], what: str, within_s: float, *, every_s: float = 0.1) -> None:
    """Wait for something that must come to be."""
    ends = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < ends, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(every_s)


def ids(fleet: Fleet) -> Iterable[str]:
    return fleet.accepted
