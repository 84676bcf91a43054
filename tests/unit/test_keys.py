"""API keys as records: what can be one, what a key allows, and how a fold of the topic reads what stands there."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.errors import KeyRefused
from schemas.keys import SCOPES, ApiKey, Keys, Token, decode, encode, is_hash, mistakes, read_token, sorted_scopes
from tests.keyring import API_KEY


def record(**changes: Any) -> bytes:
    """The record of a sound key, but for these fields; a field that is ... is left out."""
    fields = {**orjson.loads(encode(API_KEY)), **changes}
    return orjson.dumps({name: value for name, value in fields.items() if value is not ...})


def folded(*records: tuple[str, bytes | None]) -> Keys:
    keys = Keys()
    for offset, (key, value) in enumerate(records):
        keys.fold(offset, key.encode(), value)
    return keys


def test_a_token_is_read_back() -> None:
    """Its text says id and secret."""
    token = Token("0123456789ab", "5" * 64)
    assert token.text == f"wfk_0123456789ab_{'5' * 64}"
    assert read_token(token.text) == token


@pytest.mark.parametrize(
    "text",
    [
        "",
        "wfk_",
        f"wfk_0123456789ab_{'5' * 63}",
        f"wfk_0123456789ab_{'5' * 65}",
        f"wfk_0123456789ab_{'5' * 64}\n",
        f"wfk_0123456789aB_{'5' * 64}",
        f"wfk_0123456789ab_{'G' * 64}",
        f"wfk_0123456789ab_{chr(0x665) * 64}",
        f"abc_0123456789ab_{'5' * 64}",
        f" wfk_0123456789ab_{'5' * 64}",
    ],
)
def test_other_texts_are_no_tokens(text: str) -> None:
    """However near they come."""
    assert read_token(text) is None


def test_a_key_is_read_back() -> None:
    """All of it, and fields of a later version are passed over."""
    assert decode(API_KEY.id.encode(), encode(API_KEY)) == API_KEY
    assert decode(API_KEY.id.encode(), record(colour="red")) == API_KEY


def test_what_people_see_has_no_hash() -> None:
    """Neither does what a program prints of it."""
    assert "hash" not in API_KEY.shown()
    assert API_KEY.hash not in repr(API_KEY)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"id": "0123456789ac"}, "id"),
        ({"id": 5}, "id"),
        ({"id": ...}, "id"),
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a\n"}, "name"),
        ({"name": "-a"}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"name": ["a"]}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": "read"}, "scopes"),
        ({"scopes": ["read", "read"]}, "scopes"),
        ({"scopes": ["write"]}, "scopes"),
        ({"scopes": [["read"]]}, "scopes"),
        ({"scopes": {"read": 1}}, "scopes"),
        ({"rate": "0/second"}, "rate"),
        ({"rate": "1/day"}, "rate"),
        ({"rate": "10000000/second"}, "rate"),
        ({"rate": 5}, "rate"),
        ({"hash": "plain"}, "hash"),
        ({"hash": ...}, "hash"),
        ({"created_at": None}, "created_at"),
        ({"revoked_at": 0}, "revoked_at"),
    ],
)
def test_a_record_that_is_no_key_is_refused(changes: dict[str, Any], named: str) -> None:
    """With the field that is wrong, and without its value."""
    with pytest.raises(KeyRefused, match=named):
        decode(API_KEY.id.encode(), record(**changes))


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b"[" * 5000])
def test_bytes_that_are_no_object_are_refused(value: bytes) -> None:
    """Whatever stands there."""
    with pytest.raises(KeyRefused):
        decode(b"0123456789ab", value)


@pytest.mark.parametrize(
    "costs", ["m=99999999,t=2,p=1", "m=262145,t=2,p=1", "m=19456,t=11,p=1", "m=19456,t=2,p=17", "m=0,t=2,p=1"]
)
def test_a_hash_cannot_ask_for_more_than_a_process_has(costs: str) -> None:
    """Whoever writes a record does not choose how much memory and time it takes to check."""
    assert is_hash(API_KEY.hash)
    assert not is_hash(API_KEY.hash.replace("m=19456,t=2,p=1", costs))
    assert not is_hash(API_KEY.hash.replace("argon2id", "argon2i"))


def test_admin_includes_every_scope() -> None:
    """And no other scope includes another one."""
    for scope in SCOPES:
        key = ApiKey("0123456789ab", "a", (scope,), API_KEY.hash, "2026-01-01T00:00:00.000Z")
        allowed = {each for each in SCOPES if key.allows(each)}
        assert allowed == (set(SCOPES) if scope == "admin" else {scope})


def test_mistakes_are_told_all_at_once() -> None:
    """By field; none for what can be a key."""
    assert mistakes("shop", ["trigger"], None) == {}
    assert mistakes("ann@shop.example", ["read", "define"], "20/second") == {}
    assert mistakes(None, None, "often").keys() == {"name", "scopes", "rate"}
    assert sorted_scopes(["admin", "read"]) == ("read", "admin")


def test_the_newest_record_of_an_id_counts() -> None:
    """Made, then revoked: it is listed and may not be used."""
    keys = folded((API_KEY.id, encode(API_KEY)), (API_KEY.id, encode(API_KEY.revoked("2026-01-02T00:00:00.000Z"))))
    (found,) = keys.all()
    assert (found.usable, found.revoked_at) == (False, "2026-01-02T00:00:00.000Z")
    assert keys.named(API_KEY.name) == []
    assert keys.usable() == 0


def test_a_record_without_a_value_ends_its_id() -> None:
    """As compaction will drop what stood before it."""
    assert folded((API_KEY.id, encode(API_KEY)), (API_KEY.id, None)).get(API_KEY.id) is None


def test_a_record_that_cannot_be_read_takes_the_place_of_its_id() -> None:
    """It is counted, opens nothing, and touches no other key; a readable record mends it."""
    other = ApiKey("ba9876543210", "other", ("read",), API_KEY.hash, "2026-01-01T00:00:00.000Z")
    keys = folded((API_KEY.id, encode(API_KEY)), (other.id, encode(other)), (API_KEY.id, b"{"), ("zz", b"{"))
    assert keys.unreadable == 2
    assert keys.all() == [other]
    assert keys.fold(9, None, encode(API_KEY)) is not None
    assert keys.fold(10, API_KEY.id.encode(), encode(API_KEY)) is None
    assert keys.get(API_KEY.id) == API_KEY


def test_why_a_record_cannot_be_read_says_nothing_of_it() -> None:
    """The reason goes into a log."""
    reason = Keys().fold(0, API_KEY.id.encode(), record(name="hidden value", hash="hidden hash"))
    assert reason is not None
    assert "hidden" not in reason
