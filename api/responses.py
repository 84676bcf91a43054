"""Answers: JSON by orjson, problems by RFC 9457."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.errors import ERRORS_SHOWN_MAX, FieldError, PositionNotReached, RequestRefused, StartUnknown
from api.problems import code_of, problem_type
from schemas.errors import TooLarge, WorkflowError
from schemas.jsontext import JsonRefused

PROBLEM_JSON: Final = "application/problem+json"
LINGER_BYTES_MAX: Final = 8 * 1024 * 1024
LINGER_S: Final = 1.0
"""After a 413 the rest of the body is read and thrown away within these two bounds, so that the client sees the answer
and not a broken connection."""


class Json(Response):
    """A body that is JSON already, or a value that becomes it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return content if isinstance(content, bytes) else orjson.dumps(content)


class Problem(Response):
    """A problem document. Shapes: see `ProblemBody` in api/bodies.py."""

    media_type = PROBLEM_JSON

    def __init__(self, error: WorkflowError, request_id: str) -> None:
        kind, self.code = problem_type(error), code_of(error)
        headers = dict(error.headers) if isinstance(error, RequestRefused) else {}
        if kind.retry_after_s is not None:
            headers.setdefault("Retry-After", str(kind.retry_after_s))
        self.lingers = kind.status == 413
        if self.lingers:
            headers["Connection"] = "close"
        super().__init__(problem_json(error, request_id), kind.status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["problem"] = self.code
        if not self.lingers:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await _throw_away(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def problem_json(error: WorkflowError, request_id: str) -> bytes:
    """The problem document as it is sent."""
    return orjson.dumps(problem(error, request_id))


def problem(error: WorkflowError, request_id: str) -> dict[str, Any]:
    """The problem document of an error."""
    kind = problem_type(error)
    known = kind.status < 500 or kind.retry_after_s is not None
    body: dict[str, Any] = {
        "type": f"/problems/{code_of(error)}",
        "title": kind.title,
        "status": kind.status,
        "detail": error.message if known else kind.meaning,
        "code": code_of(error),
        "request_id": request_id,
        "errors": [_plain(each) for each in _errors(error)[:ERRORS_SHOWN_MAX]],
    }
    if isinstance(error, StartUnknown):
        body["run_ids"] = error.run_ids
    if isinstance(error, PositionNotReached):
        body |= {"position": error.position, "min_position": error.min_position}
    return body


def _errors(error: WorkflowError) -> tuple[FieldError, ...]:
    match error:
        case RequestRefused():
            return error.errors
        case JsonRefused():
            return (FieldError(error.pointer, str(vars(error)["code"]), error.detail, error.limit),)
        case TooLarge():
            limit = error.fields.get("limit")
            pointer = "/payload" if "payload" in str(error.fields.get("what", "")).lower() else ""
            return (FieldError(pointer, "too_large", error.message, limit if isinstance(limit, int) else None),)
        case _:
            return ()


def _plain(error: FieldError) -> Mapping[str, Any]:
    return {"pointer": error.pointer, "code": error.code, "detail": error.detail, "limit": error.limit}


async def _throw_away(receive: Receive) -> None:
    thrown = 0
    try:
        async with asyncio.timeout(LINGER_S):
            while thrown < LINGER_BYTES_MAX:
                message = await receive()
                thrown += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        pass
