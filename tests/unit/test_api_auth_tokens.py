"""Checking tokens: what costs a hash and what does not, and that a flood of wrong ones delays nobody else."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time

import pytest

from api import tokens
from api.errors import Overloaded
from api.tokens import Verifier, hash_secret, matches, new_token
from schemas.keys import ID, ApiKey, Token, is_hash, read_token
from tests.api.world import until
from tests.keyring import AT, make_key


class Counting:
    """In place of the hash function: counts, and waits while it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hashes: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()
        monkeypatch.setattr(tokens, "matches", self)

    def __call__(self, hash_: str, secret: str) -> bool:
        self.hashes.append(hash_)
        assert self.go_on.wait(10)
        return matches(hash_, secret)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


async def right(verifier: Verifier, key: ApiKey | None, token: Token) -> bool:
    """As a request asks."""
    digest = verifier.digest(token)
    known = verifier.remembered(key, token, digest)
    return known if known is not None else await verifier.check(key, token, digest)


def wrong(token: Token) -> Token:
    return Token(token.id, secrets.token_hex(32))


def test_tokens_are_new_and_long() -> None:
    """Ids of 12 characters, secrets of 32 random bytes, all different, and their text can be read."""
    made = [new_token() for _ in range(200)]
    assert len({token.id for token in made}) == len({token.secret for token in made}) == 200
    assert all(ID.fullmatch(token.id) and len(bytes.fromhex(token.secret)) == 32 for token in made)
    assert all(read_token(token.text) == token for token in made)


def test_a_hash_is_salted_and_can_stand_in_a_record() -> None:
    """Argon2id, another one each time, and of this secret alone."""
    one, other = hash_secret("s"), hash_secret("s")
    assert one != other
    assert is_hash(one)
    assert (matches(one, "s"), matches(one, "t")) == (True, False)


async def test_a_token_that_was_right_costs_no_second_hash(counting: Counting) -> None:
    """As long as the key's record is the one that it was right for."""
    verifier, (key, token) = Verifier(), make_key()
    assert [await right(verifier, key, token) for _ in range(5)] == [True] * 5
    assert len(counting.hashes) == 1
    assert not await right(verifier, key, wrong(token))
    assert await right(verifier, key, token)
    assert len(counting.hashes) == 2


async def test_a_new_record_makes_what_is_remembered_worthless(counting: Counting) -> None:
    """Whatever changed in it: another hash, or the key is revoked."""
    verifier, (key, token) = Verifier(), make_key()
    assert await right(verifier, key, token)
    other = ApiKey(key.id, key.name, key.scopes, hash_secret("another"), AT)
    assert not await right(verifier, other, token)
    assert not await right(verifier, None, token)
    again = ApiKey(key.id, key.name, key.scopes, key.hash, AT)
    assert await right(verifier, again, token)
    assert len(counting.hashes) == 4


async def test_the_same_wrong_token_costs_one_hash(counting: Counting) -> None:
    """A client with an old key in its settings asks a thousand times."""
    verifier, (key, token) = Verifier(), make_key()
    bad = wrong(token)
    assert [await right(verifier, key, bad) for _ in range(5)] == [False] * 5
    assert len(counting.hashes) == 1
    assert [await right(verifier, None, token) for _ in range(5)] == [False] * 5
    assert len(counting.hashes) == 2
    assert await right(verifier, key, token)


async def test_an_unknown_key_costs_a_hash_as_well(counting: Counting) -> None:
    """Of the same kind: how long an answer takes does not tell which ids there are."""
    verifier, (key, token) = Verifier(), make_key()
    assert not await right(verifier, None, new_token())
    assert not await right(verifier, key, wrong(token))
    unknown, known = (hash_.split("$")[1:4] for hash_ in counting.hashes)
    assert unknown == known


async def test_what_is_remembered_is_bounded(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that were right and tokens that were wrong: the oldest ones go."""
    monkeypatch.setattr(tokens, "WRONG_MAX", 3)
    monkeypatch.setattr(tokens, "RIGHT_MAX", 2)
    verifier = Verifier()
    for _ in range(6):
        assert not await right(verifier, None, new_token())
    made = [make_key() for _ in range(4)]
    for key, token in made:
        assert await right(verifier, key, token)
    assert (len(verifier._wrong), len(verifier._right)) == (3, 2)
    assert await right(verifier, *made[0])
    assert len(counting.hashes) == 11


async def test_nothing_that_is_remembered_is_a_secret() -> None:
    """Digests under a key of this process: two processes remember different bytes."""
    one, other, (_, token) = Verifier(), Verifier(), make_key()
    assert one.digest(token) == one.digest(token)
    assert one.digest(token) != other.digest(token)
    assert token.secret.encode() not in one.digest(token)


async def test_many_requests_with_a_new_key_cost_one_hash(counting: Counting) -> None:
    """They wait for the first of them."""
    verifier, (key, token) = Verifier(), make_key()
    assert await asyncio.gather(*(right(verifier, key, token) for _ in range(50))) == [True] * 50
    assert len(counting.hashes) == 1
    assert verifier._lines == {}


async def test_a_flood_of_unknown_keys_delays_no_known_one(counting: Counting) -> None:
    """They wait in one line, of which one is checked at a time; a key that is known has a line of its own."""
    verifier, (key, token) = Verifier(), make_key()
    counting.go_on.clear()
    flood = [asyncio.ensure_future(right(verifier, None, new_token())) for _ in range(tokens.WAITING_MAX + 20)]
    known = asyncio.ensure_future(right(verifier, key, token))
    await until(lambda: len(counting.hashes) == 2)
    await asyncio.sleep(0.05)
    assert sorted(counting.hashes) == sorted([verifier._nobody, key.hash])
    refused = [task for task in flood if task.done()]
    assert len(refused) == 20
    assert all(isinstance(task.exception(), Overloaded) for task in refused)
    counting.go_on.set()
    assert await known
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)
    assert verifier._lines == {}


async def test_the_event_loop_goes_on_under_a_flood() -> None:
    """Hashes are computed in threads: a hundred wrong tokens do not hold up what needs no hash."""
    verifier, (key, token) = Verifier(), make_key()
    assert await right(verifier, key, token)
    flood = [asyncio.ensure_future(right(verifier, None, new_token())) for _ in range(100)]
    await asyncio.sleep(0)
    began = time.perf_counter()
    for _ in range(100):
        assert await right(verifier, key, token)
        await asyncio.sleep(0)
    assert time.perf_counter() - began < 1.0
    assert not all(task.done() for task in flood)
    for task in flood:
        task.cancel()
    await asyncio.wait(flood)
