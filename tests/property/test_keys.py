"""API keys as records: compaction changes nothing, and nothing that stands in the topic breaks a reader."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import KeyRefused
from schemas.keys import SCOPES, ApiKey, Keys, decode, encode
from tests.keyring import API_KEY

IDS = st.sampled_from(["0123456789ab", "abcdefghijkl", "zzzzzzzzzzzz"])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = st.builds(
    ApiKey,
    IDS,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,63}", fullmatch=True),
    st.lists(st.sampled_from(SCOPES), min_size=1, unique=True).map(tuple),
    st.just(API_KEY.hash),
    st.just("2026-01-01T00:00:00.000Z"),
    st.none() | st.from_regex(r"[1-9][0-9]{0,6}/(second|minute|hour)", fullmatch=True),
    st.none() | st.just("2026-01-02T00:00:00.000Z"),
)
HALF_SOUND = st.builds(
    lambda key, name, value: orjson.dumps(
        {**orjson.loads(encode(key)), name: value}, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
    ),
    KEYS,
    st.sampled_from(["id", "name", "scopes", "rate", "hash", "created_at", "revoked_at", "more"]),
    JSON.filter(lambda value: "\\ud" not in repr(value) and not _too_big(value)),
)
VALUES = st.none() | st.binary(max_size=20) | KEYS.map(encode) | HALF_SOUND


def _too_big(value: Any) -> bool:
    """What orjson does not write."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return True
    return False


@st.composite
def topics(draw: st.DrawFn) -> list[tuple[int, bytes | None, bytes | None]]:
    """Records of a topic: sound keys mostly under their ids, and anything else."""
    records: list[tuple[int, bytes | None, bytes | None]] = []
    for offset in range(draw(st.integers(0, 12))):
        value = draw(VALUES)
        key: bytes | None = draw(st.none() | st.binary(max_size=4) | IDS.map(str.encode))
        if draw(st.integers(0, 3)):
            key = _id_of(value) or key
        records.append((offset, key, value))
    return records


def _id_of(value: bytes | None) -> bytes | None:
    try:
        found = orjson.loads(value or b"")["id"]
    except (ValueError, KeyError, TypeError):
        return None
    return found.encode() if isinstance(found, str) and found.isascii() else None


def state(records: list[tuple[int, bytes | None, bytes | None]]) -> tuple[list[ApiKey], list[list[ApiKey]]]:
    keys = Keys()
    for record in records:
        keys.fold(*record)
    return keys.all(), [keys.named(key.name) for key in keys.all()]


@given(topics(), st.integers(0, 12))
def test_compaction_changes_nothing(records: list[tuple[int, bytes | None, bytes | None]], clean_below: int) -> None:
    """Dropping any record that has a newer one of its key, and in the end those without a value, gives the same keys."""
    newest = {key: offset for offset, key, _ in records}
    compacted = [record for record in records if record[0] >= clean_below or newest[record[1]] == record[0]]
    assert state(compacted) == state(records)
    assert state([record for record in compacted if record[2] is not None or record[0] >= clean_below]) == state(
        records
    )


@given(KEYS)
def test_what_is_written_is_read(key: ApiKey) -> None:
    """A key comes back as it was."""
    assert decode(key.id.encode(), encode(key)) == key


@given(st.none() | st.binary(max_size=20) | IDS.map(str.encode), st.binary(max_size=300) | VALUES)
def test_a_record_is_a_key_or_is_refused(key: bytes | None, value: bytes | None) -> None:
    """Nothing else comes out of reading one."""
    try:
        found = decode(key, value)
    except KeyRefused:
        return
    assert found.id.encode() == key
    assert set(found.scopes) <= set(SCOPES)
