"""A small process that outlives its owner by a moment: when the owner dies, however, it ends the owner's children.

The owner holds the writing end of a pipe and tells which processes to end; the end of the pipe is the owner's end.
A death signal of the kernel would do on Linux alone, goes by the thread that forked, and cannot insist.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from signal import SIG_IGN, SIGCONT, SIGHUP, SIGINT, SIGTERM, Signals, signal
from typing import IO, Final

import psutil

GRACE_S: Final = 10.0


class Reaper:
    """The owner's side. Not for several threads at once."""

    def __init__(self, *, holding: tuple[int, ...] = ()) -> None:
        """`holding`: descriptors that stay open until the last child has ended, such as the lock of their folder."""
        self._holding = holding
        self._process: subprocess.Popen[bytes] | None = None
        self._adopted: dict[int, Signals] = {}

    def adopt(self, pid: int, stop_signal: Signals) -> None:
        """From now on `pid` is sent `stop_signal` should this process die, and is killed when that does not help."""
        self._adopted[pid] = stop_signal
        self._tell(f"+{pid} {int(stop_signal)}\n")

    def release(self, pid: int) -> None:
        """`pid` has ended or is no longer ours."""
        if self._adopted.pop(pid, None) is not None:
            self._tell(f"-{pid} 0\n")

    def close(self) -> None:
        """End what is still adopted, and the reaper itself."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.wait()

    def _tell(self, line: str) -> None:
        try:
            self._write(line)
        except BrokenPipeError:  # somebody killed it: a new one learns all of them
            self.close()
            for pid, stop_signal in self._adopted.items():
                self._write(f"+{pid} {int(stop_signal)}\n")

    def _write(self, line: str) -> None:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__))],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                cwd="/",
                pass_fds=self._holding,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())


def watch(orders: IO[bytes]) -> None:
    """Follow the owner's orders until it is gone, then end what is left of its children."""
    children: dict[int, tuple[psutil.Process, Signals]] = {}
    for order in orders:
        pid, number = (int(word) for word in order[1:].split())
        children.pop(pid, None)
        if order.startswith(b"+"):
            with contextlib.suppress(psutil.NoSuchProcess):
                children[pid] = (psutil.Process(pid), Signals(number))
    end(children)


def end(children: dict[int, tuple[psutil.Process, Signals]]) -> None:
    for process, stop_signal in children.values():
        with contextlib.suppress(psutil.NoSuchProcess):  # it also looks whether the pid is still that process
            process.send_signal(stop_signal)
            process.send_signal(SIGCONT)
    deadline = time.monotonic() + GRACE_S
    left = [process for process, _ in children.values()]
    while (left := [process for process in left if lives(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def alive(pid: int) -> bool:
    """Whether `pid` is a process that runs."""
    try:
        return lives(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; a zombie waits for its parent alone."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    for ignored in (SIGINT, SIGTERM, SIGHUP):
        signal(ignored, SIG_IGN)
    watch(sys.stdin.buffer)
