"""Every case there is, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.hostile.addresses import MALFORMED, TARGETS, UNRESOLVED
from tests.hostile.definitions import DEFINITIONS
from tests.hostile.records import FORGED, RECORDS
from tests.hostile.requests import HEADERS, READS, STARTS, Case
from tests.hostile.texts import LEGAL
from tests.hostile.wire import TOKENS, WIRE

REFUSED_REQUESTS: Final[tuple[Case, ...]] = (*STARTS, *HEADERS, *READS, *DEFINITIONS)


def names() -> Iterator[str]:
    """The name of each case, with the kind before it where names of two kinds could meet."""
    yield from (case.name for case in REFUSED_REQUESTS)
    tables = {
        "legal": LEGAL,
        "target": TARGETS,
        "malformed target": MALFORMED,
        "unresolved target": UNRESOLVED,
        "wire": WIRE,
        "token": TOKENS,
        "record": RECORDS,
        "forged": FORGED,
    }
    for kind, table in tables.items():
        yield from (f"{kind}, {name}" for name in table)
