"""Keyed starts that this process has sent a moment ago: known here before the read tables show them."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import orjson

from schemas.jsontext import JSON
from schemas.position import Position

RECENT_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class RecentStart:
    """A start whose acknowledgement this process has seen. `digest`: of its payload."""

    version: int | None
    digest: bytes
    position: Position


class RecentStarts:
    """The last `RECENT_MAX` of them, by run id."""

    def __init__(self) -> None:
        self._starts: OrderedDict[str, RecentStart] = OrderedDict()

    def get(self, run_id: str) -> RecentStart | None:
        return self._starts.get(run_id)

    def add(self, run_id: str, start: RecentStart) -> None:
        """The first one stays: a repeat adds nothing."""
        self._starts.setdefault(run_id, start)
        if len(self._starts) > RECENT_MAX:
            self._starts.popitem(last=False)


def payload_digest(payload: JSON) -> bytes:
    """Equal for payloads that are equal as JSON, whatever the order of their keys."""
    return blake2b(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS), digest_size=16).digest()
