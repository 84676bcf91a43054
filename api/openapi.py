"""The OpenAPI document: what FastAPI makes of the routes, with the bodies that are read by hand and one shape of problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api.bodies import BatchBody, KeyRequest, ProblemBody, TriggerBody
from api.cursors import CURSOR_CHARS_MAX
from api.problems import PROBLEMS
from api.responses import PROBLEM_JSON
from api.scopes import scope_of
from schemas.definitions import NewDefinition
from schemas.settings import Settings

_COMPONENTS: Final = "#/components/schemas/{model}"
_PATTERNS: Final = {
    "min_position": {"pattern": r"^([dekt][0-9]{1,4}\.[0-9]{1,18}(-[dekt][0-9]{1,4}\.[0-9]{1,18})*)?$"},
    "wait": {"pattern": r"^[0-9]{1,15}(\.[0-9]{1,15})?(ms|s|m|h|d)?$"},
    "cursor": {"pattern": "^[A-Za-z0-9_-]+$", "maxLength": CURSOR_CHARS_MAX},
    "at": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "pattern": "^[0-9]{1,10}$"}]},
}
_SCHEME: Final = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, as `workflow keys create` shows it. Asked for where WORKFLOW_AUTH is `keys`.",
}
_ASKED: Final = (401, 403, 429)
"""What every operation that needs a scope may answer."""
_REQUEST_ID: Final = {"X-Request-Id": "The request's id: the one that was given, or a new one. The log has it."}
_POSITION: Final = {"Workflow-Position": "How far the log had got, for `min_position` of a later read."}
WAIT_TEXT: Final = 'How long to wait for `min_position` at most, in seconds or as "500ms", "2s"; up to WORKFLOW_POSITION_WAIT_S, which it is when left out.'
_POSITIONED: Final = "/api/v1/"
"""Beginning of the paths whose answers have a position."""

DESCRIPTION: Final = """\
Workflows run from a log of events in Kafka; this API defines and starts them, and shows what the log says.

Every write answers with a `position`. A read that is given it as `min_position` waits until it can show that write,
whichever process of the platform answers; `wait` says how long at most.
Errors are RFC 9457 problems; their `type` is a page of this API. A 503 with code `broker_away` or `store_away` means
that nothing was written; `outcome_unknown` means that it may have been, and that repeating the request with the same
`Idempotency-Key` is safe.

Where the platform asks for API keys, each is sent as `Authorization: Bearer wfk_…`; every operation names the scope that
it needs.
"""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: each status with the problem schema."""
    return {status: _problem(status) for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    codes = ["internal_error"] if status == 500 else [code for code, kind in PROBLEMS.items() if kind.status == status]
    schema = {"$ref": _COMPONENTS.format(model="ProblemBody")}
    response: dict[str, Any] = {
        "description": f"Problem: {', '.join(codes)}",
        "content": {PROBLEM_JSON: {"schema": schema}},
    }
    if any(PROBLEMS[code].retry_after_s is not None for code in codes):
        response["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return response


def body_of(model: str) -> dict[str, Any]:
    """The `requestBody` of a route that reads its body by hand."""
    return {"required": True, "content": {"application/json": {"schema": {"$ref": _COMPONENTS.format(model=model)}}}}


def idempotency_header() -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Names the start: repeated with the same key, by the same caller for the same workflow, it is the same run. Kept for ever.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    }


def waiting_parameters() -> list[dict[str, Any]]:
    """`min_position` and `wait` of an operation that reads its query by hand."""
    texts = {
        "min_position": "A position from an earlier answer, of a definition for one: the start waits, up to WORKFLOW_POSITION_WAIT_S, until this process knows all definitions up to there.",
        "wait": WAIT_TEXT,
    }
    return [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in texts.items()
    ]


def describe(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The document of an app under these settings."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=DESCRIPTION,
        routes=app.routes,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    _, schemas = models_json_schema(
        [
            (NewDefinition, "validation"),
            (TriggerBody, "validation"),
            (BatchBody, "validation"),
            (KeyRequest, "validation"),
            (ProblemBody, "serialization"),
        ],
        ref_template=_COMPONENTS,
    )
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components.update(schemas["$defs"])
    components.pop("HTTPValidationError", None)
    components.pop("ValidationError", None)
    components["BatchBody"]["properties"]["items"]["maxItems"] = settings.workflow_batch_items_max
    components["NewDefinition"]["properties"]["id"]["pattern"] = "^([A-Za-z0-9][A-Za-z0-9._-]{0,127})?$"
    for step in ("DelayStep", "WebhookStep"):
        components[step]["properties"]["name"]["pattern"] = "^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
    document["components"]["securitySchemes"] = {"key": _SCHEME}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _complete(operation, settings, positioned=path.startswith(_POSITIONED))
    return document


def _complete(operation: dict[str, Any], settings: Settings, *, positioned: bool) -> None:
    responses: dict[str, Any] = operation["responses"]
    if "ValidationError" in str(responses.get("422")):  # FastAPI's own; parameters are refused with 400 here
        del responses["422"]
    responses["500"] = _problem(500)
    needed = scope_of(operation["operationId"])
    if needed is not None:
        responses.update({str(status): _problem(status) for status in _ASKED})
        if settings.workflow_auth == "keys":
            operation["security"] = [{"key": [needed]}]
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        options = [option for option in schema.pop("anyOf", []) if option != {"type": "null"}]  # left out is not null
        schema |= options[0] if options else {}
        schema |= (
            {"maximum": settings.workflow_page_items_max}
            if parameter["name"] == "limit"
            else _PATTERNS.get(parameter["name"], {})
        )
    for status, response in responses.items():
        texts = _REQUEST_ID | (_POSITION if positioned and int(status) < HTTPStatus.BAD_REQUEST else {})
        named = {name: {"description": text, "schema": {"type": "string"}} for name, text in texts.items()}
        response["headers"] = response.get("headers", {}) | named
