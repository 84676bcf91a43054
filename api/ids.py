"""Ids that are new: in the order of time, so that rows of runs started together lie together."""

from __future__ import annotations

import os
import time


def new_id() -> str:
    """A UUID of version 7: 48 bits of milliseconds since 1970, 74 random ones."""
    at, random = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
    variant = "89ab"[int(random[0], 16) & 3]
    return f"{at[:8]}-{at[8:]}-7{random[1:4]}-{variant}{random[4:7]}-{random[7:19]}"
