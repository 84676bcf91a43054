"""Ids that are new: in the order of time, so that rows of runs started together lie together."""

from __future__ import annotations

import os
import time

ID_BYTES = 10
_ASKED_BYTES = 400 * ID_BYTES
_pool = b""


def _random() -> bytes:
    """Random bytes, asked of the system for many ids at once: a call of it costs more than an id."""
    global _pool  # noqa: PLW0603 - a buffer of this process
    if len(_pool) < ID_BYTES:
        _pool = os.urandom(_ASKED_BYTES)
    taken, _pool = _pool[:ID_BYTES], _pool[ID_BYTES:]
    return taken


def new_id() -> str:
    """A UUID of version 7: 48 bits of milliseconds since 1970, 74 random ones."""
    at, random = f"{time.time_ns() // 1_000_000:012x}", _random().hex()
    variant = "89ab"[int(random[0], 16) & 3]
    return f"{at[:8]}-{at[8:]}-7{random[1:4]}-{variant}{random[4:7]}-{random[7:19]}"
