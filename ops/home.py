"""The folder of an embedded platform: its data, its logs, who runs it, and where its parts are."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ops.errors import HomeInUse, HomeUnusable

DEFAULT: Final = Path(".workflow")
_STATE: Final = "platform.json"
_LOCK: Final = "lock"

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
def taken(folder: Path) -> Iterator[None]:
    """Be the only platform in `folder`. The lock is the kernel's, so nothing stale survives a crash.

    Raises HomeInUse or HomeUnusable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeUnusable(home=folder, reason=error.strerror or error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeInUse(home=folder, pid=os.read(lock, 32).decode().strip() or "unknown") from None
        os.truncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        with suppress(FileNotFoundError):
            (folder / _STATE).unlink()
        yield
        with suppress(FileNotFoundError):
            (folder / _STATE).unlink()
    finally:
        os.close(lock)


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
    return Platform(
        pid=state["pid"],
        url=state["url"],
        settings=state["settings"],
        processes=tuple(Process(**process) for process in state["processes"]),
    )
