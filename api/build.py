"""Which build this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The version of the platform, "0" where it is not installed."""
    try:
        return version("workflow-platform")
    except PackageNotFoundError:  # run from a checkout
        return "0"
