"""What happens next in a run. Pure and total: no clock, no chance, no I/O.

`decide` answers an input, `advance` says what follows by itself from any prefix of any legal history; both give drafts,
(type, data) pairs that the engine stamps, chains and appends. Neither changes the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from schemas import durations, templates
from schemas.commands import CancelRun, TriggerRun
from schemas.durations import DURATION_MAX_S
from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from schemas.errors import WorkflowError
from schemas.events import ErrorData, RunCompletedData, RunRequestedData, StepStartedData, time_s, time_text
from schemas.plan import StepPlan
from schemas.run import Run
from schemas.webhooks import METHODS

INTERRUPTIONS_MAX: Final = 20
RETRY_AFTER_MAX_S: Final = 86_400.0

Draft = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Start:
    """A TriggerRun with what it resolved to: a definition, or the reason why there is none."""

    command: TriggerRun
    version: int | None
    definition: dict[str, Any] | None
    refusal: ErrorData | None


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The current attempt's effect has a result."""

    attempt: int
    result: EffectResult


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The wall clock has passed a due time."""


@dataclass(frozen=True, slots=True)
class AttemptLost:
    """The open attempt runs nowhere."""


Input = Start | CancelRun | AttemptEnded | TimerFired | AttemptLost


@dataclass(frozen=True, slots=True)
class Needs:
    """`advance` cannot go on without the values of these expressions over the run's payload and outputs."""

    expressions: tuple[str, ...]


class ExpressionFault(WorkflowError):
    """The expression {source!r} failed: {reason}"""


def decide(run: Run, given: Input, now: float) -> tuple[Draft, ...]:
    """The facts that an input makes of a run; none when it changes nothing (a repeat, a late result, a run that is over)."""
    if run.phase == "done" or run.set_aside is not None:
        return ()
    match given:
        case Start():
            return _start(run, given)
        case CancelRun():
            error: ErrorData | None = {"code": "cancelled", "message": given.reason} if given.reason else None
            return (_completed(run, "CANCELLED", error),) if run.seq else ()
        case AttemptEnded():
            return _attempt_ended(run, given, now) if run.phase == "started" and given.attempt == run.attempt else ()
        case TimerFired():
            return _timer_fired(run, now)
        case AttemptLost():
            return _attempt_lost(run)
        case _:
            assert_never(given)


def advance(
    run: Run, now: float, values: Mapping[str, Any] | None = None, *, delay_max_s: float = DURATION_MAX_S
) -> tuple[Draft, ...] | Needs:
    """The facts that follow from the run's state alone.

    `values`: of the expressions that were asked for, an ExpressionFault among them where one failed.
    `delay_max_s`: the longest delay that they may come to. What came of it stands in the event and is never asked again.
    """
    if run.set_aside is not None:
        return ()
    match run.phase:
        case "started" | "done":
            return ()
        case "failed":
            return (_completed(run, "FAILED", run.error),)
        case "retrying":
            return (_next_attempt(run, now),) if run.until is None or time_s(run.until) <= now else ()
        case "requested" | "ready":
            if run.pc >= len(run.plan.steps):
                return (_completed(run, "SUCCESS", None),)
            return _begin_step(run, now, values, delay_max_s)
        case _:
            assert_never(run.phase)


def due(run: Run) -> float | None:
    """When the run wants to be looked at again by itself, in seconds since 1970."""
    return time_s(run.until) if run.until is not None and run.phase in ("started", "retrying") else None


def effect_input(run: Run) -> dict[str, Any]:
    """The config with which the open attempt runs; for a step with secrets a template, in which only they are left."""
    config: dict[str, Any] = run.input if run.input is not None else run.plan.steps[run.pc].config
    return config


def backoff_s(step: StepPlan, tries: int, tip: str | None, retry_after_s: float | None) -> float:
    """Wait before the next attempt after `tries` failures: exponential, the upper half of it by chance drawn from the tip's digest."""
    try:
        longest = min(step.max_s, step.initial_s * step.factor ** (tries - 1))
    except OverflowError:
        longest = step.max_s
    wait = longest * (0.5 + int((tip or "0")[:8], 16) / 0xFFFFFFFF / 2)
    return max(wait, min(retry_after_s, RETRY_AFTER_MAX_S)) if retry_after_s is not None else wait


def _start(run: Run, start: Start) -> tuple[Draft, ...]:
    if run.seq:
        return ()
    command = start.command
    data: RunRequestedData = {
        "workflow_id": command.workflow_id,
        "version": start.version,
        "definition": start.definition,
        "payload": command.payload,
        "command": command.id,
        "requested_at": command.requested_at,
    }
    if start.refusal is not None:
        data["refused"] = start.refusal
    return (("RunRequested", data),)


def _attempt_ended(run: Run, ended: AttemptEnded, now: float) -> tuple[Draft, ...]:
    step, result = run.plan.steps[run.pc], ended.result
    about = {"step": step.name, "attempt": run.attempt}
    match result:
        case EffectSucceeded():
            return (("StepSucceeded", {**about, "output": result.output}),)
        case EffectFailed():
            if not result.retryable or run.tries + 1 >= step.max_attempts:
                return (("StepFailed", {**about, "error": result.error}),)
            wait_s = backoff_s(step, run.tries + 1, run.tip, result.retry_after_s)
            return (("StepRetryScheduled", {**about, "error": result.error, "until": time_text(now + wait_s)}),)
        case _:
            assert_never(result)


def _timer_fired(run: Run, now: float) -> tuple[Draft, ...]:
    if run.phase == "started" and run.until is not None and time_s(run.until) <= now:
        return (("StepSucceeded", {"step": run.step, "attempt": run.attempt, "output": {"until": run.until}}),)
    return ()


def _attempt_lost(run: Run) -> tuple[Draft, ...]:
    if run.phase != "started" or run.until is not None:
        return ()
    about = {"step": run.step, "attempt": run.attempt}
    if run.interruptions < INTERRUPTIONS_MAX:
        return (("StepInterrupted", about),)
    error = {
        "code": "interrupted_too_often",
        "message": f"{INTERRUPTIONS_MAX + 1} attempts of this step lost their worker before they had a result",
    }
    return (("StepFailed", {**about, "error": error}),)


def _begin_step(
    run: Run, now: float, values: Mapping[str, Any] | None, delay_max_s: float
) -> tuple[Draft, ...] | Needs:
    step = run.plan.steps[run.pc]
    if run.attempt or not step.expressions:
        return (_next_attempt(run, now),)
    if values is None:
        return Needs(step.expressions)
    fault = next((value for value in values.values() if isinstance(value, ExpressionFault)), None)
    if fault is not None:
        return (_unstarted(step, fault.code, fault.message),)
    config: Any = (templates.deferred if step.secrets else templates.render)(step.config, values)
    problem = _unfit_delay(config, delay_max_s) if step.type == "delay" else _unfit_webhook(config)
    if problem is not None:
        return (_unstarted(step, "config_invalid", problem),)
    return (_next_attempt(run, now, config),)


def _unstarted(step: StepPlan, code: str, message: str) -> Draft:
    return "StepFailed", {"step": step.name, "attempt": 0, "error": {"code": code, "message": message}}


def _next_attempt(run: Run, now: float, config: dict[str, Any] | None = None) -> Draft:
    step = run.plan.steps[run.pc]
    data: StepStartedData = {"step": step.name, "attempt": run.attempt + 1}
    if step.type == "delay":
        delay_s = step.delay_s if step.delay_s is not None else durations.seconds((config or run.input)["duration"])
        data["until"] = time_text(now + delay_s) if delay_s else time_text(now - 0.001)
    if config is not None:
        data["input"] = config
    return "StepStarted", data


def _unfit_delay(config: dict[str, Any], delay_max_s: float) -> str | None:
    """Why a delay cannot be used after its expressions were replaced."""
    try:
        delay_s = durations.seconds(config["duration"])
    except (ValueError, TypeError) as error:
        return f"config.duration: {error}"
    if delay_s > delay_max_s:
        return f"config.duration: {delay_s:.15g} s; the limit is {delay_max_s:.15g} s (setting WORKFLOW_DELAY_MAX_S)"
    return None


def _unfit_webhook(config: dict[str, Any]) -> str | None:
    """Why a webhook cannot be used after its expressions were replaced; of what secrets hide, the call will judge."""
    url, method, headers = config.get("url"), config.get("method", "POST"), config.get("headers", {})
    if not isinstance(url, str) or not (url.lower().startswith(("http://", "https://")) or templates.secrets(url)):
        return f"config.url: {str(url)[:200]!r} is not http or https"
    if not isinstance(method, str) or method.upper() not in METHODS:
        return f"config.method: one of {', '.join(METHODS)} is needed"
    if not all(isinstance(value, str) for value in headers.values()):
        return "config.headers: every value must be a text"
    return None


def _completed(run: Run, status: str, error: Any) -> Draft:
    data = {
        "status": status,
        "workflow_id": run.workflow_id,
        "version": run.version,
        "results": run.outputs,
        "error": error,
        "steps": run.summaries(),
        "created_at": run.created_at,
        "started_at": run.started_at,
    }
    completed: RunCompletedData = data  # type: ignore[assignment]
    return "RunCompleted", completed
