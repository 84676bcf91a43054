"""One child process: started with its output in a file, ended in order, and never outliving its owner."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Final

from ops.reaper import Reaper
from streams.secret_values import without_secrets

LOG_BYTES_MAX: Final = 10 * 1024 * 1024
TAIL_CHARS_MAX: Final = 400


class Child:
    """A command that runs in a session of its own, so that a Ctrl-C in the terminal reaches only its owner."""

    def __init__(self, name: str, log: Path, reaper: Reaper, *, stop_signal: Signals = SIGTERM) -> None:
        self.name = name
        self.log = log
        self._reaper = reaper
        self._stop_signal = stop_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the running process; None when none runs."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        return self._process is not None and self.exit_code is None

    @property
    def exit_code(self) -> int | None:
        """How the last process ended; minus the number of the signal that killed it."""
        if self._process is None:
            return None
        code = self._process.poll()
        if code is not None:
            self._reaper.release(self._process.pid)
        return code

    def launch(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> int:
        """Start `argv` and return its pid; output is appended to the log. `env` None: ours, without the secrets of webhooks."""
        assert not self.running, f"{self.name} runs already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=without_secrets(os.environ) if env is None else env,
                cwd=cwd,
                start_new_session=True,
            )
        self._reaper.adopt(self._process.pid, self._stop_signal)
        return self._process.pid

    def ask_to_stop(self) -> None:
        """Send the stop signal and come back at once; `wait` sees the end."""
        self.send(self._stop_signal)
        self.send(SIGCONT)

    def kill(self) -> None:
        """As a crash would end it."""
        self.send(SIGKILL)
        self.wait(None)

    def send(self, signal: Signals) -> None:
        if self._process is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal)

    def wait(self, timeout_s: float | None) -> bool:
        """Whether it has ended within `timeout_s`."""
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                return False
            self._reaper.release(self._process.pid)
        return True

    def stop(self, grace_s: float) -> None:
        """Ask it to stop; kill it after `grace_s`."""
        self.ask_to_stop()
        if not self.wait(grace_s):
            self.kill()


def keep_log_short(log: Path, bytes_max: int = LOG_BYTES_MAX) -> bool:
    """Move a log that grew past `bytes_max` to `….1`. Its writer goes on in the same file, which is emptied:
    children append, so the next line stands at the beginning."""
    try:
        if log.stat().st_size <= bytes_max:
            return False
    except FileNotFoundError:
        return False
    with log.open("rb") as written:
        written.seek(-bytes_max, os.SEEK_END)
        log.with_name(log.name + ".1").write_bytes(written.read(bytes_max))
    os.truncate(log, 0)
    return True


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log in one, at most TAIL_CHARS_MAX of it."""
    try:
        text = log.read_bytes()[-4096:].decode(errors="replace")
    except FileNotFoundError:
        text = ""
    last = " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip())
    return last[-TAIL_CHARS_MAX:] or "it wrote nothing"
