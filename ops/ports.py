"""Loopback ports: is one free, who has it, which one else."""

from __future__ import annotations

import errno
import random
import socket
from typing import Final

import psutil

LOOPBACK: Final = "127.0.0.1"
# Below the range from which systems take the local ports of outgoing connections.
FREE_RANGE: Final = range(20_000, 32_000)
TRIES_MAX: Final = 200

_UNKNOWN: Final = "another process"


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port(preferred: int | None = None, *, besides: frozenset[int] = frozenset()) -> int:
    """`preferred` if it is free, else some free port that is not in `besides`."""
    if preferred is not None and preferred not in besides and is_free(preferred):
        return preferred
    for _ in range(TRIES_MAX):
        port = random.choice(FREE_RANGE)  # noqa: S311 - any port will do
        if port not in besides and is_free(port):
            return port
    raise OSError(errno.EADDRINUSE, f"no free port found in {FREE_RANGE.start}..{FREE_RANGE.stop}")


def holder(port: int) -> str:
    """The process that listens on `port`, as people would name it."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                return (
                    f"{psutil.Process(connection.pid).name()}, process {connection.pid}" if connection.pid else _UNKNOWN
                )
    except psutil.Error:
        pass
    return _UNKNOWN


def reached(host: str) -> str:
    """Where a process that listens on `host` is reached from this machine, as a URL has it."""
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - every address, the loopback among them
        return LOOPBACK
    return f"[{host}]" if ":" in host else host
