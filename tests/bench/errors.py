"""What makes a scenario fail: being slow does not."""

from __future__ import annotations


class ScenarioFailed(Exception):
    """The scenario could not measure what it is for; the message says why."""
