"""JSON as this platform takes it: one table, the same at the API, on the topics and for the answers of webhooks.

What is accepted can be held by every store, written by every writer and read back as the same value:

| text                                             | taken as                      | refused with             |
|--------------------------------------------------|-------------------------------|--------------------------|
| object, array, string, `true`, `false`, `null`   | dict, list, str, bool, None   |                          |
| integer from -2^63 to 2^63 - 1                   | int, exact                    |                          |
| number with fraction or exponent                 | float, the nearest double     |                          |
| surrogate pair (`\\ud83d\\ude00`)                | one character                 |                          |
| no JSON, or nothing at all                       |                               | `not_json`               |
| bytes that are not UTF-8                         |                               | `not_utf8`               |
| byte order mark at the start                     |                               | `byte_order_mark`        |
| `\\u0000` in a string or key                     |                               | `nul_character`          |
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
from collections.abc import Iterator
from typing import Any, Final, NoReturn, TypeAlias

import orjson

from schemas.errors import WorkflowError

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

DEPTH_MAX: Final = 32
"""Levels of arrays and objects; a plain value has none."""
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
NUMBER_CHARS_MAX: Final = 1_000
_INTEGER_CHARS_MAX: Final = len(str(INTEGER_MIN))


class JsonRefused(WorkflowError):
    """JSON refused at {pointer!r}: {detail}"""

    def __init__(self, code: str, pointer: str, detail: str, limit: int | None = None) -> None:
        """`code` is one of the table's; `pointer` (RFC 6901) leads to the value; `limit` is the bound that was passed, if any."""
        super().__init__(pointer=pointer, detail=detail)
        vars(self)["code"] = code  # a class variable of the base, which here is the instance's own
        self.pointer, self.detail, self.limit = pointer, detail, limit


def loads(data: bytes | str, *, depth_max: int = DEPTH_MAX, bytes_max: int | None = None) -> JSON:
    """The value of a JSON text. Raises JsonRefused for whatever the table refuses, and nothing else."""
    text = _text(data, bytes_max)
    try:
        value: JSON = _fast.decode(text)
    except _Suspect:
        return _exact(text, depth_max)
    except ValueError as error:
        raise _not_json(text, error) from None
    except RecursionError:
        raise _deep(text, depth_max) from None
    if "\\u" in text or text.count("[") + text.count("{") > depth_max:
        check(value, depth_max=depth_max)
    return value


def check(value: object, *, depth_max: int = DEPTH_MAX) -> None:
    """Refuse a decoded value that is not the value of an accepted text. Raises JsonRefused."""
    for found, path in _leaves_first(value, depth_max):
        problem = _problem(found)
        if problem is not None:
            raise JsonRefused(problem.code, _pointer(path), problem.detail, problem.limit)


def dumps(value: JSON) -> bytes:
    """The compact UTF-8 text of a value that was accepted; `loads` gives the same value back."""
    return orjson.dumps(value)
