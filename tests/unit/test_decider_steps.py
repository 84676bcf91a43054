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


def test_a_delay_that_is_too_long() -> None:
    """The longest one is handed in with the values; what comes of it is an event, so that no replay asks again."""
    run = given(requested(workflow(delay(duration="${payload.d}"))))
    assert decider.advance(run, NOW, {"payload.d": "60s"}, delay_max_s=60)[0][0] == "StepStarted"  # type: ignore[index]
    ((type_, data),) = decider.advance(run, NOW, {"payload.d": "61s"}, delay_max_s=60)  # type: ignore[misc]
    assert (type_, data["error"]["code"]) == ("StepFailed", "config_invalid")
    assert "the limit is 60 s (setting WORKFLOW_DELAY_MAX_S)" in data["error"]["message"]


def test_a_delay_without_expressions_is_not_asked_again() -> None:
    """It was judged when it was defined: a lower bound leaves runs of older definitions alone."""
    run = given(requested(workflow(delay(duration="61s"))))
    assert decider.advance(run, NOW, delay_max_s=60)[0][0] == "StepStarted"  # type: ignore[index]


# ── secrets ──

HOOK = webhook(
    config={
        "url": "${secrets.BASE}/${payload.n}",
        "headers": {"X-Key": "${payload.a}${secrets.KEY}"},
        "body": {"all": "${payload}", "text": "$${x}"},
        "sign_with": "SIGN",
    }
)


def test_the_input_keeps_references_to_secrets() -> None:
    """What data says stands there escaped, and nothing of a secret; the effect gets this template."""
    run = given(requested(workflow(HOOK)))
    data_says = {"n": 5, "x": "${secrets.KEY}"}
    ((type_, data),) = follows(run, NOW, {"payload.n": 5, "payload.a": "$", "payload": data_says})
    assert (type_, data["input"]) == (
        "StepStarted",
        {
            "url": "${secrets.BASE}/5",
            "headers": {"X-Key": "${'$'}${secrets.KEY}"},
            "body": {"all": {"n": 5, "x": "$${secrets.KEY}"}, "text": "$${x}"},
            "sign_with": "SIGN",
        },
    )
    assert decider.effect_input(given(requested(workflow(HOOK)), (type_, data))) == data["input"]


def test_a_step_with_secrets_and_no_expressions_has_no_input() -> None:
    """Its definition is the template."""
    config = {"url": "${secrets.URL}", "body": "$${x} ${secrets.A}"}
    ((_, data),) = follows(given(requested(workflow(webhook(config=config)))))
    assert "input" not in data
    assert decider.effect_input(given(requested(workflow(webhook(config=config))), started())) == config


def test_data_that_looks_like_a_reference_without_secrets() -> None:
    """A step that names no secret is rendered once, and its input is written as it always was."""
    run = given(requested(workflow(webhook(config={"url": "http://x", "body": "${payload}"}))))
    ((_, data),) = follows(run, NOW, {"payload": {"x": "${secrets.KEY} $${y}"}})
    assert data["input"]["body"] == {"x": "${secrets.KEY} $${y}"}


def test_a_url_with_a_secret_is_judged_when_it_is_called() -> None:
    """One without is judged at once, also in a step that has secrets elsewhere."""
    config = {"url": "${payload.u}", "body": "${secrets.X}"}
    run = given(requested(workflow(webhook(config=config))))
    for url in ("ftp://x", "${secrets.X}"):
        ((type_, data),) = follows(run, NOW, {"payload.u": url})
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
