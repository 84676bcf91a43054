"""Python's cycle collector and a hundred thousand runs: each full collection looks at all of them and stops the loop."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_loads = 0
_lock = threading.Lock()


@contextmanager
def collector_paused() -> Iterator[None]:
    """No collection while many long-lived objects are made; those that are there at the end are never looked at again.

    Runs hold no cycles: they are freed by counting. May be nested, and used by several tasks and threads at once.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(change: int) -> None:
    global _loads  # noqa: PLW0603 - the collector is the process's
    with _lock:
        _loads += change
        if _loads > 0:
            gc.disable()
        else:
            gc.freeze()
            gc.enable()
