"""What the API itself refuses. Each class has its line in the table of `api/problems.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from schemas.errors import WorkflowError
from schemas.position import Position, encode

ERRORS_SHOWN_MAX: Final = 100
"""Longest list of field errors in one answer; a batch of 10,000 wrong items is told about the first ones."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong at one place of a request.

    `pointer`: an RFC 6901 pointer into the body (`/steps/0/name`), or `query/limit`, `path/run_id`, `header/Idempotency-Key`.
    `limit`: the bound that was passed, if there is one.
    """

    pointer: str
    code: str
    detail: str
    limit: int | float | None = None


class RequestRefused(WorkflowError):
    """The request cannot be taken: {reason}"""

    def __init__(
        self,
        message: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **fields: object,
    ) -> None:
        """`headers` go out with the answer."""
        super().__init__(message, **fields)
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class BodyInvalid(RequestRefused):
    """The body cannot be taken: {reason}"""

    def __init__(self, errors: Sequence[FieldError]) -> None:
        super().__init__(errors=errors, reason=summary(errors))


class ParameterInvalid(RequestRefused):
    """A parameter cannot be taken: {reason}"""

    def __init__(self, *errors: FieldError) -> None:
        super().__init__(errors=errors, reason=summary(errors))


class CursorRefused(RequestRefused):
    """The cursor cannot be used here: {reason}. Start again without a cursor."""

    def __init__(self, reason: str) -> None:
        super().__init__(errors=[FieldError("query/cursor", "cursor_refused", reason)], reason=reason)


class MediaTypeRefused(RequestRefused):
    """The body is {found}; send JSON with Content-Type: application/json."""


class BodyTooSlow(RequestRefused):
    """The body did not arrive within {bound_s:g} s."""


class HeadersTooLarge(RequestRefused):
    """The request's headers have more than {limit} bytes."""


class UriTooLong(RequestRefused):
    """The request's path and query have more than {limit} bytes."""


class RequestMalformed(RequestRefused):
    """This is no HTTP/1.1 request: {reason}."""


class PathUnknown(RequestRefused):
    """There is nothing at {path}. GET /docs lists what there is."""


class MethodRefused(RequestRefused):
    """{path} does not take {method}; it takes {allowed}."""


class NotAuthenticated(RequestRefused):
    """An API key that may be used is needed. Send it as `Authorization: Bearer wfk_…`; `workflow keys create` makes one."""

    def __init__(self) -> None:
        super().__init__(headers={"WWW-Authenticate": "Bearer"})


class ScopeMissing(RequestRefused):
    """The API key {name!r} has no scope {scope!r}, which this operation needs; it has {has}."""

    def __init__(self, *, name: str, scope: str, has: str) -> None:
        challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
        super().__init__(headers={"WWW-Authenticate": challenge}, name=name, scope=scope, has=has)


class RateLimited(RequestRefused):
    """The API key {name!r} may make {limit} requests per {window}, and has made them. Come again in {wait_s} s."""


class BacklogFull(RequestRefused):
    """Workflow {workflow_id!r} has {runs} runs that have not ended; with {starts} more it would have over {limit} (setting
    WORKFLOW_PENDING_RUNS_MAX). Come again when some have ended."""


class KeysOff(RequestRefused):
    """No API keys are asked for here (WORKFLOW_AUTH={auth}), so this API makes none. Set WORKFLOW_AUTH=keys, or use
    `workflow keys`."""


class RunNotThen(RequestRefused):
    """Run {run_id!r} had no such state: {reason}"""


class WorkflowNotThen(RequestRefused):
    """Workflow {workflow_id!r} was not defined at {at}: its first version is of {since}."""


class ProjectionUnknown(RequestRefused):
    """There is no projection {name!r}; there is {known}."""


class NoRebuild(RequestRefused):
    """No rebuild of the projection {name!r} runs."""


class NoSharedTables(RequestRefused):
    """There are no tables that processes share (STORAGE_BACKEND=memory): each process folds the log when it starts. Start it
    again in place of a rebuild."""


class IdempotencyKeyReused(RequestRefused):
    """The Idempotency-Key names run {run_id!r}, which was started with another {field}. Take a new key for another start."""


class PositionNotReached(RequestRefused):
    """What is read here has not reached min_position within {waited_s:g} s. Ask again, or leave min_position out and see an older
    state."""

    def __init__(self, *, waited_s: float, wanted: Position, at: Position) -> None:
        """`at`: how far it has got; told of those places alone that it lacks."""
        super().__init__(waited_s=waited_s)
        lacking = [place for place, offset in wanted.items() if at.get(place, 0) < offset]
        self.min_position = encode({place: wanted[place] for place in lacking})
        self.position = encode({place: at.get(place, 0) for place in lacking})


class StartUnknown(RequestRefused):
    """It is not known whether {what} was written ({reason}): it may still start. {remedy}"""

    code: ClassVar[str] = "outcome_unknown"

    def __init__(self, run_ids: Sequence[str], *, reason: str, keyed: bool) -> None:
        """`run_ids`: of the runs that may have been started. `keyed`: the request had an Idempotency-Key."""
        look = (
            f"GET /api/v1/runs/{run_ids[0]} tells" if len(run_ids) == 1 else "GET /api/v1/runs/{run_id} tells of each"
        )
        remedy = (
            "Repeating the request with the same Idempotency-Key is safe."
            if keyed
            else f"{look} whether it did. With an Idempotency-Key, repeating the request with the same one is safe."
        )
        what = "the start" if len(run_ids) == 1 else f"every one of the {len(run_ids)} starts"
        super().__init__(what=what, reason=reason, remedy=remedy)
        self.run_ids = tuple(run_ids)


class KeyOutcomeUnknown(RequestRefused):
    """It is not known whether the API key {key!r} was {done} ({reason}). {remedy}"""

    code: ClassVar[str] = "outcome_unknown"


class Overloaded(RequestRefused):
    """This process has {what} at once; the limit is {limit}."""


class InternalError(RequestRefused):
    """Something went wrong inside. The log has the cause beside the request id."""


def summary(errors: Sequence[FieldError]) -> str:
    """One line for the problem's `detail`: the first error whole, the others counted."""
    if not errors:
        return "it is not what is asked for"
    first = f"{errors[0].pointer or 'the body'}: {errors[0].detail}"
    return first if len(errors) == 1 else f"{first} (and {len(errors) - 1} more)"
