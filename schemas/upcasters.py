"""Old event shapes are read as the newest one: one small function per type and step of a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

VERSIONS: Final[dict[str, int]] = {}
"""Newest `dataversion` of each type that has had more than one. Who raises one raises EVOLVE_VERSION (schemas/run.py) as well:
runs that an older release had set aside for it are then folded anew."""

UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}
"""(type, from version) → the function that makes the data of the next version. Golden files hold every version in tests/golden."""


JUDGED: Final = frozenset({"PartitionTaken", "RunCompleted"})
"""Types on which the rule itself hangs: whatever their data, and in whatever version, they keep their name."""


def upcast(envelope: dict[str, Any]) -> None:
    """Bring `data` to the newest version, in place. Data of the future, without a path or not of its version's shape is left
    as it is, its type made unknown.

    An unknown type is a fact all the same (the tip moves); the run is set aside until a process that knows it reads it.
    """
    name, version = envelope["type"], envelope.get("dataversion", 1)
    newest = VERSIONS.get(name, 1)
    data, at = envelope.get("data"), version
    try:
        while isinstance(at, int) and at < newest:
            data, at = UPCASTERS[name, at](data), at + 1  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        at = None
    if at == newest:
        envelope["data"] = data
    elif name not in JUDGED:
        envelope["type"] = f"{name}@{version}"
