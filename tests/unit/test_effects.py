"""The runner of effects: a bound on how many, one result for each, none for what was given up."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from ops.echo import Echo
from schemas.effects import EffectFailed, EffectResult, EffectSucceeded
from streams.effects import EffectKey, EffectRunner
from streams.webhook import call
from streams.webhook_request import WebhookRequest
from tests.webhooks import client_of_tests


def key(number: int) -> EffectKey:
    return EffectKey(f"run-{number}", "step", 1)


class World:
    """Effects that end when the test says so, and the results that were handed over."""

    def __init__(self, limit: int) -> None:
        self.started: list[int] = []
        self.most = 0
        self.results: list[tuple[EffectKey, EffectResult]] = []
        self.ends: dict[int, asyncio.Future[EffectResult]] = {}
        self.runner = EffectRunner(limit, self.carry_out, lambda key, result: self.results.append((key, result)))

    async def carry_out(self, number: int) -> EffectResult:
        self.started.append(number)
        self.most = max(self.most, self.runner.running)
        self.ends[number] = asyncio.get_running_loop().create_future()
        return await self.ends[number]

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.runner.start(key(number), number)

    def end(self, number: int) -> None:
        self.ends[number].set_result(EffectSucceeded(number))

    @property
    def counts(self) -> tuple[int, int]:
        return self.runner.running, self.runner.queued


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_starting_returns_at_once_and_the_result_comes_later() -> None:
    """`on_result` gets the key and the result, once."""
    world = World(2)
    world.start(1)
    assert world.results == []
    assert key(1) in world.runner
    await settled()
    world.end(1)
    await settled()
    assert world.results == [(key(1), EffectSucceeded(1))]
    assert key(1) not in world.runner
    assert world.counts == (0, 0)


async def test_no_more_than_the_limit_run_at_once() -> None:
    """The others wait in their order and start as places become free."""
    world = World(2)
    world.start(1, 2, 3, 4)
    await settled()
    assert (world.started, world.counts) == ([1, 2], (2, 2))
    assert key(4) in world.runner
    world.end(2)
    await settled()
    assert (world.started, world.counts) == ([1, 2, 3], (2, 1))
    world.end(1)
    world.end(3)
    await settled()
    world.end(4)
    await settled()
    assert world.started == [1, 2, 3, 4]
    assert sorted(result[0] for result in world.results) == [key(n) for n in (1, 2, 3, 4)]
    assert world.most == 2


async def test_a_cancelled_effect_has_no_result_and_frees_its_place() -> None:
    """Running or waiting, and one that is unknown is no error."""
    world = World(1)
    world.start(1, 2, 3)
    await settled()
    world.runner.cancel(key(2))
    world.runner.cancel(key(1))
    world.runner.cancel(key(9))
    await settled()
    assert (world.started, world.counts) == ([1, 3], (1, 0))
    world.end(3)
    await settled()
    assert world.results == [(key(3), EffectSucceeded(3))]


async def test_an_effect_that_is_cancelled_as_it_ends_has_no_result() -> None:
    """Its result is not handed over after `cancel` has returned."""
    world = World(1)
    world.start(1)
    await settled()
    world.end(1)
    await asyncio.sleep(0)
    world.runner.cancel(key(1))
    await settled()
    assert world.results == []


async def test_a_key_may_come_again_after_its_cancellation() -> None:
    """The old effect's end is not taken for the new one's."""
    world = World(2)
    world.start(1)
    await settled()
    world.runner.cancel(key(1))
    world.start(1)
    await settled()
    world.end(1)
    await settled()
    assert world.results == [(key(1), EffectSucceeded(1))]


async def test_the_same_key_twice_at_once_is_our_mistake() -> None:
    """An attempt runs once."""
    world = World(1)
    world.start(1, 2)
    for number in (1, 2):
        with pytest.raises(AssertionError):
            world.start(number)


async def test_an_effect_that_raises_has_a_result_all_the_same() -> None:
    """What escapes it becomes a failure that may pass."""

    async def broken(request: str) -> EffectResult:
        raise LookupError(request)

    results: list[EffectResult] = []
    runner = EffectRunner(1, broken, lambda _, result: results.append(result))
    runner.start(key(1), "gone")
    await settled()
    (result,) = results
    assert isinstance(result, EffectFailed)
    assert (result.error["code"], result.retryable) == ("unexpected_error", True)
    assert "LookupError: gone" in str(result.error["message"])


async def test_stopping_waits_for_what_ends_in_time() -> None:
    """Results that come within the grace are handed over, the rest is given up, what waited is not started."""
    world = World(2)
    world.start(1, 2, 3)
    await settled()
    stopping = asyncio.create_task(world.runner.stop(grace_s=0.1))
    await settled()
    world.end(1)
    assert await stopping == (key(2), key(3))
    assert world.results == [(key(1), EffectSucceeded(1))]
    assert (world.started, world.counts) == ([1, 2], (0, 0))
    with pytest.raises(AssertionError):
        world.start(4)


async def test_stopping_with_nothing_to_wait_for_is_immediate() -> None:
    """No effects, nothing given up."""
    assert await World(1).runner.stop(grace_s=60) == ()


async def test_webhooks_run_side_by_side_up_to_the_limit() -> None:
    """With the real receiver: 30 slow calls, ten at a time, all answered once."""
    results: dict[EffectKey, EffectResult] = {}
    done = asyncio.Event()

    def on_result(key: EffectKey, result: EffectResult) -> None:
        assert key not in results
        results[key] = result
        if len(results) == 30:
            done.set()

    async with Echo() as echo, client_of_tests(10) as client:

        async def carry_out(request: WebhookRequest) -> EffectResult:
            return await call(client, request)

        runner = EffectRunner(10, carry_out, on_result)
        for number in range(30):
            request = WebhookRequest.of(
                {"url": f"{echo.url}/delay/0.02", "body": number},
                idempotency_key=f"{number}",
                timeout_s=10,
                response_bytes_max=10_000,
            )
            runner.start(key(number), request)
        assert (runner.running, runner.queued, runner.limit) == (10, 20, 10)
        with suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), 20)
        assert sorted(each.headers["idempotency-key"] for each in echo.received) == sorted(map(str, range(30)))
    assert {type(result) for result in results.values()} == {EffectSucceeded}
    assert len(results) == 30
