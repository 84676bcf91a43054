"""Two checks of Schemathesis that know the platform's own problems; SCHEMATHESIS_HOOKS names this file.

Each takes the place of the one that it calls, and lets through only what no document can say.
"""

from __future__ import annotations

from typing import Any, Final

import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

UNSAYABLE: Final = {
    "cursor_refused",  # opaque, and made for one list
    "bad_position",  # of a partition that this platform does not have
    "different",  # a key that was used for another start
    "definition_unknown",  # a version that is not there yet
    "nul_character",
    "integer_out_of_range",
    "value_error",  # a URL, a header, a name twice: rules that stand in docs/workflows.md
    "template_refused",
    "expression_invalid",
}
"""Codes of the errors of a problem."""


@schemathesis.check
def valid_requests_are_taken(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """As `positive_data_acceptance`, but for refusals that name nothing else than what is `UNSAYABLE`."""
    if response.status_code in (400, 422):
        codes = {error["code"] for error in response.json()["errors"]}
        if codes and codes <= UNSAYABLE:
            return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.check
def no_server_error(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """As `not_a_server_error`, but for a position that was made up: the tables will never reach it."""
    if response.status_code == 503 and response.json().get("code") == "position_not_reached":
        return None
    return not_a_server_error(ctx, response, case)
