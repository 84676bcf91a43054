"""Whatever Python's json makes of a text, we refuse it or have the equal value, which every store can hold."""

from __future__ import annotations

import json
import sqlite3

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.jsontext import DEPTH_MAX, INTEGER_MAX, INTEGER_MIN, JSON, JsonRefused, check, dumps, loads

SOUND_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
SOUND = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(INTEGER_MIN, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | SOUND_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SOUND_TEXT, inner, max_size=4),
    max_leaves=20,
)
FRAGMENTS = st.sampled_from(
    r"""1 -0 1.5 1e400 -1e400 1e308 NaN Infinity 9223372036854775808 -9223372036854775808 111111111111111111111111111111
    "a" "\u0000" "\ud800" "\ud83d\ude00" "é" true null nul 'x' """.split()
) | st.sampled_from(["", "\ufeff", '"\ud800"', '"\0"'])
TEXTS = st.recursive(
    FRAGMENTS,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(
            st.tuples(st.sampled_from(['"a"', '"b"', r'"\u0061"', r'"\u0000"', r'"\udc00"', "1"]), inner), max_size=4
        ).map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}")
    ),
    max_leaves=12,
)


def through_sqlite(value: JSON) -> JSON:
    connection = sqlite3.connect(":memory:")
    try:
        (text,) = connection.execute("select ?", (dumps(value).decode(),)).fetchone()
    finally:
        connection.close()
    kept: JSON = orjson.loads(text)
    return kept


def outcome(text: str) -> JSON | JsonRefused:
    try:
        return loads(text)
    except JsonRefused as refused:
        return refused


def deepest(value: object) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(deepest, value.values() if isinstance(value, dict) else value), default=0)


@given(SOUND)
def test_sound_values_survive_every_writer(value: JSON) -> None:
    """A value within the table is accepted from both writers' texts and comes back from a store as it was."""
    if deepest(value) <= DEPTH_MAX:
        check(value)
        for text in (dumps(value), json.dumps(value).encode(), json.dumps(value, ensure_ascii=False)):
            assert repr(loads(text)) == repr(value)
        assert repr(through_sqlite(value)) == repr(value)


@given(TEXTS | st.text(max_size=30))
@example('{"a": 1e400, "a": 1}')
@example('[1e400, {"a":')
def test_a_text_is_refused_or_read_as_python_reads_it(text: str) -> None:
    """No text is read as another value than the one it states, and nothing but JsonRefused is raised."""
    value = outcome(text)
    if isinstance(value, JsonRefused):
        assert dumps([value.code, value.pointer, value.message])
        return
    assert repr(value) == repr(json.loads(text))
    check(value)
    written = dumps(value)
    assert b"\\u0000" not in written.replace(rb"\\", b"")
    assert repr(loads(written)) == repr(value)
    assert repr(through_sqlite(value)) == repr(value)


@given(st.binary(max_size=40))
def test_bytes_are_refused_or_read_as_python_reads_them(data: bytes) -> None:
    """Arbitrary bytes raise nothing but JsonRefused."""
    try:
        value = loads(data)
    except JsonRefused:
        return
    assert repr(value) == repr(json.loads(data))


@given(TEXTS)
def test_a_refused_value_is_refused_for_a_reason(text: str) -> None:
    """What Python reads and we refuse has a fault that an independent look finds as well."""
    refused = outcome(text)
    if isinstance(refused, JsonRefused) and refused.code not in {"not_json", "byte_order_mark", "duplicate_key"}:
        assert refused.code in faults(text)


def faults(text: str) -> set[str]:
    """Faults found by looking at the text and at the values of a decoder that knows no table."""
    found: set[str] = set()

    def number(literal: str) -> float:
        found.update({"float_out_of_range"} if float(literal) in {float("inf"), float("-inf")} else ())
        return 0.0

    def integer(literal: str) -> int:
        found.update({"integer_out_of_range"} if not INTEGER_MIN <= int(literal) <= INTEGER_MAX else ())
        return 0

    def look(value: object) -> None:
        match value:
            case str():
                found.update({"nul_character"} if "\0" in value else ())
                found.update({"lone_surrogate"} if any("\ud800" <= each <= "\udfff" for each in value) else ())
            case list():
                for each in value:
                    look(each)
            case _:
                pass

    def pairs(members: list[tuple[str, object]]) -> list[object]:
        return [part for member in members for part in member]

    def constant(_: str) -> None:
        found.add("not_a_number")

    if any("\ud800" <= each <= "\udfff" for each in text):
        return {"lone_surrogate"}
    look(json.loads(text, parse_float=number, parse_int=integer, parse_constant=constant, object_pairs_hook=pairs))
    return found
