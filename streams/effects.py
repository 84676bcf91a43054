"""The effects that run in this process: started at once, at most so many at a time, each with one result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from schemas.effects import EffectFailed, EffectResult

Request = TypeVar("Request")


class EffectKey(NamedTuple):
    """One attempt of one step of one run."""

    run_id: str
    step: str
    attempt: int


class EffectRunner(Generic[Request]):
    """Carries out requests, `limit` of them at a time; the others wait in the order in which they came.

    The number that waits has no bound here: who starts effects looks at `queued` and stops taking work.
    """

    def __init__(
        self,
        limit: int,
        carry_out: Callable[[Request], Awaitable[EffectResult]],
        on_result: Callable[[EffectKey, EffectResult], None],
    ) -> None:
        """`on_result` is called on the loop, once for each key that was not cancelled."""
        assert limit > 0
        self.limit = limit
        self._carry_out, self._on_result = carry_out, on_result
        self._running: dict[EffectKey, asyncio.Task[EffectResult]] = {}
        self._queued: dict[EffectKey, Request] = {}
        self._stopped = False

    @property
    def running(self) -> int:
        """Effects that are being carried out."""
        return len(self._running)

    @property
    def queued(self) -> int:
        """Effects that wait for one of them to end."""
        return len(self._queued)

    def __contains__(self, key: object) -> bool:
        """Whether this effect runs or waits here."""
        return key in self._running or key in self._queued

    def start(self, key: EffectKey, request: Request) -> None:
        """Carry out the request as soon as there is room. Returns at once."""
        assert not self._stopped, "started after the stop"
        assert key not in self, f"{key} runs already"
        self._queued[key] = request
        self._fill()

    def cancel(self, key: EffectKey) -> None:
        """Give up the effect: no result of it is handed over any more. A key that is not here is no error."""
        self._queued.pop(key, None)
        task = self._running.pop(key, None)
        if task is not None:
            task.cancel()
            self._fill()

    async def stop(self, grace_s: float) -> tuple[EffectKey, ...]:
        """Drop what waits, give what runs `grace_s` seconds to end with its result, cancel the rest.

        Returns the keys that have no result.
        """
        self._stopped = True
        dropped = tuple(self._queued)
        self._queued.clear()
        tasks = tuple(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
        cut = tuple(key for key, task in self._running.items() if not task.done())
        for key in cut:
            self.cancel(key)
        await asyncio.gather(*tasks, return_exceptions=True)
        return (*cut, *dropped)

    def _fill(self) -> None:
        while self._queued and len(self._running) < self.limit:
            key = next(iter(self._queued))
            task = asyncio.create_task(self._carried_out(self._queued.pop(key)), name=f"effect {key}")
            self._running[key] = task
            task.add_done_callback(partial(self._ended, key))

    async def _carried_out(self, request: Request) -> EffectResult:
        try:
            return await self._carry_out(request)
        except Exception as error:  # noqa: BLE001 - a result is owed
            message = f"{type(error).__name__}: {error}"
            return EffectFailed({"code": "unexpected_error", "message": message[:500]}, retryable=True)

    def _ended(self, key: EffectKey, task: asyncio.Task[EffectResult]) -> None:
        if self._running.get(key) is not task:
            return
        del self._running[key]
        self._fill()
        if not task.cancelled():
            self._on_result(key, task.result())
