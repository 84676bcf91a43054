"""`python -m tests.harness.child ROLE`: a process of the platform whose wall clock the harness can step.

HARNESS_CLOCK names a file that holds the clock's offset in seconds. HARNESS_BREAK names a deviation of `tests.broken`: the
history checker must find what comes of it.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from pathlib import Path


def step_clock_by(path: Path) -> None:
    """From now on `time.time` is off by what stands in the file, as it stands there at each call."""
    with path.open("r+b") as file:
        offset = mmap.mmap(file.fileno(), 8)
    real, unpack = time.time, struct.Struct("<d").unpack_from
    time.time = lambda: real() + unpack(offset)[0]


def main(role: str) -> int:
    if path := os.environ.get("HARNESS_CLOCK"):
        step_clock_by(Path(path))
    if name := os.environ.get("HARNESS_BREAK"):
        from tests.broken import apply

        apply(name)
    from ops import child

    return child.main(role)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
