"""What the embedded servers have in common: a child process, a port on loopback, a deadline to be ready by."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM, Signals
from typing import ClassVar, Final

import psutil

from ops.errors import ServerNotStarted
from ops.home import Role
from ops.ports import free_port, is_free
from ops.process import Child, tail
from ops.reaper import Reaper

READY_WITHIN_S: Final = 60.0
POLL_S: Final = 0.05


class EmbeddedServer(ABC):
    """A server with its data in `folder`. Its port is fixed once it was launched: after a crash it comes back
    where its clients look for it. `start` after `kill` goes on with the same data."""

    name: ClassVar[str]
    role: ClassVar[Role]
    stop_signal: ClassVar[Signals] = SIGTERM
    stop_within_s: ClassVar[float] = 20.0

    def __init__(self, folder: Path, log: Path, reaper: Reaper, *, port: int | None) -> None:
        """`port` is taken if it is free, else another; None takes any."""
        self.folder = folder.resolve()
        self.child = Child(self.name, log.resolve(), reaper, stop_signal=self.stop_signal)
        self._preferred_port = port
        self._port: int | None = None
        self._answered = False

    @property
    def port(self) -> int:
        if self._port is None:
            self._port = free_port(self._preferred_port)
        return self._port

    @property
    @abstractmethod
    def address(self) -> str:
        """What clients connect to."""

    @abstractmethod
    def settings(self) -> dict[str, str | int]:
        """The settings, by field name, with which a process uses this server."""

    @property
    def pid(self) -> int | None:
        """Of the server itself; None when it does not run."""
        return self.child.pid

    @property
    def running(self) -> bool:
        return self.child.running

    @abstractmethod
    def launch(self) -> None:
        """Start the process and come back at once; `ready` says when it answers."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers now: this server, not another one on its port."""

    def start(self) -> None:
        """Launch it and wait until it answers. Raises ServerNotStarted when it ends or takes too long."""
        self.launch()
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.ready_by(deadline):
            time.sleep(POLL_S)

    def ready_by(self, deadline: float) -> bool:
        """Whether it answers now. Raises ServerNotStarted when it has ended, or `deadline` (monotonic) has passed."""
        if self.ready():
            self._answered = True
            return True
        if not self.running and not self._launched_elsewhere() and not self.relaunch():
            raise self.not_started(f"it ended with {self.child.exit_code} ({tail(self.child.log)})")
        if time.monotonic() > deadline:
            self.kill()
            raise self.not_started(f"no answer within {READY_WITHIN_S:g} s ({tail(self.child.log)})")
        return False

    def _launched_elsewhere(self) -> bool:
        """Take another port if this one went to somebody else before the server's first answer; whether it did."""
        if self._answered or is_free(self.port):
            return False
        self._port = free_port(None)
        self.launch()
        return True

    def relaunch(self) -> bool:
        """Start it again if its end is one that passes by itself; whether it was."""
        return False

    def stop(self) -> None:
        """Let it end cleanly, within `stop_within_s`."""
        self.child.stop(self.stop_within_s)

    def kill(self) -> None:
        """End it as a crash would (kill -9)."""
        self.child.kill()

    def freeze(self) -> None:
        """Stop it where it stands, its own children too: connections stay open and nothing answers. Returns when every
        thread stands still, which on a busy machine takes its time."""
        for process in self._signal_tree(SIGSTOP):
            while not _stands_still(process):
                time.sleep(0.001)

    def thaw(self) -> None:
        self._signal_tree(SIGCONT)

    def _signal_tree(self, signal: Signals) -> list[psutil.Process]:
        root = psutil.Process(self.pid)
        tree = [process for process in (root, *root.children(recursive=True)) if process.is_running()]
        for process in tree:
            with suppress(psutil.NoSuchProcess):  # a session that ended between the look and the signal
                process.send_signal(signal)
        return tree

    def not_started(self, reason: str) -> ServerNotStarted:
        return ServerNotStarted(name=self.name, reason=reason, log=self.child.log)


def _stands_still(process: psutil.Process) -> bool:
    """Whether no thread of it runs: all are stopped, or it is gone."""
    try:
        states = [
            task.read_text().rpartition(")")[2].split()[0] for task in Path("/proc").glob(f"{process.pid}/task/*/stat")
        ]
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
        return not process.is_running()
    return all(state in "TtZX" for state in states)
