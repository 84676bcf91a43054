"""A check for Schemathesis in place of its `positive_data_acceptance`: what fits the schemas may be refused, but only for what
no JSON Schema can say. Its command line loads this file."""

from __future__ import annotations

from typing import Any, Final

import schemathesis

REFUSAL: Final = 400
PASSES: Final = frozenset({401, 403, 404, 409, 429, 503})
UNSAYABLE: Final = frozenset(
    {
        # values that must have come from this platform
        "cursor_refused", "bad_position", "definition_unknown",
        # a value that depends on another one, or on what is stored
        "not_with_version", "different", "idempotency_key_reused",
        # a duration over its bound
        "wait_too_long",
        # a time that has not passed yet; a whole number that is written as 1.0, which is an integer to JSON Schema
        "in_the_future", "bad_version",
        # what a payload may not hold, at any depth
        "nul_character", "lone_surrogate", "integer_out_of_range", "float_out_of_range", "too_deep",
        # rules of definitions: URLs, durations, expressions, names that are given twice
        "value_error", "template_refused", "expression_invalid",
    }
)  # fmt: skip
"""Codes of field errors."""


@schemathesis.check
def refused_only_for_what_a_schema_cannot_say(_ctx: Any, response: Any, case: Any) -> None:
    """Each field error of a refusal must be one of these."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if response.status_code < REFUSAL or response.status_code in PASSES:
        return
    problem = response.json()
    codes = {error["code"] for error in problem.get("errors", [])} or {problem["code"]}
    assert codes <= UNSAYABLE, f"the schema should say why this is refused: {sorted(codes - UNSAYABLE)}"
