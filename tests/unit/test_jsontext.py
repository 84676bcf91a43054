"""The one table of what JSON may contain."""

from __future__ import annotations

import math

import pytest

from schemas import jsontext
from schemas.jsontext import (
    DEPTH_MAX,
    INTEGER_MAX,
    INTEGER_MIN,
    JSON,
    NUMBER_CHARS_MAX,
    JsonRefused,
    check,
    dumps,
    loads,
)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"null", None),
        (b" [true, false] ", [True, False]),
        (str(INTEGER_MAX).encode(), INTEGER_MAX),
        (str(INTEGER_MIN).encode(), INTEGER_MIN),
        (b"9007199254740993", 2**53 + 1),
        (b"-0", 0),
        (b"1.0", 1.0),
        (b"1E5", 100_000.0),
        (b"1.7976931348623157e308", 1.7976931348623157e308),
        (b"5e-324", 5e-324),
        (b"1e-400", 0.0),
        (rb'"\ud83d\ude00"', "😀"),
        (rb'"\\u0000 \\ud800"', r"\u0000 \ud800"),
        ('"é\u2028"'.encode(), "é\u2028"),
        (b'{"a": {"b": [1, "x"]}, "": 2}', {"a": {"b": [1, "x"]}, "": 2}),
    ],
)
def test_what_every_store_can_hold_is_taken_exactly(text: bytes, value: JSON) -> None:
    """The value is exact, of its own type, and `dumps` writes a text of the same value."""
    assert repr(loads(text)) == repr(value)
    assert repr(loads(text.decode())) == repr(value)
    assert repr(loads(dumps(value))) == repr(value)


@pytest.mark.parametrize(
    ("text", "code", "pointer"),
    [
        (b"", "not_json", ""),
        (b" ", "not_json", ""),
        (b"[1,]", "not_json", ""),
        (b"[1] 2", "not_json", ""),
        (b"'a'", "not_json", ""),
        (b'"\x00"', "not_json", ""),
        (b'"\n"', "not_json", ""),
        (b"01", "not_json", ""),
        ("[\u0661]".encode(), "not_json", ""),
        (b'[1e400, "]', "not_json", ""),
        (b'["\xff"]', "not_utf8", ""),
        (b'"\xed\xa0\x80"', "not_utf8", ""),
        ('{"a": 1}'.encode("utf-16"), "not_utf8", ""),
        (b"\xef\xbb\xbf1", "byte_order_mark", ""),
        (rb'{"a": [0, "x\u0000"]}', "nul_character", "/a/1"),
        (rb'{"a": {"b\u0000": 1}}', "nul_character", "/a"),
        (rb'["\ud800"]', "lone_surrogate", "/0"),
        (rb'["\uDE00\uD83D"]', "lone_surrogate", "/0"),
        (rb'{"\ud800": 1}', "lone_surrogate", ""),
        (b'{"n": 9223372036854775808}', "integer_out_of_range", "/n"),
        (b"-9223372036854775809", "integer_out_of_range", ""),
        (b"1" * 5_000, "integer_out_of_range", ""),
        (b"[1, [1e400]]", "float_out_of_range", "/1/0"),
        (b"-1e999", "float_out_of_range", ""),
        (b"[0." + b"1" * NUMBER_CHARS_MAX + b"]", "number_too_long", "/0"),
        (b"[NaN]", "not_a_number", "/0"),
        (b"Infinity", "not_a_number", ""),
        (b'{"x": -Infinity}', "not_a_number", "/x"),
        (b'{"a": 1, "b": {"a": 1, "c": 2, "a": 3}}', "duplicate_key", "/b/a"),
        (rb'{"a": 1, "\u0061": 1}', "duplicate_key", "/a"),
        (b'{"a/b": {"~": 1e400}}', "float_out_of_range", "/a~1b/~0"),
        (nested(DEPTH_MAX + 1), "too_deep", "/0" * DEPTH_MAX),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "too_deep", "/a" * DEPTH_MAX),
        (nested(100_000), "too_deep", ""),
        (b"[" * 100_000, "too_deep", ""),
    ],
)
def test_what_a_store_could_not_hold_is_refused_where_it_stands(text: bytes, code: str, pointer: str) -> None:
    """The refusal has the table's code and the RFC 6901 pointer of the value."""
    with pytest.raises(JsonRefused) as refused:
        loads(text)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)
    assert refused.value.detail in refused.value.message


def test_every_code_of_the_table_is_documented() -> None:
    """The table in the module's docstring names each code that the tests above have seen."""
    marks = test_what_a_store_could_not_hold_is_refused_where_it_stands.pytestmark  # type: ignore[attr-defined]
    codes = {code for _, code, _ in marks[0].args[1]} | {"too_large", "not_json_type"}
    assert {code for code in codes if f"`{code}`" not in (jsontext.__doc__ or "")} == set()


def test_the_first_refusal_in_the_text_is_reported() -> None:
    """Of several faults the one that stands first is named."""
    with pytest.raises(JsonRefused) as refused:
        loads(rb'{"a": "\u0000", "b": 1e400, "c": {"x": 1, "x": 2}}')
    assert (refused.value.code, refused.value.pointer) == ("nul_character", "/a")


def test_depth_up_to_the_limit_is_taken() -> None:
    """`depth_max` levels pass, one more is refused with the limit."""
    assert loads(nested(DEPTH_MAX)) == loads(nested(DEPTH_MAX).decode())
    assert loads(b"1", depth_max=0) == 1
    assert loads(b'[{"a": []}]', depth_max=3) == [{"a": []}]
    with pytest.raises(JsonRefused) as refused:
        loads(b'[{"a": []}]', depth_max=2)
    assert (refused.value.pointer, refused.value.limit) == ("/0/a", 2)


def test_many_shallow_containers_are_not_deep() -> None:
    """Depth is counted, not the number of brackets."""
    assert loads(b"[" + b"[]," * 1_000 + b"[]]") == [[] for _ in range(1_001)]
    assert loads(b'["' + b"[" * 1_000 + b'"]') == ["[" * 1_000]


@pytest.mark.parametrize("data", [b'"\xc3\xa9"', '"é"'])
def test_size_is_counted_in_bytes(data: bytes | str) -> None:
    """`bytes_max` bounds the UTF-8 form, of a str as well."""
    assert loads(data, bytes_max=4) == "é"
    with pytest.raises(JsonRefused) as refused:
        loads(data, bytes_max=3)
    assert (refused.value.code, refused.value.limit) == ("too_large", 3)


def test_a_text_with_half_a_character_is_refused() -> None:
    """A str may hold a raw surrogate, which no bytes can."""
    with pytest.raises(JsonRefused) as refused:
        loads('"\ud800"')
    assert refused.value.code == "lone_surrogate"


@pytest.mark.parametrize(
    ("value", "code", "pointer"),
    [
        ([1, 2**63], "integer_out_of_range", "/1"),
        ({"a": math.nan}, "not_a_number", "/a"),
        ([math.inf], "not_a_number", "/0"),
        ({"a": "\0"}, "nul_character", "/a"),
        (["\ud800"], "lone_surrogate", "/0"),
        ({"a": {1: 2}}, "not_json_type", "/a"),
        ([b"x"], "not_json_type", "/0"),
        ((1, 2), "not_json_type", ""),
        ({"a": object()}, "not_json_type", "/a"),
    ],
)
def test_decoded_values_are_held_to_the_same_table(value: object, code: str, pointer: str) -> None:
    """`check` refuses what no accepted text stands for."""
    with pytest.raises(JsonRefused) as refused:
        check(value)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_a_value_that_holds_itself_is_too_deep() -> None:
    """A cycle ends at the depth limit."""
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(JsonRefused) as refused:
        check(cycle)
    assert refused.value.code == "too_deep"


def test_a_refusal_can_itself_be_written_as_json() -> None:
    """Pointer and detail of the worst keys are sound, bounded text."""
    for key in (r"\ud800", r"\u0000", "k" * 10_000):
        with pytest.raises(JsonRefused) as refused:
            loads(f'{{"{key}": {{"a": 1, "a": 2}}}}')
        written = dumps([refused.value.pointer, refused.value.detail, refused.value.message])
        assert len(written) < 5_000


def test_refusals_keep_their_own_code() -> None:
    """One refusal's code is not another's, nor the class's."""
    errors = [JsonRefused("too_deep", "", "a"), JsonRefused("not_json", "", "b")]
    assert [error.code for error in errors] == ["too_deep", "not_json"]
    assert JsonRefused.code == "json_refused"
