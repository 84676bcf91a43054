"""Old event shapes are read as the newest one: one small function per type and step of a version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]

VERSIONS: Final[dict[str, int]] = {}
"""Newest `dataversion` of each type that has had more than one."""

UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}
"""(type, from version) → the function that makes the data of the next version. Golden files hold every version in tests/golden."""


def upcast(envelope: dict[str, Any]) -> None:
    """Bring `data` to the newest version, in place. A version from the future or without a path is left as it is, its type made unknown.

    An unknown type is a fact all the same (the tip moves); the run is set aside until a process that knows it reads it.
    """
    name, version = envelope["type"], envelope.get("dataversion", 1)
    newest = VERSIONS.get(name, 1)
    while isinstance(version, int) and version < newest and (name, version) in UPCASTERS:
        envelope["data"] = UPCASTERS[name, version](envelope["data"])
        version += 1
    if version != newest:
        envelope["type"] = f"{name}@{version}"
