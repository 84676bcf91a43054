"""A platform for one scenario: `workflow up` in a folder of its own, as a user would start it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops import home
from ops.home import Process, Role
from ops.parts import ROOT
from ops.ports import LOOPBACK, free_port
from ops.process import Child, tail
from ops.reaper import Reaper
from schemas.settings import Settings
from tests.bench.errors import ScenarioFailed
from tests.bench.wire import Client, request

START_S: Final = 180.0
STOP_S: Final = 60.0
POLL_S: Final = 0.1
KNOWN_S: Final = 2.0
"""By then the API knows a new key."""


@dataclass(frozen=True, slots=True)
class Running:
    """A platform that serves at 127.0.0.1:`port`. `key`: what it lets us in with, where it asks for keys."""

    folder: Path
    port: int
    settings: Settings
    key: str

    @property
    def host(self) -> str:
        return LOOPBACK

    def processes(self) -> tuple[Process, ...]:
        """As `workflow ps` shows them."""
        state = home.read(self.folder)
        if state is None:
            raise ScenarioFailed(f"the platform has ended ({tail(self.folder / 'up.log')})")
        return state.processes

    def process(self, role: Role) -> Process:
        """The one process of a role."""
        (found,) = (process for process in self.processes() if process.role == role)
        return found

    async def client(self) -> Client:
        """A connection to the API."""
        return await Client.open(self.host, self.port)

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        return request(method, f"{self.host}:{self.port}", path, body, self.key)

    async def define(self, definition: Mapping[str, Any]) -> None:
        """Make a workflow known."""
        client = await self.client()
        answer = await client.call(self.request("POST", "/api/v1/workflows", definition))
        client.close()
        if answer.status not in {200, 201}:
            raise ScenarioFailed(f"the workflow was not taken: {answer.status} {answer.body[:300]!r}")


@contextmanager
def running(folder: Path, *, partitions: int = 8, workers: int = 1) -> Iterator[Running]:
    """Start a platform below `folder`, with one API and one projector on PostgreSQL; end it and delete its data."""
    own = Path(tempfile.mkdtemp(prefix="workflow-bench-", dir=folder))
    reaper = Reaper()
    child = Child("workflow up", own / "up.log", reaper)
    port = free_port()
    try:
        command = [sys.executable, "-P", "-m", "ops.cli", "up", "--home", str(own), "--port", str(port)]
        child.launch([*command, "--workers", str(workers), "--projectors", "1"], env=_environment(partitions), cwd=ROOT)
        settings = _settings(own, child)
        yield Running(own, port, settings, _key(own) if settings.workflow_auth == "keys" else "")
    except Exception:
        keep_logs(own)
        raise
    finally:
        child.stop(STOP_S)
        reaper.close()
        shutil.rmtree(own, ignore_errors=True)


def _settings(folder: Path, child: Child) -> Settings:
    """What the platform says of itself once all of it has started."""
    deadline = time.monotonic() + START_S
    while (state := home.read(folder)) is None:
        if not child.running or time.monotonic() > deadline:
            raise ScenarioFailed(f"the platform did not start: {tail(child.log)}")
        time.sleep(POLL_S)
    return Settings(**state.settings)


def _key(folder: Path) -> str:
    """A key that may do everything, made by the command line."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "ops.cli",
        "keys",
        "create",
        "bench",
        "--scope",
        "admin",
        "--home",
        str(folder),
    ]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=START_S, check=False)
    if made.returncode != 0:
        raise ScenarioFailed(f"no key could be made: {made.stderr}")
    time.sleep(KNOWN_S)
    return made.stdout.strip()


def _environment(partitions: int) -> dict[str, str]:
    """Servers of the platform's own whatever the caller's environment names; WORKFLOW_* settings are taken over."""
    foreign = ("KAFKA_", "POSTGRES_", "STORAGE_", "API_", "WORKFLOW_HOME", "WORKFLOW_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": path, "STORAGE_BACKEND": "postgres", "WORKFLOW_PARTITIONS": str(partitions)}


def keep_logs(folder: Path) -> None:
    """A failed scenario's logs stay, for whoever looks for the reason."""
    kept = Path(tempfile.mkdtemp(prefix="workflow-bench-logs-"))
    for log in [folder / "up.log", *(folder / "logs").glob("*.log")]:
        if log.exists():
            shutil.copy(log, kept)
    print(f"  logs of the failed scenario: {kept}", file=sys.stderr)
