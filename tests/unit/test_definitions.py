"""Definitions: what is taken, how it is kept, what is refused at which field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.definitions import STEPS_MAX, Definition, NewDefinition
from schemas.plan import plan_of
from tests.given import delay, webhook, workflow


def call(**config: Any) -> dict[str, Any]:
    return webhook(config={"url": "http://x", **config})


def test_secrets_are_kept_as_references() -> None:
    """In url, headers and body; and the one to sign with by its name."""
    config = {
        "url": "https://${secrets.HOST}/${payload.id}",
        "headers": {"Authorization": "Bearer ${secrets.TOKEN}"},
        "body": {"key": ["${secrets.KEY}"]},
        "sign_with": "SIGN_1",
    }
    written = workflow(webhook(config=config))
    definition = Definition.model_validate(written).dump()
    assert definition == written
    assert plan_of(definition).steps[0].secrets == ("HOST", "TOKEN", "KEY")


def test_a_definition_is_kept_as_written() -> None:
    """What was given is kept, defaults are not written out, and durations stay in their unit."""
    written = workflow(webhook(retry={"max_attempts": 2, "initial": "50ms"}, timeout="2s"), delay(duration=0.5))
    assert Definition.model_validate(written).dump() == written


def test_equal_definitions_are_dumped_alike() -> None:
    """Writing a default out makes no other version."""
    plain = workflow(webhook())
    full = workflow(
        webhook(config={"url": "http://x", "method": "POST", "headers": {}, "body": None}, retry={}, timeout=None)
    )
    assert Definition.model_validate(full).dump() == Definition.model_validate(plain).dump()


def test_retry_and_timeout_in_the_config() -> None:
    """They may stand in the config and are kept beside it."""
    inside = webhook(config={"url": "http://x", "retry": {"max_attempts": 2}, "timeout": 5})
    outside = webhook(retry={"max_attempts": 2}, timeout=5)
    assert Definition.model_validate(workflow(inside)).dump() == workflow(outside)


@pytest.mark.parametrize("duration", [0, 5, 0.25, "50ms", "2s", "1d", "${payload.wait}"])
def test_durations(duration: Any) -> None:
    """Seconds, a text with a unit or an expression; every plan can be made of what is taken."""
    definition = Definition.model_validate(workflow(delay(duration=duration))).dump()
    assert plan_of(definition).steps[0].config == {"duration": duration}


def test_a_new_definition_may_lack_its_id() -> None:
    """The id is given or made later; a given one must be sound."""
    body = {key: value for key, value in workflow().items() if key != "id"}
    assert NewDefinition.model_validate(body).id == ""
    assert NewDefinition.model_validate({**body, "id": "my.flow-1"}).id == "my.flow-1"
    with pytest.raises(ValidationError, match="an id is"):
        NewDefinition.model_validate({**body, "id": "a/b"})


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"id": "a b"}, "id", "an id is"),
        ({"id": "x\n"}, "id", "an id is"),
        ({"name": ""}, "name", "at least 1"),
        ({"name": "n" * 201}, "name", "at most 200"),
        ({"description": "d" * 10_001}, "description", "at most"),
        ({"steps": []}, "steps", "at least 1"),
        ({"steps": [delay(f"s{n}") for n in range(STEPS_MAX + 1)]}, "steps", "at most 200"),
        ({"steps": [delay("a"), delay("a")]}, "steps", "two steps are named 'a'"),
        ({"steps": [delay("1a")]}, "steps.0.delay.name", "a step's name"),
        ({"steps": [delay("a\n")]}, "steps.0.delay.name", "a step's name"),
        ({"steps": [{**delay(), "type": "sleep"}]}, "steps.0", "delay"),
        ({"steps": [{**delay(), "retry": {}}]}, "steps.0.delay.retry", "not permitted"),
        ({"steps": [delay(duration=-1)]}, "steps.0.delay.config.duration", "0 or longer"),
        ({"steps": [delay(duration=True)]}, "steps.0.delay.config.duration", "a duration is"),
        ({"steps": [delay(duration="5")]}, "steps.0.delay.config.duration", "no unit"),
        ({"steps": [delay(duration="11y")]}, "steps.0.delay.config.duration", "no duration"),
        ({"steps": [webhook(config={})]}, "steps.0.webhook.config.url", "required"),
        ({"steps": [webhook(config={"url": "ftp://x"})]}, "steps.0.webhook.config.url", "http"),
        ({"steps": [webhook(config={"url": "http://x", "method": "BREW"})]}, "steps.0.webhook.config.method", "GET"),
        ({"steps": [webhook(config={"url": "http://x", "retries": 1})]}, "steps.0.webhook.config.retries", "permitted"),
        ({"steps": [webhook(retry={"max_attempts": 0})]}, "steps.0.webhook.retry.max_attempts", "greater"),
        ({"steps": [webhook(retry={"initial": "${x}"})]}, "steps.0.webhook.retry.initial", "expression"),
        ({"steps": [webhook(timeout=0)]}, "steps.0.webhook.timeout", "longer than 0"),
        ({"steps": [webhook(timeout="${x}")]}, "steps.0.webhook.timeout", "expression"),
        ({"steps": [webhook(config={"url": "http://x/${payload"})]}, "", "not closed"),
        ({"steps": [webhook(config={"url": "http://user:pass@x"})]}, "steps.0.webhook.config.url", "user name"),
        ({"steps": [webhook(config={"url": "http://x\\y"})]}, "steps.0.webhook.config.url", "backslash"),
        ({"steps": [webhook(config={"url": "http://x/\n"})]}, "steps.0.webhook.config.url", "control"),
        ({"steps": [webhook(config={"url": "http://x:0"})]}, "steps.0.webhook.config.url", "no port"),
        ({"steps": [call(headers={"Host": "x"})]}, "steps.0.webhook.config.headers", "'Host': the platform sets"),
        ({"steps": [call(headers={"Webhook-Id": "x"})]}, "steps.0.webhook.config.headers", "the platform sets"),
        ({"steps": [call(headers={"Proxy-X": "${payload.x}"})]}, "steps.0.webhook.config.headers", "the platform sets"),
        ({"steps": [call(headers={"a b": "x"})]}, "steps.0.webhook.config.headers", "no header name"),
        ({"steps": [call(headers={"X": "a\r\nY: b"})]}, "steps.0.webhook.config.headers", "'X': its value holds"),
        ({"steps": [call(method="${secrets.M}")]}, "steps.0.webhook.config.method", "a secret cannot stand here"),
        ({"steps": [call(sign_with="a-b")]}, "steps.0.webhook.config.sign_with", "the name of a secret"),
        ({"steps": [call(sign_with="${secrets.K}")]}, "steps.0.webhook.config.sign_with", "the name of a secret"),
        ({"steps": [call(sign_with="K\n")]}, "steps.0.webhook.config.sign_with", "the name of a secret"),
        ({"steps": [delay(duration="${secrets.D}")]}, "steps.0.delay.config.duration", "a secret cannot stand here"),
        ({"steps": [call(body="${secrets['X']}")]}, "", "a secret stands by itself"),
        ({"steps": [call(body=["${secrets.X.size()}"])]}, "", "a secret stands by itself"),
        ({"steps": [call(body="${secrets}")]}, "", "a secret stands by itself"),
        ({"steps": [call(body="${secrets." + "X" * 65 + "}")]}, "", "a secret stands by itself"),
        ({"owner": "ann"}, "owner", "not permitted"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], where: str, says: str) -> None:
    """A definition that cannot run is refused at the field, with what would be right."""
    with pytest.raises(ValidationError) as refused:
        Definition.model_validate({**workflow(), **changes})
    problems = {".".join(map(str, error["loc"])): error["msg"] for error in refused.value.errors()}
    assert says in problems[where], problems
