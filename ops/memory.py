"""Memory that a burst has left behind goes back to the system: the C library keeps it in pieces until it is asked."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable
from typing import Final

import psutil

LOOK_S: Final = 5.0
GROWN_BYTES: Final = 16 * 1024 * 1024
"""Growth since the last time that makes it worth asking again; it takes some milliseconds."""


async def give_back_regularly() -> None:
    """Ask for it whenever the process has grown. Ends at once where the C library has no `malloc_trim` (glibc has)."""
    trim = _trim()
    if trim is None:
        return
    me = psutil.Process()
    at_rest = me.memory_info().rss
    while True:
        await asyncio.sleep(LOOK_S)
        if me.memory_info().rss - at_rest > GROWN_BYTES:
            trim(0)
            at_rest = me.memory_info().rss


def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
