"""Why a run is where it is: one reason, from the state that decides and from what is around it. Pure and total.

Nothing is guessed from what people are shown: `due`, `advance` and `decide` are asked what the engine would ask them.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.events import encode, time_s, time_text
from schemas.run import Run
from streams.decider import AttemptLost, Draft, Needs, TimerFired, advance, decide, due
from streams.reasons import (
    OVERDUE_S,
    Around,
    CommandWaits,
    Deciding,
    DefinitionWaits,
    Delay,
    Finished,
    NoWorker,
    Overdue,
    Reason,
    Retry,
    SetAside,
    StepRunning,
    TablesBehind,
)


class Timing(NamedTuple):
    """`now`, seconds since 1970; `step_timeout_s`: of an attempt whose step names no timeout."""

    now: float
    step_timeout_s: float


def why(run: Run, at: str, around: Around, timing: Timing) -> Reason:
    """Why the run is where it is. `at`: when the log took its last event."""
    if run.phase == "done" and run.finished_at is not None:
        return Finished(run.status, run.finished_at, run.error)
    if run.set_aside is not None:
        return SetAside(at, run.set_aside)
    try:
        return _unfinished(run, at, around, timing)
    except Exception as error:  # noqa: BLE001 - the engine sets such a run aside as well
        return SetAside(at, f"it cannot be decided: {type(error).__name__} {error}")


def why_waiting(offset: int, at: str, around: Around, missing: str | None = None) -> Reason:
    """Why a start is no run yet: its command came at `at` and stands at `offset` of `workflow.trigger`. `missing`: the
    version that it names, where that is not defined."""
    if around.settled is not None and offset < around.settled:
        return TablesBehind(None, "RunRequested", at)
    if around.worker.state == "none":
        return (TablesBehind if around.behind else NoWorker)(None, "RunRequested", at)
    before = None if around.settled is None else offset - around.settled
    return CommandWaits(at, before) if missing is None else DefinitionWaits(at, before, missing)


def _unfinished(run: Run, at: str, around: Around, timing: Timing) -> Reason:
    timer = due(run)
    if timer is not None and timer > timing.now:
        return _sleeping(run, at)
    if run.phase == "started" and timer is None:
        return _running(run, at, around, timing)
    drafts = decide(run, TimerFired(), timing.now) if run.phase == "started" else advance(run, timing.now)
    since = at if timer is None else time_text(timer)
    step = None if run.pc >= len(run.plan.steps) else run.step
    return _due(step, _next(run, drafts), since, around, timing)


def _sleeping(run: Run, at: str) -> Reason:
    assert run.until is not None
    if run.phase == "started":
        return Delay(run.step, at, run.until)
    return Retry(run.step, run.attempt + 1, _attempts_max(run), at, run.until, run.error)


def _running(run: Run, at: str, around: Around, timing: Timing) -> Reason:
    if around.worker.state == "none":
        return _due(run.step, _next(run, decide(run, AttemptLost(), timing.now)), at, around, timing)
    timeout_s = run.plan.steps[run.pc].timeout_s
    until = time_text(time_s(at) + (timing.step_timeout_s if timeout_s is None else timeout_s))
    error = run.error if run.tries else None
    return StepRunning(run.step, run.attempt, _attempts_max(run), at, until, error)


def _due(step: str | None, next_event: str, since: str, around: Around, timing: Timing) -> Reason:
    """Nothing stands between the run and its next event but whoever writes it, and whoever shows it."""
    if around.behind:
        return TablesBehind(step, next_event, since)
    if around.worker.state == "none":
        return NoWorker(step, next_event, since)
    if timing.now > time_s(since) + OVERDUE_S:
        return Overdue(step, next_event, since)
    return Deciding(step, next_event, since)


def _next(run: Run, drafts: tuple[Draft, ...] | Needs) -> str:
    """The event that comes next. A step whose expressions have no values yet starts, or fails, once they have. Raises where
    the engine could not write it."""
    if isinstance(drafts, Needs):
        return "StepStarted"
    type_, data = drafts[0]
    encode(type_, run.id, data, time="", epoch=1, seq=run.seq + 1, prev=run.tip)
    return type_


def _attempts_max(run: Run) -> int:
    """Number of the last attempt that the step may have: interrupted ones were given back."""
    return run.plan.steps[run.pc].max_attempts + run.interruptions
