"""Carrying out the steps that reach outside: a run's open attempt becomes a request, its answer a result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx

from schemas.effects import EffectResult
from schemas.run import Run
from streams.effects import EffectKey, EffectRunner
from streams.secret_values import SecretValues
from streams.webhook import call
from streams.webhook_request import WebhookRequest


class StepEffects:
    """Webhooks with one pooled client. After `drain` began nothing new is started: the next owner finds the attempt open."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        secrets: SecretValues,
        *,
        limit: int,
        timeout_s: float,
        result_bytes_max: int,
        cut: bool,
    ) -> None:
        """`cut`: a result over `result_bytes_max` is cut, and does not fail its step."""
        self._timeout_s, self._result_bytes_max, self._cut = timeout_s, result_bytes_max, cut
        self._runner = EffectRunner[WebhookRequest](limit, partial(call, client, secrets=secrets), self._ended)
        self._done: dict[EffectKey, Callable[[EffectResult], None]] = {}
        self._keys: dict[str, EffectKey] = {}
        self._draining = False

    @property
    def running(self) -> int:
        return self._runner.running

    def start(self, run: Run, config: dict[str, Any], done: Callable[[EffectResult], None]) -> None:
        """Carry out the open attempt of a run; `done` is called once unless it is cancelled."""
        if self._draining:
            return
        step = run.plan.steps[run.pc]
        request = WebhookRequest.of(
            config,
            idempotency_key=f"{run.id}/{step.name}",
            timeout_s=self._timeout_s if step.timeout_s is None else step.timeout_s,
            response_bytes_max=self._result_bytes_max,
            cut=self._cut,
            templated=bool(step.secrets),
        )
        key = EffectKey(run.id, step.name, run.attempt)
        self._done[key], self._keys[run.id] = done, key
        self._runner.start(key, request)

    def cancel(self, run_id: str) -> None:
        key = self._keys.pop(run_id, None)
        if key is not None:
            self._done.pop(key, None)
            self._runner.cancel(key)

    async def drain(self, bound_s: float) -> None:
        """Let what runs end within the bound, drop the rest."""
        self._draining = True
        await self._runner.stop(bound_s)

    def _ended(self, key: EffectKey, result: EffectResult) -> None:
        done = self._done.pop(key, None)
        if self._keys.get(key.run_id) == key:
            del self._keys[key.run_id]
        if done is not None:
            done(result)
