"""The folder of an embedded platform: its data, its logs, who runs it, and where its parts are."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ops.errors import HomeInUse, HomeUnusable
from ops.reaper import alive

DEFAULT: Final = Path(".workflow")
_STATE: Final = "platform.json"
_LOCK: Final = "lock"
ENDING_WITHIN_S: Final = 30.0

Role = Literal["api", "worker", "projector", "kafka", "postgres"]


@dataclass(frozen=True, slots=True)
class Process:
    """One running part. `address`: Kafka's bootstrap server, PostgreSQL's DSN, else the URL that it serves."""

    role: Role
    pid: int
    address: str


@dataclass(frozen=True, slots=True)
class Platform:
    """What a running platform says of itself. `settings` are those that were given or found, by field name."""

    pid: int
    url: str
    settings: Mapping[str, Any]
    processes: tuple[Process, ...]


@contextmanager
def taken(folder: Path) -> Iterator[int]:
    """Be the only platform in `folder`; yields the descriptor of the lock.

    The lock is the kernel's, so nothing stale survives a crash. Who outlives the owner to end its children holds it too:
    a platform that was killed a moment ago is waited for. Raises HomeInUse or HomeUnusable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeUnusable(home=folder, reason=error.strerror or error) from error
    try:
        deadline = time.monotonic() + ENDING_WITHIN_S
        while not _locked(lock):
            owner = os.pread(lock, 32, 0).decode()
            if not owner.isdecimal() or alive(int(owner)) or time.monotonic() > deadline:
                raise HomeInUse(home=folder, pid=owner or "unknown")
            time.sleep(0.1)
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        with suppress(FileNotFoundError):
            (folder / _STATE).unlink()
        yield lock
        with suppress(FileNotFoundError):
            (folder / _STATE).unlink()
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_taken(folder: Path) -> bool:
    """Whether a platform runs in `folder` now."""
    try:
        lock = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def write(folder: Path, platform: Platform) -> None:
    """Tell the other commands. Readable by its owner alone: it holds the password of PostgreSQL."""
    fresh = folder / f"{_STATE}.new"
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(platform), file, indent=1)
    fresh.replace(folder / _STATE)


def read(folder: Path) -> Platform | None:
    """The platform that runs in `folder`; None when none does, or when it has not started everything yet."""
    if not is_taken(folder):
        return None
    try:
        state = json.loads((folder / _STATE).read_text())
    except FileNotFoundError:
        return None
    if not alive(state["pid"]):
        return None
    return Platform(
        pid=state["pid"],
        url=state["url"],
        settings=state["settings"],
        processes=tuple(Process(**process) for process in state["processes"]),
    )
