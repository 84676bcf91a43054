"""Whether events have the shapes that `schemas.events` gives them: strictly, with no field too many."""

from __future__ import annotations

from functools import cache
from typing import Any

import orjson
from pydantic import TypeAdapter

from schemas.events import SHAPES
from schemas.upcasters import VERSIONS

REQUIRED = set("specversion id source type subject time datacontenttype dataversion epoch seq prev data".split())
OPTIONAL = {"cause", "actor"}


@cache
def _adapter(type_: str) -> TypeAdapter[Any]:
    return TypeAdapter(SHAPES[type_])


def check(value: bytes) -> None:
    """Raises when the record is not an event of ours in its newest version."""
    envelope = orjson.loads(value)
    type_ = envelope["type"]
    assert envelope.keys() >= REQUIRED, REQUIRED - envelope.keys()
    assert envelope.keys() <= REQUIRED | OPTIONAL, envelope.keys() - REQUIRED - OPTIONAL
    assert envelope["dataversion"] == VERSIONS.get(type_, 1)
    _adapter(type_).validate_python(envelope["data"], strict=True, extra="forbid")
