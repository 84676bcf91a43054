"""What a start comes to: the definition that its run pins, or why there is none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

from schemas.catalog import Defined
from schemas.commands import TriggerRun
from schemas.errors import BrokerAway
from schemas.events import ErrorData
from streams.clock import steady_s
from streams.decider import Start

log = logging.getLogger(__name__)


class CatalogView(Protocol):
    """All definitions, as far as this process has read them."""

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        """A version, or the newest one seen."""
        ...

    async def level(self) -> None:
        """Until the end that the topic had at the call has been read; raises BrokerAway."""
        ...


class Resolver:
    """Holds a start until the view is level with what was known when the command was taken.

    A start that names a version waits for it `wait_s` at the most, by a clock that nobody can set.
    """

    def __init__(self, view: CatalogView, *, wait_s: float, clock: Callable[[], float] = steady_s) -> None:
        self._view, self._clock, self._wait_s = view, clock, wait_s
        self._first_asked: dict[tuple[int, int], float] = {}
        self._level_at = -inf
        """the view has read everything that stood in the topic at this time"""
        self._levelling: asyncio.Task[None] | None = None

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        """The start, or None while it has to wait."""
        defined = self._view.get(command.workflow_id, command.version) if command.version is not None else None
        if defined is None:
            asked = self._first_asked.setdefault((partition, offset), self._clock())
            level = self._is_level(asked)
            if not level or (command.version is not None and self._clock() - asked < self._wait_s):
                return None
            defined = self._view.get(command.workflow_id, command.version)
            self._first_asked.pop((partition, offset), None)
        return Start(command, command.version, None, _unknown(command)) if defined is None else _start(command, defined)

    def forget(self) -> None:
        """The partitions were given away: nobody waits here any more."""
        self._first_asked.clear()

    def _is_level(self, since: float) -> bool:
        if self._level_at >= since:
            return True
        if self._levelling is None or self._levelling.done():
            self._levelling = asyncio.ensure_future(self._read_to(self._clock(), self._view.level()))
        return False

    async def _read_to(self, at: float, level: Awaitable[None]) -> None:
        try:
            await level
        except BrokerAway as away:
            log.warning("starts wait for the definitions: %s", away)
        else:
            self._level_at = at


def _start(command: TriggerRun, defined: Defined) -> Start:
    return Start(command, defined.version, defined.definition, None)


def _unknown(command: TriggerRun) -> ErrorData:
    version = f" version {command.version}" if command.version is not None else ""
    return {"code": "definition_unknown", "message": f"there is no workflow {command.workflow_id!r}{version}"}
