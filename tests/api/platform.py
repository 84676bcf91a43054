"""A platform of real processes that are left in peace: what a client of the API sees."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import httpx

from ops.parts import OwnRole, command, environment
from ops.ports import free_port
from schemas.settings import Settings

READY_S: Final = 60.0
STOP_S: Final = 30.0


class Process:
    """One process of ours. `address`: the URL of its probes, and of the API."""

    def __init__(self, role: OwnRole, settings: Settings, log: Path) -> None:
        port = free_port()
        self.role, self.address, self.log = role, f"http://127.0.0.1:{port}", log
        env = environment(settings.model_copy(update={"api_port" if role == "api" else "workflow_health_port": port}))
        with log.open("ab") as out:
            self._process = subprocess.Popen(command(role), env=dict(env), stdout=out, stderr=out)

    def ready(self) -> None:
        """Wait until /ready says so."""
        ends = time.monotonic() + READY_S
        while not self._is_ready():
            assert time.monotonic() < ends, f"{self.role} is not ready within {READY_S} s, see {self.log}"
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, f"{self.role} ended: {self.log.read_text()[-2000:]}"
        try:
            return httpx.get(f"{self.address}/ready", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def freeze(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self._process.terminate()
        return self._process.wait(STOP_S)

    def kill(self) -> None:
        """Whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Platform:
    """Processes on servers that are there already."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder
        self.processes: list[Process] = []

    def start(self, *roles: OwnRole) -> list[Process]:
        """Start processes, and wait until all of them are ready."""
        logs = [self._folder / f"{role}-{len(self.processes) + n}.log" for n, role in enumerate(roles)]
        started = [Process(role, self.settings, log) for role, log in zip(roles, logs, strict=True)]
        self.processes += started
        for process in started:
            process.ready()
        return started

    def of(self, role: OwnRole) -> list[Process]:
        return [process for process in self.processes if process.role == role]

    def close(self) -> None:
        for process in self.processes:
            process.kill()
