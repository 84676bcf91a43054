"""Cursors of pages: opaque to clients, and bound to the list that they belong to."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import orjson

from api.errors import CursorRefused
from projections.rows import instant_us
from schemas import jsontext
from schemas.jsontext import JsonRefused

CURSOR_CHARS_MAX: Final = 2_000
Bound = Mapping[str, object]
"""What a list shows: its name and its filters, the absent ones as None."""


def encode(bound: Bound, after: list[str | int]) -> str:
    """The cursor for what comes after the item with the key `after` in the list `bound`."""
    return base64.urlsafe_b64encode(orjson.dumps([dict(bound), after])).decode().rstrip("=")


def decode(cursor: str, bound: Bound, shape: tuple[type, ...]) -> list[str | int]:
    """The key that `encode` was given; `shape` are the types of its parts.

    Raises CursorRefused for a text that is no cursor, and for one of another list, naming the filter that differs.
    """
    if len(cursor) > CURSOR_CHARS_MAX:
        raise CursorRefused(f"it is longer than {CURSOR_CHARS_MAX} characters")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        read: Any = jsontext.loads(raw)
        made_for, after = read
        sound = isinstance(made_for, dict) and tuple(type(part) for part in after) == shape
    except (JsonRefused, binascii.Error, ValueError, TypeError):
        sound = False
    if not sound:
        raise CursorRefused("it is none that this API has given")
    for name in sorted({*made_for, *bound}):
        then, now = made_for.get(name), bound.get(name)
        if then != now:
            raise CursorRefused(f"it was made for {name}={_shown(then)}, and the request says {name}={_shown(now)}")
    return list(after)


def decode_key(cursor: str, bound: Bound) -> tuple[str, str]:
    """The (created_at, run_id) after which a page of runs begins. Raises CursorRefused, also for a time that is none."""
    created_at, run_id = decode(cursor, bound, (str, str))
    try:
        instant_us(str(created_at))
    except (ValueError, OverflowError):
        raise CursorRefused("it is none that this API has given") from None
    return str(created_at), str(run_id)


def _shown(value: object) -> str:
    return "(nothing)" if value is None else str(value)[:100]
