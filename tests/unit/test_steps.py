"""Steps that reach outside: what of a run and of the settings becomes the request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ops.echo import Echo
from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from schemas.run import Run
from streams.decider import effect_input
from streams.secret_values import SecretValues
from streams.steps import StepEffects
from tests.given import given, requested, started, webhook, workflow
from tests.webhooks import client_of_tests


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


async def carried_out(run: Run, *, cut: bool = False, bytes_max: int = 10_000) -> EffectResult:
    """The result of the run's open attempt, by a worker that has the secret T."""
    result: asyncio.Future[EffectResult] = asyncio.get_running_loop().create_future()
    secrets = SecretValues({"WORKFLOW_SECRET_T": "s3cr3t-value"})
    async with client_of_tests() as client:
        effects = StepEffects(client, secrets, limit=1, timeout_s=5, result_bytes_max=bytes_max, cut=cut)
        effects.start(run, effect_input(run), result.set_result)
        return await result


def attempt(config: dict[str, Any], step_input: dict[str, Any] | None = None) -> Run:
    more: dict[str, Any] = {} if step_input is None else {"input": step_input}
    return given(requested(workflow(webhook(config=config))), started(**more))


async def test_a_step_with_secrets_is_rendered_when_it_is_called(echo: Echo) -> None:
    """From its definition, and from the input of StepStarted where it had expressions."""
    config = {"url": echo.url, "body": "${secrets.T} $${x}"}
    await carried_out(attempt(config))
    config["body"] = "${payload.x} ${secrets.T}"
    await carried_out(attempt(config, {"url": echo.url, "body": "$${secrets.T} ${secrets.T}"}))
    assert [request.body for request in echo.received] == ["s3cr3t-value ${x}", "${secrets.T} s3cr3t-value"]


async def test_a_step_without_secrets_is_not(echo: Echo) -> None:
    """Its input is what is sent, also where data looks like a reference."""
    await carried_out(
        attempt({"url": "${payload.u}", "body": "${payload.x}"}, {"url": echo.url, "body": "${secrets.T}"})
    )
    assert [request.body for request in echo.received] == ["${secrets.T}"]


async def test_a_large_result_fails_or_is_cut_by_setting(echo: Echo) -> None:
    """WORKFLOW_RESULT_OVERFLOW."""
    run = attempt({"url": echo.url, "body": "x" * 2_000})
    failed = await carried_out(run, bytes_max=1_000)
    assert isinstance(failed, EffectFailed)
    assert failed.error["code"] == "response_too_large"
    succeeded = await carried_out(run, bytes_max=1_000, cut=True)
    assert isinstance(succeeded, EffectSucceeded)
    assert isinstance(succeeded.output, dict)
    assert "cut" in succeeded.output


async def test_the_key_is_the_runs_and_the_steps(echo: Echo) -> None:
    """The same for every attempt."""
    await carried_out(attempt({"url": echo.url}))
    assert [request.headers["idempotency-key"] for request in echo.received] == ["r1/call"]
