"""How many runs of a workflow have not ended: what the tables say, and what was accepted here and is not in them yet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from api.errors import BacklogFull
from schemas.errors import WorkflowError
from schemas.position import Position
from schemas.store import ReadStore

log = logging.getLogger(__name__)

FRESH_S: Final = 1.0
"""A count is asked for again when it is older and the workflow is started."""
SHARE: Final = 20
"""… and at most so small a part of the time is spent on asking: a large backlog takes long to count."""
SURE_S: Final = 0.1
"""A count must not be older than this to refuse anything."""
RETRY_AFTER_S: Final = 5


@dataclass(slots=True)
class _Backlog:
    """Of one workflow. `counted`: unfinished runs in the tables when they were asked at `asked_at`; `own`: starts on their way
    to the log, and those that the tables do not show yet; `accepted`: of the latter, the positions that will show them."""

    counted: int = 0
    asked_at: float = float("-inf")
    took_s: float = 0.0
    own: int = 0
    accepted: list[tuple[Position, int]] = field(default_factory=list)
    asking: asyncio.Task[None] | None = None

    @property
    def runs(self) -> int:
        return self.counted + self.own

    def shown(self, reached: Position) -> None:
        """Forget the starts that tables at these positions show."""
        unseen = [
            (position, starts)
            for position, starts in self.accepted
            if any(reached.get(place, 0) < offset for place, offset in position.items())
        ]
        self.own -= sum(starts for _, starts in self.accepted) - sum(starts for _, starts in unseen)
        self.accepted = unseen


class Backlogs:
    """The bound on each workflow's unfinished runs; 0 is none, and then nothing is counted.

    Starts never wait for a count, except where they would be refused. A store that does not answer refuses nothing by
    itself: then the last count holds, and what was accepted here since.
    """

    def __init__(self, store: ReadStore, runs_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`runs_max`: WORKFLOW_PENDING_RUNS_MAX; `clock`: seconds that never go back."""
        self._store, self._max, self._clock = store, runs_max, clock
        self._backlogs: dict[str, _Backlog] = {}

    async def send(self, starts: Mapping[str, int], sending: Callable[[], Awaitable[Position]]) -> Position:
        """Send starts (workflow id → how many) where there is room for all of them. Raises BacklogFull, and what
        `sending` raises."""
        if not self._max:
            return await sending()
        backlogs = {workflow_id: self._backlogs.setdefault(workflow_id, _Backlog()) for workflow_id in starts}
        for workflow_id, backlog in backlogs.items():
            await self._room(workflow_id, backlog, starts[workflow_id])
        for workflow_id, backlog in backlogs.items():
            backlog.own += starts[workflow_id]
        try:
            position = await sending()
        except BaseException:
            for workflow_id, backlog in backlogs.items():
                backlog.own -= starts[workflow_id]
            raise
        for workflow_id, backlog in backlogs.items():
            backlog.accepted.append((position, starts[workflow_id]))
        return position

    async def _room(self, workflow_id: str, backlog: _Backlog, starts: int) -> None:
        age_s = self._clock() - backlog.asked_at
        if age_s > max(FRESH_S, SHARE * backlog.took_s):
            self._ask(workflow_id, backlog)
        if backlog.runs + starts <= self._max:
            return
        if age_s > SURE_S:
            await asyncio.shield(self._ask(workflow_id, backlog))
        if backlog.runs + starts > self._max:
            raise BacklogFull(
                headers={"Retry-After": str(RETRY_AFTER_S)},
                workflow_id=workflow_id,
                runs=min(backlog.runs, self._max),
                starts=starts,
                limit=self._max,
            )

    def _ask(self, workflow_id: str, backlog: _Backlog) -> asyncio.Task[None]:
        """The count that is under way, or a new one."""
        if backlog.asking is None or backlog.asking.done():
            backlog.asking = asyncio.create_task(self._count(workflow_id, backlog), name=f"backlog {workflow_id}")
        return backlog.asking

    async def _count(self, workflow_id: str, backlog: _Backlog) -> None:
        """Positions first: what the tables had reached before they were counted is in the count."""
        began = self._clock()
        try:
            reached = await self._store.positions()
            backlog.counted = await self._store.unfinished(workflow_id, limit=self._max)
            backlog.shown(reached)
        except WorkflowError as error:
            log.debug("The unfinished runs of %s were not counted: %s", workflow_id, error.message)
        finally:
            backlog.asked_at = self._clock()
            backlog.took_s = backlog.asked_at - began
