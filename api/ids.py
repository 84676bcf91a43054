"""Ids that are new: in the order of time, so that rows of runs started together lie together."""

from __future__ import annotations

import os
import time
from uuid import UUID


def new_id() -> str:
    """A UUID of version 7: 48 bits of milliseconds since 1970, 74 random ones."""
    random = int.from_bytes(os.urandom(10), "big")
    high = (time.time_ns() // 1_000_000) << 16 | 0x7000 | (random >> 64 & 0x0FFF)
    return str(UUID(int=high << 64 | 0x2 << 62 | (random & ((1 << 62) - 1))))
