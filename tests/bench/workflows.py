"""The workflows that scenarios start."""

from __future__ import annotations

from typing import Any, Final

NOOP: Final[dict[str, Any]] = {
    "id": "bench-noop",
    "name": "Two steps that do nothing",
    "steps": [{"name": name, "type": "delay", "config": {"duration": 0}} for name in ("first", "second")],
}
SLEEPER: Final[dict[str, Any]] = {
    "id": "bench-sleeper",
    "name": "Sleeps for a day",
    "steps": [{"name": "sleep", "type": "delay", "config": {"duration": "1d"}}],
}
PAYLOAD: Final[dict[str, Any]] = {"user": "demo", "note": "x" * 64}


def start(workflow: dict[str, Any]) -> dict[str, Any]:
    """The body of a start."""
    return {"workflow_id": workflow["id"], "payload": PAYLOAD}


def starts(workflow: dict[str, Any], count: int) -> dict[str, Any]:
    """The body of a batch of starts."""
    return {"items": [start(workflow)] * count}
