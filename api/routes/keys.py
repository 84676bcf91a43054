"""API keys: made, listed and revoked by who has the scope `admin`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from starlette.requests import Request

from api import cursors
from api.bodies import KeyChangeBody, KeyPage, NewKeyBody
from api.errors import BodyInvalid, FieldError, KeyOutcomeUnknown, KeysOff
from api.openapi import body_of, problems
from api.pages import cut
from api.ports import ApiKeys
from api.reads import page_headers, page_limit
from api.responses import Json
from api.routing import Api, Cursor, Limit, MinPosition, PlainRoute, Shared, StrictRoute, Wait, api_of, reach_topic
from api.starts import escape
from api.tokens import hash_secret, new_token
from schemas import position as positions
from schemas.errors import OutcomeUnknown
from schemas.events import time_text
from schemas.jsontext import JSON
from schemas.keys import ApiKey, mistakes, sorted_scopes

router = APIRouter(route_class=StrictRoute, tags=["keys"])
writing = APIRouter(route_class=PlainRoute, tags=["keys"])

KeyId = Annotated[str, Path(pattern=r"^[a-z0-9]{12}$")]
_FIELDS: Final = ("name", "scopes", "rate")


@writing.post(
    "/api/v1/keys",
    operation_id="keys_create",
    status_code=201,
    response_model=NewKeyBody,
    responses=problems(400, 408, 409, 413, 415, 422, 431, 503),
    openapi_extra={"requestBody": body_of("KeyRequest")},
)
async def create(request: Request) -> Json:
    """Make an API key. Its `token` is shown in this answer and never again.

    503 `outcome_unknown`: the key may be in the list, with a token that nobody knows. Revoke it, and make another one.
    """
    api = api_of(request)
    keys, settings = _keys(api), api.deps.settings
    body = await api.bodies.json(request, bytes_max=settings.workflow_body_bytes_max, setting="WORKFLOW_BODY_BYTES_MAX")
    fields = _read(body)
    token = new_token()
    hash_ = await asyncio.to_thread(hash_secret, token.secret)
    created_at = time_text(api.deps.clock())
    key = ApiKey(token.id, fields["name"], sorted_scopes(fields["scopes"]), hash_, created_at, fields.get("rate"))
    try:
        made = await keys.create(key)
    except OutcomeUnknown as unknown:
        remedy = (
            "Look at GET /api/v1/keys: if it is there, revoke it, for nobody knows its token, and make another one."
        )
        raise KeyOutcomeUnknown(key=key.name, done="made", reason=_reason(unknown), remedy=remedy) from unknown
    return _changed(keys, made, 201, {"token": token.text})


@router.get("/api/v1/keys", operation_id="keys_list", response_model=KeyPage, responses=problems(400, 409, 431, 503))
async def list_keys(
    request: Request,
    api: Shared,
    limit: Limit = None,
    cursor: Cursor = None,
    min_position: MinPosition = None,
    wait: Wait = None,
) -> Json:
    """All API keys by name, revoked ones too."""
    keys = _keys(api)
    most, bound = page_limit(limit, api.deps.settings.workflow_page_items_max), {"list": "keys"}
    after = cursors.decode(cursor, bound, (str, str, str)) if cursor is not None else ("", "", "")
    await reach_topic(api, "k", keys, min_position, wait)
    await keys.level()
    found = [key for key in keys.all() if _place(key) > tuple(after)]
    page, following = cut(found, most, bound, lambda key: [*_place(key)])
    items = [key.shown() for key in page]
    headers = page_headers(request, {("k", 0): keys.position}, following)
    return Json({"items": items, "next_cursor": following}, headers=headers)


@router.delete(
    "/api/v1/keys/{key_id}",
    operation_id="keys_revoke",
    response_model=KeyChangeBody,
    responses=problems(400, 404, 409, 431, 503),
)
async def revoke(api: Shared, key_id: KeyId) -> Json:
    """Revoke an API key, for ever. Every process refuses it within a second or so; repeating the request is safe."""
    keys = _keys(api)
    try:
        return _changed(keys, await keys.revoke(key_id))
    except OutcomeUnknown as unknown:
        remedy = "Repeating the request is safe."
        raise KeyOutcomeUnknown(key=key_id, done="revoked", reason=_reason(unknown), remedy=remedy) from unknown


def _changed(keys: ApiKeys, key: ApiKey, status: int = 200, more: Mapping[str, str] | None = None) -> Json:
    token = positions.encode({("k", 0): keys.position})
    return Json({**key.shown(), **(more or {}), "position": token}, status, {"Workflow-Position": token})


def _reason(unknown: OutcomeUnknown) -> object:
    return unknown.fields.get("reason", "")


def _keys(api: Api) -> ApiKeys:
    if api.deps.keys is None:
        raise KeysOff(auth=api.deps.settings.workflow_auth)
    return api.deps.keys


def _place(key: ApiKey) -> tuple[str, str, str]:
    return key.name, key.created_at, key.id


def _read(body: JSON) -> dict[str, Any]:
    """The fields of a key to be made. Raises BodyInvalid with every mistake."""
    if not isinstance(body, dict):
        raise BodyInvalid([FieldError("", "not_an_object", "an object with name and scopes is needed")])
    takes = f"no such field; the fields are {', '.join(_FIELDS)}"
    errors = [FieldError(f"/{escape(name)}", "unknown_field", takes) for name in sorted(body.keys() - {*_FIELDS})]
    for name, rule in mistakes(body.get("name"), body.get("scopes"), body.get("rate")).items():
        errors.append(FieldError(f"/{name}", f"bad_{name}" if name in body else "missing", rule))
    if errors:
        raise BodyInvalid(errors)
    return body
