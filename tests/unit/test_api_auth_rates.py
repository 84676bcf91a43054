"""Limits of keys: how many requests, what is told of them, and what a batch counts."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest
from limits.storage import MemoryStorage

from api import rates
from api.errors import RateLimited
from api.rates import Rates
from tests.api.world import World, client_of, make_world, pointers, problem
from tests.keyring import make_key

TRIGGER = "/api/v1/trigger"
START = {"workflow_id": "greet"}


class Clock:
    """In place of `time.time`, for this module and the library."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        monkeypatch.setattr("time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def limited(**settings: int) -> World:
    world = make_world(workflow_auth="keys", **settings)
    await world.define()
    return world


def taken(take: Callable[[], object], tries: int) -> int:
    """How many of them were not refused."""
    count = 0
    for _ in range(tries):
        try:
            take()
        except RateLimited:
            continue
        count += 1
    return count


def test_without_a_limit_nothing_is_counted() -> None:
    """And nothing is told."""
    key, _ = make_key()
    counted = Rates(0)
    assert taken(lambda: counted.take(key), 1000) == 1000
    assert counted.told(key) == ()


def test_a_key_may_make_so_many_requests_and_more_later(clock: Clock) -> None:
    """The window slides: half a second after it was used up, half of it is there again."""
    key, _ = make_key()
    counted = Rates(10)
    assert taken(lambda: counted.take(key), 30) == 10
    clock.now += 1.5
    assert taken(lambda: counted.take(key), 30) in range(4, 7)
    clock.now += 5
    assert taken(lambda: counted.take(key), 30) == 10


def test_the_key_s_own_limit_stands_in_place_of_the_platform_s(clock: Clock) -> None:
    """Lower or higher, and by the minute or the hour."""
    for rate, most in (("3/second", 3), ("30/minute", 30), ("50/hour", 50)):
        key, _ = make_key(rate=rate)
        counted = Rates(10)
        assert taken(lambda: counted.take(key), 60) == most  # noqa: B023 - called at once


def test_each_key_is_counted_for_itself(clock: Clock) -> None:
    """By its id: what one does takes nothing from another."""
    counted = Rates(5)
    for key, _ in (make_key("a"), make_key("b")):
        assert taken(lambda: counted.take(key), 9) == 5  # noqa: B023 - called at once


@pytest.mark.parametrize(("rate", "window_s"), [("2/second", 1), ("2/minute", 60), ("2/hour", 3600)])
def test_a_refusal_says_when_to_come_again(clock: Clock, rate: str, window_s: int) -> None:
    """In whole seconds, at least one, at most the window; then it is taken."""
    key, _ = make_key(rate=rate)
    counted = Rates(0)
    for _ in range(2):
        counted.take(key)
    with pytest.raises(RateLimited) as refused:
        counted.take(key)
    wait_s = int(refused.value.headers["Retry-After"])
    assert 1 <= wait_s <= window_s
    clock.now += 2 * wait_s  # the library's count is an estimate
    counted.take(key)


def test_what_is_counted_is_bounded(clock: Clock) -> None:
    """Two numbers for each key, however high its limit; those of keys that are silent go."""
    counted = Rates(100_000)
    storage = counted._counted.storage
    assert isinstance(storage, MemoryStorage)
    for _ in range(3):
        for key, _ in [make_key()] * 5_000:
            counted.take(key)
        clock.now += 1
    assert len(storage.storage) <= 2 * 3
    assert len(storage.events) == 0


async def test_a_limited_caller_is_told_what_is_left() -> None:
    """RateLimit and RateLimit-Policy on every answer, Retry-After on the 429; nothing is sent by a refused start."""
    world = await limited()
    async with client_of(world, world.keys.add("shop", "trigger", rate="2/hour")) as client:
        answers = [await client.post(TRIGGER, json=START) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [202, 202, 429]
        for left, answer in zip((1, 0, 0), answers, strict=True):
            assert answer.headers["ratelimit-policy"] == '"key";q=2;w=3600'
            assert re.fullmatch(rf'"key";r={left};t=[1-9][0-9]*', answer.headers["ratelimit"])
        body = problem(answers[-1], 429, "rate_limited")
        assert "2 requests per hour" in body["detail"]
        assert int(answers[-1].headers["retry-after"]) >= 1
    assert len(world.sent) == 2


async def test_the_setting_limits_every_key_without_a_limit_of_its_own() -> None:
    """What has no key, such as a probe, is not limited."""
    world = await limited(workflow_rate_limit=5)
    async with client_of(world, world.keys.add("shop", "read")) as client:
        statuses = [(await client.get("/api/v1/runs")).status_code for _ in range(30)]
        assert statuses.count(429) > 0
        assert statuses.count(200) >= 5
        assert {(await client.get("/health")).status_code for _ in range(30)} == {200}


async def test_requests_that_are_refused_count_too() -> None:
    """Else a key without a scope could ask without end."""
    world = await limited()
    async with client_of(world, world.keys.add("shop", "read", rate="2/hour")) as client:
        statuses = [(await client.post(TRIGGER, json=START)).status_code for _ in range(4)]
    assert statuses == [403, 403, 429, 429]


async def test_wrong_keys_use_nobody_s_limit_up() -> None:
    """Who knows an id cannot lock its owner out."""
    world = await limited()
    token = world.keys.add("shop", "read", rate="2/hour")
    async with client_of(world) as client:
        for _ in range(4):
            bad = {"Authorization": f"Bearer wfk_{token.id}_{'0' * 64}"}
            problem(await client.get("/api/v1/runs", headers=bad), 401, "not_authenticated")
        good = {"Authorization": f"Bearer {token.text}"}
        assert (await client.get("/api/v1/runs", headers=good)).status_code == 200


async def batch(client: httpx.AsyncClient, count: int) -> httpx.Response:
    return await client.post(f"{TRIGGER}/batch", json={"items": [START] * count})


async def test_a_batch_counts_as_many_requests_as_it_has_starts() -> None:
    """A refused one sends nothing, and waits for the whole window."""
    world = await limited()
    async with client_of(world, world.keys.add("shop", "trigger", rate="10/hour")) as client:
        assert (await batch(client, 6)).status_code == 202
        answer = await batch(client, 6)
        problem(answer, 429, "rate_limited")
        assert len(answer.headers.get_list("ratelimit")) == 1
        assert answer.headers["retry-after"] == "3600"
    assert len(world.sent) == 6


async def test_a_batch_that_could_never_pass_is_told_so() -> None:
    """A 422 that names the limit, not a 429 for ever."""
    world = await limited()
    async with client_of(world, world.keys.add("shop", "trigger", rate="10/hour")) as client:
        body = problem(await batch(client, 11), 422, "body_invalid")
        assert pointers(body) == ["/items"]
        assert body["errors"][0]["limit"] == 10
    assert world.sent == []


def test_a_limit_is_read_once() -> None:
    """Not at each request."""
    rates._parsed.cache_clear()
    key, _ = make_key(rate="77/second")
    counted = Rates(0)
    for _ in range(9):
        counted.take(key)
    assert rates._parsed.cache_info().misses == 1
