"""The time by which a worker decides. A wall clock that was stepped counts only when the log agrees with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

STEP_S: Final = 1.0
"""What the wall clock may move at once beside the steady one: by less it is being corrected, by more it was stepped."""


def steady_s() -> float:
    """Seconds since some moment, which nobody can set; they pass while the machine is suspended, too, where it can tell."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class WorkerClock:
    """Call it for seconds since 1970: the wall clock's, as long as that is not stepped.

    Between a wall clock that was stepped and the time kept since, the log is the arbiter: `heard` is told when an event
    that was read a moment ago was appended.
    """

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = steady_s) -> None:
        self._wall, self._steady = wall, steady
        self._base = wall() - steady()
        self._stepped = False

    def __call__(self) -> float:
        wall, kept = self._wall(), self._steady() + self._base
        if abs(wall - kept) > STEP_S:
            if not self._stepped:
                log.warning("the clock was stepped by %+.1f s; the time goes on as before", wall - kept)
            self._stepped = True
            return kept
        self._base += wall - kept
        self._stepped = False
        return wall

    def heard(self, appended_s: float) -> None:
        """`appended_s`: the broker's time of a fresh event. A stepped clock that it agrees with is the right one."""
        kept = self()
        if not self._stepped:
            return
        wall = self._wall()
        if abs(appended_s - wall) < abs(appended_s - kept):
            log.warning("the log agrees with the clock that was stepped; the time moves by %+.1f s", wall - kept)
            self._base += wall - kept
            self._stepped = False
