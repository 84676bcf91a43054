"""The decider: given these events, when this happens, then these are the facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from schemas.commands import CancelRun
from schemas.events import time_text
from schemas.run import Run
from streams import decider
from streams.decider import AttemptEnded, AttemptLost, Draft, Needs, TimerFired, decide
from tests.given import (
    DONE,
    NOW,
    REFUSED,
    delay,
    failed,
    given,
    interrupted,
    passing,
    requested,
    retrying,
    start,
    started,
    succeeded,
    webhook,
    workflow,
)

CANCEL = CancelRun("c2", "r1", "enough", "2026-01-01T00:00:00.000Z")


def follows(run: Run, now: float = NOW, values: Mapping[str, Any] | None = None) -> tuple[Draft, ...]:
    """What `advance` says, where it needs nothing more."""
    drafts = decider.advance(run, now, values)
    assert not isinstance(drafts, Needs)
    return drafts


def steps(drafts: tuple[Draft, ...]) -> list[tuple[str, Any]]:
    """Type and attempt (or status) of each draft."""
    return [(type_, data.get("attempt", data.get("status"))) for type_, data in drafts]


# ── decide ──


def test_a_start_becomes_a_run() -> None:
    """RunRequested pins definition, version and payload and names its command."""
    ((type_, data),) = decide(Run("r1"), start(n=1), NOW)
    assert (type_, data["version"], data["payload"], data["command"]) == ("RunRequested", 1, {"n": 1}, "c-r1")
    assert data["definition"] == workflow()
    assert "refused" not in data


def test_a_refused_start_becomes_a_run_that_fails() -> None:
    """A start that must be refused is a run all the same: requested, and FAILED with the reason."""
    refused = replace(start(), definition=None, version=None, refusal={"code": "definition_unknown", "message": "no"})
    (draft,) = decide(Run("r1"), refused, NOW)
    ((type_, data),) = follows(given(draft), NOW)
    assert (type_, data["status"], data["error"]["code"]) == ("RunCompleted", "FAILED", "definition_unknown")


def test_a_start_of_a_run_that_exists() -> None:
    """A start that comes again makes no fact."""
    assert decide(given(requested()), start(), NOW) == ()


def test_a_success() -> None:
    """The result of the open attempt becomes its output."""
    drafts = decide(given(requested(), started()), AttemptEnded(1, DONE), NOW)
    assert drafts == (("StepSucceeded", {"step": "call", "attempt": 1, "output": {"status": 200}}),)


def test_a_failure_that_may_pass() -> None:
    """It is tried again after a wait, while attempts are left."""
    ((type_, data),) = decide(given(requested(), started()), AttemptEnded(1, passing()), NOW)
    assert (type_, data["attempt"], data["error"]["code"]) == ("StepRetryScheduled", 1, "http_503")
    assert time_text(NOW + 0.5) <= data["until"] <= time_text(NOW + 1)


def test_the_last_attempt() -> None:
    """A failure that may pass is final when no attempt is left."""
    definition = workflow(webhook(retry={"max_attempts": 2}))
    run = given(requested(definition), started(), retrying(), started(attempt=2))
    assert steps(decide(run, AttemptEnded(2, passing()), NOW)) == [("StepFailed", 2)]


def test_a_failure_that_stays() -> None:
    """A failure that will not pass ends the step at once."""
    assert steps(decide(given(requested(), started()), AttemptEnded(1, REFUSED), NOW)) == [("StepFailed", 1)]


@pytest.mark.parametrize("attempt", [0, 1, 3])
def test_a_late_result(attempt: int) -> None:
    """A result of another attempt than the open one makes no fact."""
    run = given(requested(), started(), interrupted(), started(attempt=2))
    assert decide(run, AttemptEnded(attempt, DONE), NOW) == ()


@pytest.mark.parametrize(
    "drafts", [(requested(),), (requested(), started(), succeeded()), (requested(), started(), failed())]
)
def test_a_result_without_an_open_attempt(drafts: tuple[Any, ...]) -> None:
    """A result makes no fact while no attempt is open."""
    assert decide(given(*drafts), AttemptEnded(1, DONE), NOW) == ()


def test_an_interrupted_attempt_does_not_use_up_retry() -> None:
    """Attempts whose worker was lost are counted apart."""
    definition = workflow(webhook(retry={"max_attempts": 2}))
    run = given(requested(definition), started(), interrupted(), started(attempt=2))
    assert steps(decide(run, AttemptEnded(2, passing()), NOW)) == [("StepRetryScheduled", 2)]


def test_interruptions_have_a_bound() -> None:
    """The attempt after 20 interruptions that loses its worker too fails the step."""
    drafts = [requested()]
    for attempt in range(1, decider.INTERRUPTIONS_MAX + 1):
        drafts += [started(attempt=attempt), interrupted(attempt=attempt)]
    last = decider.INTERRUPTIONS_MAX + 1
    run = given(*drafts, started(attempt=last))
    ((type_, data),) = decide(run, AttemptLost(), NOW)
    assert (type_, data["attempt"], data["error"]["code"]) == ("StepFailed", last, "interrupted_too_often")


def test_a_lost_attempt_is_interrupted() -> None:
    """An open attempt that runs nowhere is recorded as interrupted, and the next one has the next number."""
    run = given(requested(), started())
    (draft,) = decide(run, AttemptLost(), NOW)
    assert draft == interrupted()
    assert steps(follows(given(requested(), started(), draft), NOW)) == [("StepStarted", 2)]


def test_a_delay_is_not_interrupted() -> None:
    """A delay needs no worker: losing one changes nothing."""
    run = given(requested(workflow(delay())), started("wait", until=time_text(NOW + 5)))
    assert decide(run, AttemptLost(), NOW) == ()


def test_a_delay_ends_when_it_is_due() -> None:
    """Its timer makes a fact at the due time and not before."""
    run = given(requested(workflow(delay())), started("wait", until=time_text(NOW + 5)))
    assert decide(run, TimerFired(), NOW + 4.999) == ()
    assert steps(decide(run, TimerFired(), NOW + 5)) == [("StepSucceeded", 1)]


def test_a_timer_of_a_webhook() -> None:
    """A timer says nothing to an attempt that waits for its result."""
    assert decide(given(requested(), started()), TimerFired(), NOW) == ()


def test_cancel() -> None:
    """A cancel ends the run wherever it stands, with what it has."""
    run = given(requested(workflow(webhook("a"), webhook("b"))), started("a"), succeeded("a", output=1), started("b"))
    ((type_, data),) = decide(run, CANCEL, NOW)
    assert (type_, data["status"], data["results"], data["error"]["message"]) == (
        "RunCompleted",
        "CANCELLED",
        {"a": 1},
        "enough",
    )
    assert [step["attempts"] for step in data["steps"]] == [1, 1]


def test_cancel_of_nothing() -> None:
    """There is nothing to cancel before the first event and after the last."""
    done = given(requested(), started(), failed(), *follows(given(requested(), started(), failed()), NOW))
    assert decide(Run("r1"), CANCEL, NOW) == ()
    assert done.phase == "done"
    assert decide(done, CANCEL, NOW) == ()


@pytest.mark.parametrize("input_", [start(), CANCEL, AttemptEnded(1, DONE), TimerFired(), AttemptLost()])
def test_a_run_that_is_set_aside(input_: decider.Input) -> None:
    """Nothing is decided for a run with an event that this process does not know."""
    run = given(requested(), started(), ("StepTeleported", {}))
    assert run.set_aside is not None
    assert decide(run, input_, NOW) == ()
    assert follows(run, NOW) == ()


# ── advance ──


def test_steps_follow_one_another() -> None:
    """After a success the next step starts; after the last one the run is over."""
    definition = workflow(webhook("a"), webhook("b"))
    facts = [requested(definition), started("a"), succeeded("a", output=1)]
    assert follows(given(*facts), NOW) == (started("b"),)
    ((type_, data),) = follows(given(*facts, started("b"), succeeded("b", output=2)), NOW)
    assert (type_, data["status"], data["results"], data["error"]) == (
        "RunCompleted",
        "SUCCESS",
        {"a": 1, "b": 2},
        None,
    )


def test_a_failed_step_fails_the_run() -> None:
    """The run's error is the step's, with the step's name."""
    ((type_, data),) = follows(given(requested(), started(), failed()), NOW)
    assert (type_, data["status"], data["error"]["step"]) == ("RunCompleted", "FAILED", "call")


def test_a_retry_waits_for_its_time() -> None:
    """The next attempt starts when the wait is over."""
    run = given(requested(), started(), retrying(until=NOW + 5))
    assert follows(run, NOW + 4.999) == ()
    assert steps(follows(run, NOW + 5)) == [("StepStarted", 2)]


@pytest.mark.parametrize(
    ("duration", "until"), [(0, None), (0.5, NOW + 0.5), ("1d", NOW + 86_400), ("50ms", NOW + 0.05)]
)
def test_a_delay_says_when_it_is_over(duration: Any, until: float | None) -> None:
    """StepStarted of a delay carries `until`; a delay of 0 is over when it starts."""
    ((_, data),) = follows(given(requested(workflow(delay(duration=duration)))), NOW)
    assert data["until"] == (time_text(until) if until is not None else time_text(NOW - 0.001))


def test_due() -> None:
    """A delay and a retry say when they want to be looked at again; nothing else does."""
    assert decider.due(given(requested(), started(), retrying(until=NOW + 5))) == NOW + 5
    assert decider.due(given(requested(workflow(delay())), started("wait", until=time_text(NOW + 5)))) == NOW + 5
    assert decider.due(given(requested(), started())) is None
    assert decider.due(given(requested())) is None
