"""Runs for tests of the pure core: given(definition, events).then what comes of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from schemas.commands import TriggerRun
from schemas.effects import EffectFailed, EffectSucceeded
from schemas.events import decode, encode, time_text
from schemas.identity import digest
from schemas.run import Run, extend
from streams.decider import Draft, Start

NOW = 1_767_225_600.0
"""2026-01-01T00:00:00Z"""


def webhook(name: str = "call", **fields: Any) -> dict[str, Any]:
    """A webhook step; `config` and `retry` may be among the fields."""
    return {"name": name, "type": "webhook", "config": {"url": "http://x"}, **fields}


def delay(name: str = "wait", duration: Any = 5) -> dict[str, Any]:
    return {"name": name, "type": "delay", "config": {"duration": duration}}


def workflow(*steps: dict[str, Any]) -> dict[str, Any]:
    """A definition as the log carries it."""
    return {"id": "w", "name": "w", "description": "", "steps": list(steps or (webhook(),))}


def start(definition: dict[str, Any] | None = None, run_id: str = "r1", **payload: Any) -> Start:
    """A start of version 1 of the definition."""
    command = TriggerRun(f"c-{run_id}", run_id, "w", 1, payload, time_text(NOW))
    return Start(command, 1, definition or workflow(), None)


def requested(definition: dict[str, Any] | None = None, **payload: Any) -> Draft:
    data = {"workflow_id": "w", "version": 1, "definition": definition or workflow(), "payload": payload}
    return "RunRequested", {**data, "command": "c-r1", "requested_at": time_text(NOW)}


def started(step: str = "call", attempt: int = 1, **fields: Any) -> Draft:
    return "StepStarted", {"step": step, "attempt": attempt, **fields}


def succeeded(step: str = "call", attempt: int = 1, output: Any = None) -> Draft:
    return "StepSucceeded", {"step": step, "attempt": attempt, "output": output}


def failed(step: str = "call", attempt: int = 1, code: str = "http_400") -> Draft:
    return "StepFailed", {"step": step, "attempt": attempt, "error": {"code": code, "message": code}}


def retrying(step: str = "call", attempt: int = 1, until: float = NOW + 5, code: str = "http_503") -> Draft:
    error = {"code": code, "message": code}
    return "StepRetryScheduled", {"step": step, "attempt": attempt, "error": error, "until": time_text(until)}


def interrupted(step: str = "call", attempt: int = 1) -> Draft:
    return "StepInterrupted", {"step": step, "attempt": attempt}


def passing(after_s: float | None = None) -> EffectFailed:
    """A result that may be better next time."""
    return EffectFailed({"code": "http_503", "message": "503"}, retryable=True, retry_after_s=after_s)


REFUSED = EffectFailed({"code": "http_400", "message": "400"}, retryable=False)
DONE = EffectSucceeded({"status": 200})


def given(*drafts: Draft, run_id: str = "r1") -> Run:
    """The run that these events make."""
    run = Run(run_id)
    for _ in take(run, drafts):
        pass
    return run


def take(run: Run, drafts: Iterable[Draft], *, epoch: int = 1, now: float = NOW) -> list[bytes]:
    """Write drafts as the engine does and fold them; the records' values."""
    values = []
    for type_, data in drafts:
        value = encode(type_, run.id, data, time=time_text(now), epoch=epoch, seq=run.seq + 1, prev=run.tip)
        envelope = decode(value)
        assert envelope is not None
        extend(run, envelope, digest(value))
        values.append(value)
    return values
