"""Definitions prepared for running."""

from __future__ import annotations

from typing import Any

import pytest

from schemas import plan
from schemas.plan import plan_of
from tests.given import delay, webhook, workflow


def test_durations_are_seconds() -> None:
    """Whatever unit a definition is written in, the plan has seconds."""
    step = webhook(timeout="1m", retry={"max_attempts": 9, "initial": "50ms", "factor": 3, "max": "1h"})
    call, wait = plan_of(workflow(step, delay(duration="1d"))).steps
    assert (call.timeout_s, call.max_attempts, call.initial_s, call.factor, call.max_s) == (60, 9, 0.05, 3, 3600)
    assert (wait.delay_s, wait.timeout_s) == (86_400, None)


def test_defaults() -> None:
    """A step that says nothing about retry is tried as often as one with the default policy."""
    call = plan_of(workflow(webhook())).steps[0]
    assert (call.max_attempts, call.initial_s, call.factor, call.max_s, call.timeout_s, call.delay_s) == (
        5,
        1,
        2.0,
        60,
        None,
        None,
    )


def test_expressions_are_found() -> None:
    """Each step knows the distinct expressions of its config; a delay by expression has no seconds yet."""
    call, wait = plan_of(
        workflow(
            webhook(config={"url": "${payload.url}", "body": ["${payload.n}", "${payload.url}"]}),
            delay(duration="${payload.d}"),
        )
    ).steps
    assert call.expressions == ("payload.url", "payload.n")
    assert (wait.expressions, wait.delay_s) == (("payload.d",), None)


def test_equal_definitions_share_a_plan() -> None:
    """A hundred thousand runs of one definition hold it once."""
    assert plan_of(workflow(webhook())) is plan_of(workflow(webhook()))
    assert plan_of(workflow(webhook())) is not plan_of(workflow(delay()))


def test_plans_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache is emptied at its bound, and plans are made anew."""
    monkeypatch.setattr(plan, "_plans", {})
    monkeypatch.setattr(plan, "PLANS_MAX", 3)
    plans = [plan_of(workflow(webhook(f"s{n}"))) for n in range(7)]
    assert len(plan._plans) <= 3
    assert plan_of(workflow(webhook("s0"))) == plans[0]


def test_no_definition() -> None:
    """A run that was refused at once has no steps."""
    assert plan_of(None).steps == ()


@pytest.mark.parametrize(
    "definition",
    [
        {},
        {"steps": 5},
        {"steps": [{}]},
        {"steps": [delay(duration="soon")]},
        {"steps": [webhook(config={"url": "${"})]},
    ],
)
def test_what_is_no_definition(definition: dict[str, Any]) -> None:
    """A definition that cannot be run is an error of a kind that the fold turns into a run set aside."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        plan_of(definition)
