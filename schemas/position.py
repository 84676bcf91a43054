"""Position tokens: how far something has got in the topics. Opaque to clients; a read that is given one shows nothing older."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PART: Final = re.compile(r"([dekt])([0-9]{1,4})\.([0-9]{1,18})\Z")
PARTS_MAX: Final = 2048

Place = tuple[str, int]
"""("e" for workflow.events, "t" for workflow.trigger, "d" for workflow.definitions, "k" for workflow.keys; partition)"""
Position = dict[Place, int]
"""Place → next offset: everything below it has been seen."""


def encode(position: Mapping[Place, int]) -> str:
    """The token of a position: `e3.152-t0.17`."""
    return "-".join(f"{topic}{partition}.{offset}" for (topic, partition), offset in sorted(position.items()))


def decode(token: str) -> Position:
    """The reverse. ValueError with a sentence when it is no token of ours."""
    position: Position = {}
    parts = token.split("-") if token else []
    if len(parts) > PARTS_MAX:
        raise ValueError(f"a position has at most {PARTS_MAX} parts")
    for part in parts:
        match = _PART.match(part)
        if match is None:
            raise ValueError("this is no position that a write or a read has answered with")
        place = (match[1], int(match[2]))
        position[place] = max(position.get(place, 0), int(match[3]))
    return position


def reached(at: Mapping[Place, int], wanted: Mapping[Place, int]) -> bool:
    """Whether a reader that stands `at` has seen everything below `wanted`."""
    return all(at.get(place, 0) >= offset for place, offset in wanted.items())
