"""Builds that break one promise each; the history checker must find what comes of it."""

from __future__ import annotations


def apply(name: str) -> None:
    """Make this process such a build."""
    raise KeyError(name)
