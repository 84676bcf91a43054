"""Whatever stands where a decoder reads, it gives a value or its own refusal: never another exception, and never a hang."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.decoders import DECODERS, Decoder

EXAMPLES = 50
NUMBERS = (0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**64 - 1, 1e308, -0.0, 0.5)
TEXTS = ("", "a", "\0", "\u2028", "${", "${1}", "9" * 400, "2026-01-01T00:00:00+23:59", "0001-01-01T00:00:00+23:59")
ODD: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, [], {}, [[]], {"": None}, {"a": {"a": []}}, *NUMBERS, *TEXTS]
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in _places(each, (*path, key)))]


def _at(value: Any, path: tuple[Any, ...], change: Any) -> Any:
    """A copy with another value at the path."""
    if not path:
        return change(value)
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _at(value[path[0]], path[1:], change)
    return copy


def _nested(value: Any, levels: int) -> Any:
    for n in range(levels):
        value = [value] if n % 2 else {"a": value}
    return value


@st.composite
def mutated_json(draw: st.DrawFn, valid: tuple[bytes, ...]) -> bytes:
    """A valid value with one to three of its parts swapped, dropped, nested, or doubled."""
    value = orjson.loads(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_places(value)))
        odd, levels = draw(ODD), draw(st.sampled_from([1, 2, 30, 120]))
        how = draw(st.sampled_from(["swap", "swap", "nest", "double", "drop", "rename"]))
        value = _at(value, path, lambda old, how=how, odd=odd, levels=levels: _changed(old, how, odd, levels))
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return b"[" * 500


def _changed(old: Any, how: str, odd: Any, levels: int) -> Any:
    match how, old:
        case "nest", _:
            return _nested(old, levels)
        case "double", list() | str():
            return old * 2
        case "drop", dict() if old:
            return dict(list(old.items())[1:])
        case "drop", list():
            return old[1:]
        case "rename", dict() if old:
            (key, value), *rest = old.items()
            return {**dict(rest), f"{key}x": value}
        case _:
            return odd


@st.composite
def mutated_bytes(draw: st.DrawFn, valid: tuple[bytes, ...]) -> bytes:
    """Valid bytes with bits flipped, an end cut off, or a piece doubled or put in."""
    raw = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        to = draw(st.integers(at, len(raw)))
        piece = draw(
            st.binary(max_size=3)
            | st.sampled_from([b'"', b"\\u0000", b"\\ud800", b"1e400", b"-", b"9" * 30, b"\xff", b"${"])
        )
        match draw(st.sampled_from(["flip", "cut", "double", "put", "drop"])):
            case "flip":
                raw = raw[:at] + bytes(each ^ (1 << at % 8) for each in raw[at : at + 1]) + raw[at + 1 :]
            case "cut":
                raw = raw[:at]
            case "double":
                raw = raw[:to] + raw[at:]
            case "put":
                raw = raw[:at] + piece + raw[at:]
            case _:
                raw = raw[:at] + raw[to:]
    return raw


def _inputs(decoder: Decoder) -> st.SearchStrategy[bytes]:
    anything = st.binary(max_size=60) | st.text(max_size=40).map(str.encode) | mutated_bytes(decoder.valid)
    return anything | mutated_json(decoder.valid) if all(map(_is_json, decoder.valid)) else anything


def _is_json(raw: bytes) -> bool:
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError:
        return False
    return True


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_gives_a_value_or_its_refusal(name: str) -> None:
    """Arbitrary bytes and mutated valid ones; a value that can be written is the same when it is read again."""
    decoder = DECODERS[name]

    @seed(1)
    @settings(max_examples=EXAMPLES, database=None)
    @given(_inputs(decoder))
    def holds(raw: bytes) -> None:
        try:
            value = decoder.read(raw)
        except decoder.refuses:
            return
        if decoder.write is not None:
            _comes_back(decoder, value)

    holds()


def _comes_back(decoder: Decoder, value: Any) -> None:
    assert decoder.write is not None
    written = decoder.write(value)
    assert decoder.write(decoder.read(written)) == written


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_takes_what_is_valid(name: str) -> None:
    """Else the mutations of it would say nothing."""
    decoder = DECODERS[name]
    for raw in decoder.valid:
        value = decoder.read(raw)
        if decoder.write is not None:
            _comes_back(decoder, value)
