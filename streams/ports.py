"""What the engine asks of the world around it. Nothing here waits: answers come back through the engine's methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from schemas.commands import Command, TriggerRun
from schemas.ports import Record
from schemas.run import Run
from streams.decider import Start

__all__ = ["Record", "World"]


class World(Protocol):
    """The engine's port: log, group, store, definitions, effects."""

    def append(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        """Send (key, value) pairs to the partition of the log, in this order. A send that fails or may have failed → `Engine.producer_lost`."""
        ...

    def announce(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        """Put an end on `workflow.completed` → `Engine.announced`."""
        ...

    def reject(self, partition: int, offset: int, value: bytes | None, reason: str) -> None:
        """Put a command that was refused on `workflow.rejected` → `Engine.passed_on`."""
        ...

    def send_home(self, partition: int, offset: int, home: int, command: Command) -> None:
        """Put a command that stands in the wrong partition into its home → `Engine.passed_on`."""
        ...

    def drop_producer(self) -> None:
        """End the producer whole: what it carries is never sent again. The next append uses a new one."""
        ...

    def confirm(self, partition: int, token: str) -> None:
        """Ask the group whether the partition is still ours → `Engine.confirmed`."""
        ...

    def load(self, partition: int, token: str) -> None:
        """Read the partition's snapshot → `Engine.loaded`."""
        ...

    def end_of(self, partition: int, token: str) -> None:
        """Ask for the end of the partition of the log → `Engine.end_known`."""
        ...

    def look_up(self, partition: int, token: str, run_ids: Sequence[str]) -> None:
        """Ask the store for the tips of runs and for its position → `Engine.looked_up`."""
        ...

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        """What a start comes to, None while that is not known yet."""
        ...

    def evaluate(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any] | None:
        """Values (or ExpressionFaults) of expressions over a run; None: later, by `Engine.evaluated`."""
        ...

    def start_effect(self, run: Run, epoch: int) -> None:
        """Carry out the open attempt → `Engine.effect_ended`."""
        ...

    def cancel_effect(self, run_id: str) -> None: ...

    def seek(self, partition: int, events: int | None = None, commands: int | None = None) -> None:
        """Deliver again from this offset of the partition's events or commands."""
        ...

    def pause(self, partition: int, paused: bool) -> None:
        """Stop or go on delivering the partition's commands."""
        ...
