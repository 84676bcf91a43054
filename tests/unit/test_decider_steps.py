"""How the decider begins a step: expressions, configs that their values spoil, waits between attempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from schemas.events import time_text
from schemas.plan import StepPlan, plan_of
from schemas.run import Run
from streams import decider
from streams.decider import Draft, ExpressionFault, Needs
from tests.given import NOW, delay, given, interrupted, requested, started, webhook, workflow


def follows(run: Run, now: float = NOW, values: Mapping[str, Any] | None = None) -> tuple[Draft, ...]:
    """What `advance` says, where it needs nothing more."""
    drafts = decider.advance(run, now, values)
    assert not isinstance(drafts, Needs)
    return drafts


# ── expressions ──

CALL = webhook(config={"url": "http://x/${payload.n}", "body": {"all": "${payload}"}})


def test_expressions_are_asked_for() -> None:
    """A step with expressions starts only with their values, and StepStarted holds the config with them."""
    run = given(requested(workflow(CALL)))
    assert decider.advance(run, NOW) == Needs(("payload.n", "payload"))
    ((type_, data),) = follows(run, NOW, {"payload.n": 5, "payload": {"n": 5}})
    assert (type_, data["input"]) == ("StepStarted", {"url": "http://x/5", "body": {"all": {"n": 5}}})


def test_expressions_are_asked_for_once() -> None:
    """Later attempts take the config of the first one: nothing is evaluated twice."""
    config = {"url": "http://x/5"}
    run = given(requested(workflow(CALL)), started(input=config), interrupted())
    assert follows(run, NOW) == (started(attempt=2),)
    again = given(requested(workflow(CALL)), started(input=config), interrupted(), started(attempt=2))
    assert decider.effect_input(again) == config


def test_an_expression_that_fails() -> None:
    """It fails the step before any attempt, with the expression and the reason."""
    fault = ExpressionFault(source="payload.n", reason="no such key")
    drafts = follows(given(requested(workflow(CALL))), NOW, {"payload.n": fault, "payload": {}})
    ((type_, data),) = drafts
    assert (type_, data["attempt"], data["error"]["code"]) == ("StepFailed", 0, "expression_fault")
    assert "no such key" in data["error"]["message"]


@pytest.mark.parametrize(
    ("config", "values", "names"),
    [
        ({"url": "${u}"}, {"u": "ftp://x"}, "config.url"),
        ({"url": "${u}"}, {"u": 5}, "config.url"),
        ({"url": "http://x", "method": "${m}"}, {"m": "BREW"}, "config.method"),
        ({"url": "http://x", "headers": {"a": "${h}"}}, {"h": 5}, "config.headers"),
    ],
)
def test_values_that_do_not_fit(config: Any, values: Any, names: str) -> None:
    """A config that its values make unusable fails the step with the field's name."""
    ((type_, data),) = follows(given(requested(workflow(webhook(config=config)))), NOW, values)
    assert (type_, data["attempt"], data["error"]["code"]) == ("StepFailed", 0, "config_invalid")
    assert names in data["error"]["message"]


def test_a_delay_by_expression() -> None:
    """Its duration may be an expression; what is no duration fails the step."""
    run = given(requested(workflow(delay(duration="${payload.d}"))))
    ((_, data),) = follows(run, NOW, {"payload.d": "2s"})
    assert data["until"] == time_text(NOW + 2)
    ((type_, data),) = follows(run, NOW, {"payload.d": "soon"})
    assert (type_, data["error"]["code"]) == ("StepFailed", "config_invalid")


# ── backoff ──


def retry(**fields: Any) -> StepPlan:
    return plan_of(workflow(webhook(retry=fields))).steps[0]


@pytest.mark.parametrize(("tries", "longest"), [(1, 1), (2, 2), (3, 4), (7, 60), (900, 60)])
def test_backoff_grows_to_its_bound(tries: int, longest: float) -> None:
    """The wait doubles with each failure up to `max`; its upper half is by chance."""
    step = retry(initial=1, factor=2, max=60)
    assert decider.backoff_s(step, tries, "0" * 32, None) == longest / 2
    assert decider.backoff_s(step, tries, "f" * 32, None) == longest


def test_backoff_of_many_tries() -> None:
    """No number of failures makes a wait that cannot be computed."""
    assert decider.backoff_s(retry(factor=100, max="1d"), 999, "f" * 32, None) == 86_400


def test_retry_after() -> None:
    """The receiver's wish makes a wait longer, never shorter, up to a day."""
    step = retry(initial=10)
    assert decider.backoff_s(step, 1, "f" * 32, 30) == 30
    assert decider.backoff_s(step, 1, "f" * 32, 3) == 10
    assert decider.backoff_s(step, 1, "f" * 32, 1e9) == decider.RETRY_AFTER_MAX_S


def test_chance_comes_from_the_tip() -> None:
    """The same tip gives the same wait on every machine, another tip another one."""
    waits = {decider.backoff_s(retry(), 1, tip, None) for tip in ("12345678", "12345678", "87654321")}
    assert len(waits) == 2
