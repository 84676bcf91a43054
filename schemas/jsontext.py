r"""JSON as this platform takes it: one table, the same at the API, on the topics and for the answers of webhooks.

What is accepted can be held by every store, written by every writer and read back as the same value:

| text                                             | taken as                      | refused with             |
|--------------------------------------------------|-------------------------------|--------------------------|
| object, array, string, `true`, `false`, `null`   | dict, list, str, bool, None   |                          |
| integer from -2^63 to 2^63 - 1                   | int, exact                    |                          |
| number with fraction or exponent                 | float, the nearest double     |                          |
| surrogate pair (`\ud83d\ude00`)                | one character                 |                          |
| no JSON, or nothing at all                       |                               | `not_json`               |
| bytes that are not UTF-8                         |                               | `not_utf8`               |
| byte order mark at the start                     |                               | `byte_order_mark`        |
| `\u0000` in a string or key                     |                               | `nul_character`          |
| a surrogate without its other half               |                               | `lone_surrogate`         |
| integer past 64 bits, of however many digits     |                               | `integer_out_of_range`   |
| `1e400`: more than a double holds                |                               | `float_out_of_range`     |
| number with a fraction, over 1,000 characters    |                               | `number_too_long`        |
| `NaN`, `Infinity`, `-Infinity`                   |                               | `not_a_number`           |
| the same key twice in one object                 |                               | `duplicate_key`          |
| arrays and objects nested deeper than the limit  |                               | `too_deep`               |
| more bytes than the limit                        |                               | `too_large`              |
| (decoded values only) anything that is not JSON  |                               | `not_json_type`          |
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias

import orjson

from schemas.errors import WorkflowError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

DEPTH_MAX: Final = 32
"""Levels of arrays and objects; a plain value has none."""
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
NUMBER_CHARS_MAX: Final = 1_000
POINTER_CHARS_MAX: Final = 1_000
_INTEGER_CHARS_MAX: Final = len(str(INTEGER_MIN))
_SHOWN_CHARS: Final = 60


class JsonRefused(WorkflowError):
    """JSON refused at {pointer!r}: {detail}"""

    def __init__(self, code: str, pointer: str, detail: str, limit: int | None = None) -> None:
        """`code` is one of the table's; `pointer` (RFC 6901) leads to the value; `limit` is the bound that was passed, if any."""
        super().__init__(pointer=pointer, detail=detail)
        vars(self)["code"] = code  # a class variable of the base; here each instance has its own
        self.pointer, self.detail, self.limit = pointer, detail, limit


def loads(data: bytes | str, *, depth_max: int = DEPTH_MAX, bytes_max: int | None = None) -> JSON:
    """The value of a JSON text. Raises JsonRefused for whatever the table refuses, and nothing else."""
    text = _text(data, bytes_max)
    try:
        value: JSON = _decode(_FAST, text, depth_max)
    except _Suspect:
        check(_decode(_MARKING, text, depth_max), depth_max=depth_max)
        raise AssertionError("a value was suspect and nothing was refused") from None
    if _escapes(text) or (text.count("[") + text.count("{") > depth_max and _deeper(value, depth_max)):
        check(value, depth_max=depth_max)
    return value


def check(value: object, *, depth_max: int = DEPTH_MAX) -> None:
    """Refuse a decoded value that no accepted text stands for; the first in document order. Raises JsonRefused."""
    todo: list[tuple[object, _Path | None, int]] = [(value, None, 1)]
    while todo:
        found, path, depth = todo.pop()
        refusal = _refusal(found, depth, depth_max)
        if refusal is not None:
            raise JsonRefused(refusal.code, _pointer(path), refusal.detail, refusal.limit)
        if isinstance(found, dict):
            todo += [(inner, _Path(path, key), depth + 1) for key, inner in reversed(found.items())]
        elif isinstance(found, list):
            last = len(found) - 1
            todo += [(inner, _Path(path, last - n), depth + 1) for n, inner in enumerate(reversed(found))]


def dumps(value: JSON) -> bytes:
    """The compact UTF-8 text of a value that was accepted; `loads` gives the same value back."""
    return orjson.dumps(value)


class _Path(NamedTuple):
    """Where a value stands: the way to its container, and its key or index there."""

    above: _Path | None
    part: str | int


class _Refusal(NamedTuple):
    """What is wrong with a value; stands in the value's place until the walk meets it and knows its pointer."""

    code: str
    detail: str
    limit: int | None = None


class _Suspect(Exception):
    """A hook met something to refuse. `instead` is what the marking decoder puts in its place."""

    def __init__(self, instead: object) -> None:
        self.instead = instead


def _text(data: bytes | str, bytes_max: int | None) -> str:
    try:
        size = len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        text = data.decode() if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise JsonRefused("not_utf8", "", f"byte {error.start} is not UTF-8") from None
    except UnicodeEncodeError as error:
        raise JsonRefused("lone_surrogate", "", f"character {error.start} is half of a surrogate pair") from None
    if bytes_max is not None and size > bytes_max:
        raise JsonRefused("too_large", "", f"{size} bytes are more than the {bytes_max} allowed", bytes_max)
    if text.startswith("\ufeff"):
        raise JsonRefused("byte_order_mark", "", "the text starts with a byte order mark; send UTF-8 without one")
    return text


def _decode(decoder: json.JSONDecoder, text: str, depth_max: int) -> Any:
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as error:
        detail = (
            f"{error.msg.removesuffix(' at')} at line {error.lineno} column {error.colno}"
            if text
            else "the text is empty"
        )
        raise JsonRefused("not_json", "", detail) from None
    except RecursionError:
        refusal = _too_deep(depth_max)
        raise JsonRefused(refusal.code, "", refusal.detail, refusal.limit) from None


def _escapes(text: str) -> bool:
    """Whether the text may write a NUL or a surrogate: in raw form neither gets as far as here."""
    return "\\u" in text and ("\\u0000" in text or "\\ud" in text or "\\uD" in text)


def _deeper(value: object, depth_max: int) -> bool:
    level = [value]
    for _ in range(depth_max):
        inner = [v for c in level for v in (c.values() if isinstance(c, dict) else c if isinstance(c, list) else ())]
        level = [v for v in inner if isinstance(v, dict | list)]
        if not level:
            return False
    return True


def _refusal(value: object, depth: int, depth_max: int) -> _Refusal | None:
    match value:
        case None | bool():
            return None
        case str():
            return _unsound(value)
        case int():
            return None if INTEGER_MIN <= value <= INTEGER_MAX else _out_of_range()
        case float():
            return None if math.isfinite(value) else _Refusal("not_a_number", f"{value} is not a JSON number")
        case list():
            return _too_deep(depth_max) if depth > depth_max else None
        case dict():
            return _too_deep(depth_max) if depth > depth_max else next(filter(None, map(_unsound_key, value)), None)
        case _:
            return (
                value
                if isinstance(value, _Refusal)
                else _Refusal("not_json_type", f"{type(value).__name__} has no form in JSON")
            )


def _unsound(text: str) -> _Refusal | None:
    if "\0" in text:
        return _Refusal("nul_character", f"the character \\u0000 at index {text.index(chr(0))}")
    try:
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        return _Refusal("lone_surrogate", f"half of a surrogate pair at index {error.start}")
    return None


def _unsound_key(key: object) -> _Refusal | None:
    if not isinstance(key, str):
        return _Refusal("not_json_type", f"a key is a {type(key).__name__}, not a text")
    refusal = _unsound(key)
    return refusal and refusal._replace(detail=f"{refusal.detail} of the key {key[:_SHOWN_CHARS]!a}")


def _out_of_range() -> _Refusal:
    return _Refusal("integer_out_of_range", f"integers go from {INTEGER_MIN} to {INTEGER_MAX}", INTEGER_MAX)


def _too_deep(depth_max: int) -> _Refusal:
    return _Refusal("too_deep", f"arrays and objects are nested more than {depth_max} levels deep", depth_max)


def _pointer(path: _Path | None) -> str:
    """RFC 6901; what no text may hold is shown escaped, and an overlong pointer is cut with `…`."""
    parts: list[str] = []
    while path is not None:
        part = str(path.part)[:POINTER_CHARS_MAX].replace("~", "~0").replace("/", "~1").replace("\0", "\\u0000")
        parts.append("/" + part.encode(errors="backslashreplace").decode())
        path = path.above
    pointer = "".join(reversed(parts))
    return pointer if len(pointer) <= POINTER_CHARS_MAX else pointer[: POINTER_CHARS_MAX - 1] + "…"


def _integer(text: str) -> int:
    if len(text) < _INTEGER_CHARS_MAX - 1:
        return int(text)
    if len(text) > _INTEGER_CHARS_MAX or not INTEGER_MIN <= int(text) <= INTEGER_MAX:
        raise _Suspect(_out_of_range())
    return int(text)


def _float(text: str) -> float:
    if len(text) > NUMBER_CHARS_MAX:
        detail = f"a number of {len(text)} characters; at most {NUMBER_CHARS_MAX}"
        raise _Suspect(_Refusal("number_too_long", detail, NUMBER_CHARS_MAX))
    value = float(text)
    if math.isinf(value):
        raise _Suspect(_Refusal("float_out_of_range", f"{text[:_SHOWN_CHARS]} is more than a double holds"))
    return value


def _constant(text: str) -> NoReturn:
    raise _Suspect(_Refusal("not_a_number", f"{text} is not a JSON number"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            value[key] = _Refusal("duplicate_key", f"the key {key[:_SHOWN_CHARS]!a} stands twice in one object")
        seen.add(key)
    raise _Suspect(value)


def _marked(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def marked(argument: Any) -> Any:
        try:
            return hook(argument)
        except _Suspect as suspect:
            return suspect.instead

    return marked


def _decoder(wrap: Callable[[Callable[[Any], Any]], Callable[[Any], Any]]) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=wrap(_object),
        parse_int=wrap(_integer),
        parse_float=wrap(_float),
        parse_constant=wrap(_constant),
    )


_FAST: Final = _decoder(lambda hook: hook)
_MARKING: Final = _decoder(_marked)
