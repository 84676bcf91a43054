"""A record refused for its size is a decision: an event that does not fit is replaced by one that does."""

from __future__ import annotations

from typing import Any, Final

import orjson

from streams.decider import Draft

ENVELOPE_BYTES_MAX: Final = 16 * 1024
"""Room for everything in an event besides payload, definition and outputs."""
ERROR_BYTES_MAX: Final = 8 * 1024
ERROR_CHARS_MAX: Final = 1_000
"""What is kept of the texts of an error that is too large."""


def fits(value: bytes, key: bytes, bytes_max: int) -> bool:
    """Whether a record stays below the broker's bound, record overhead included."""
    return len(value) + len(key) + 200 <= bytes_max


def smaller(draft: Draft, bytes_max: int) -> Draft:
    """What is recorded instead of a draft whose event is too large: the step's failure, or results with the largest cut."""
    type_, data = draft
    match type_:
        case "RunRequested":
            return type_, {**data, "payload": {}, "definition": None, "refused": _error("too_large", bytes_max)}
        case "StepStarted":
            return "StepFailed", {"step": data["step"], "attempt": 0, "error": _error("input_too_large", bytes_max)}
        case "StepSucceeded":
            return "StepFailed", {
                "step": data["step"],
                "attempt": data["attempt"],
                "error": _error("output_too_large", bytes_max),
            }
        case "RunCompleted":
            rest = {**data, "error": _brief(data["error"]), "results": {}}
            room = bytes_max - ENVELOPE_BYTES_MAX - len(orjson.dumps(rest))
            return type_, {**rest, "results": _cut(data["results"], room)}
        case _:
            return type_, {**data, "error": _brief(data["error"])}


def _error(code: str, bytes_max: int) -> dict[str, Any]:
    return {
        "code": code,
        "message": f"the event that would tell of it is over the limit of {bytes_max} bytes of a record (setting WORKFLOW_RECORD_BYTES_MAX)",
    }


def _brief(error: dict[str, Any] | None) -> dict[str, Any] | None:
    """An error without its details when it is large. The full one stands in the step's event, if it fitted there."""
    size = len(orjson.dumps(error))
    if error is None or size <= ERROR_BYTES_MAX:
        return error
    return {
        **error,
        "code": str(error["code"])[:ERROR_CHARS_MAX],
        "message": str(error["message"])[:ERROR_CHARS_MAX],
        "details": {"cut": True, "bytes": size},
    }


def _cut(results: dict[str, Any], bytes_max: int) -> dict[str, Any]:
    """The results with the largest ones replaced by a mark until the sum fits; none where the marks alone do not.

    The full ones stand in their StepSucceeded events.
    """
    sizes = {name: len(orjson.dumps(output)) + len(name) + 4 for name, output in results.items()}
    kept = dict(results)
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if sum(sizes.values()) <= bytes_max:
            break
        kept[name] = {"cut": True, "bytes": sizes[name]}
        sizes[name] = len(orjson.dumps(kept[name])) + len(name) + 4
    return kept if sum(sizes.values()) <= bytes_max else {}
