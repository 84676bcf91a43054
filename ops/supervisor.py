"""Keeps a set of processes running: what dies is started again, and all end together, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from signal import Signals
from typing import Final, Protocol

from ops.home import Process, Role
from ops.process import Child, keep_log_short, tail
from schemas.errors import WorkflowError

TICK_S: Final = 0.2
LOGS_EVERY_S: Final = 10.0
DELAY_FIRST_S: Final = 0.5
DELAY_MAX_S: Final = 10.0
SETTLED_AFTER_S: Final = 30.0


class Part(Protocol):
    """Something to keep running: an embedded server or one of our own processes."""

    child: Child

    @property
    def role(self) -> Role: ...

    @property
    def address(self) -> str: ...

    def launch(self) -> None: ...


@dataclass(slots=True)
class Watched:
    """A part and when it may be started (again). The first restart is at once; who dies at once again waits longer."""

    part: Part
    stop_within_s: float
    launched_at: float = 0.0
    deaths: int = 0
    delay_s: float = 0.0
    due_at: float | None = None

    def launch(self, now: float) -> None:
        self.launched_at, self.due_at = now, None
        self.part.launch()

    def died(self, now: float) -> None:
        self.deaths += 1
        if now - self.launched_at > SETTLED_AFTER_S:
            self.delay_s = 0.0
        self.due_at = now + self.delay_s
        self.delay_s = min(max(DELAY_FIRST_S, 2 * self.delay_s), DELAY_MAX_S)


class Supervisor:
    """Parts are stopped in the reverse order of the groups in which they were added."""

    def __init__(self, say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._groups: list[list[Watched]] = []
        self._logs_at = 0.0

    def add(self, parts: Sequence[Part], *, stop_within_s: float) -> None:
        """Launch `parts` and watch them from now on."""
        group = [Watched(part, stop_within_s) for part in parts]
        self._groups.append(group)
        for watched in group:
            watched.launch(self._clock())

    def processes(self) -> tuple[Process, ...]:
        """What runs now."""
        parts = [watched.part for group in self._groups for watched in group]
        return tuple(Process(part.role, part.child.pid, part.address) for part in parts if part.child.pid is not None)

    def deaths(self, part: Part) -> int:
        """How often `part` has ended by itself."""
        return next(watched.deaths for group in self._groups for watched in group if watched.part is part)

    def run(self, stop: threading.Event, changed: Callable[[], None]) -> None:
        """Watch until `stop` is set; `changed` is called whenever another set of processes runs."""
        before = self.processes()
        while not stop.wait(TICK_S):
            self.tick()
            if (now := self.processes()) != before:
                before = now
                changed()

    def tick(self) -> None:
        """Look at each part once; start again what died and is due."""
        now = self._clock()
        for watched in (watched for group in self._groups for watched in group):
            child = watched.part.child
            if child.running:
                continue
            if watched.due_at is None:
                watched.died(now)
                self._say(f"{child.name} {how_it_ended(child)} and is started again; log: {child.log}")
            if watched.due_at is not None and now >= watched.due_at:
                self._relaunch(watched, now)
        if now - self._logs_at >= LOGS_EVERY_S:
            self._logs_at = now
            for group in self._groups:
                for watched in group:
                    keep_log_short(watched.part.child.log)

    def _relaunch(self, watched: Watched, now: float) -> None:
        try:
            watched.launch(now)
        except (OSError, WorkflowError) as error:
            watched.died(now)
            self._say(f"{watched.part.child.name} cannot be started again: {error}")

    def stop(self) -> None:
        """Stop the groups, the last one first; who does not end in its time is killed."""
        while self._groups:
            group = self._groups[-1]
            for watched in group:
                watched.part.child.ask_to_stop()
            started = self._clock()
            while any(watched.part.child.running for watched in group):
                for watched in group:
                    if self._clock() - started > watched.stop_within_s:
                        watched.part.child.kill()
                time.sleep(TICK_S / 4)
            self._groups.pop()


def how_it_ended(child: Child) -> str:
    """For people: the signal that killed it, or its exit code and last words."""
    code = child.exit_code
    if code is not None and code < 0:
        return f"was killed by {Signals(-code).name}"
    return f"ended with {code} ({tail(child.log, 1)})"
