"""Starting runs: one, or many at once. The hot path of the API."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request

from api.bodies import BatchTriggeredBody, TriggeredBody
from api.errors import BodyInvalid, FieldError, IdempotencyKeyReused, StartUnknown
from api.openapi import body_of, idempotency_header, problems, waiting_parameters
from api.ports import Deps, Outgoing
from api.recent import RecentStart, payload_digest
from api.responses import Json
from api.routing import Api, PlainRoute, api_of, caller_of, reach_topic
from api.starts import Start, idempotency_key, parse_start, same_json
from schemas import position as positions
from schemas.catalog import Defined
from schemas.commands import TriggerRun, encode
from schemas.errors import DefinitionUnknown, OutcomeUnknown, TooLarge
from schemas.events import time_text
from schemas.identity import keyed_run_id
from schemas.jsontext import JSON
from schemas.position import Position

ENVELOPE_BYTES: Final = 16 * 1024
"""Room that a run's first event needs besides its payload and its definition."""
ITEMS_AT_ONCE: Final = 500
"""Items of a batch that are prepared before other requests have their turn."""

QUERY: Final = frozenset(parameter["name"] for parameter in waiting_parameters())

router = APIRouter(route_class=PlainRoute, tags=["runs"])


@router.post(
    "/api/v1/trigger",
    operation_id="trigger",
    status_code=202,
    response_model=TriggeredBody,
    responses=problems(400, 404, 408, 413, 415, 422, 429, 431, 503),
    openapi_extra={"requestBody": body_of("TriggerBody"), "parameters": [idempotency_header(), *waiting_parameters()]},
)
async def trigger(request: Request) -> Json:
    """Start a run.

    The answer comes when the command is safe in the log; the run follows. With an `Idempotency-Key`, any number of
    requests with the same key for the same workflow are one run. 503 `outcome_unknown`: the start may have happened;
    repeating it with the same key is safe. Without a `version` it is of the newest one that this process has read; the
    `position` of a definition as `min_position` sees to it that this one has been.
    """
    api = api_of(request)
    settings = api.deps.settings
    key = idempotency_key(request)
    if request.scope["query_string"]:
        await _reach_definitions(request, api)
    body = await api.bodies.json(request, bytes_max=settings.workflow_body_bytes_max, setting="WORKFLOW_BODY_BYTES_MAX")
    errors: list[FieldError] = []
    start = parse_start(body, errors, key=key)
    if start is None:
        raise BodyInvalid(errors)
    caller = caller_of(request)
    run_id = run_id_of(start, caller, api.deps)
    if key is not None:
        known = await _known(api, run_id, start)
        if known is not None:
            return _triggered(run_id, known, replayed=True)
    defined = await find_definition(api, start.workflow_id, start.version)
    command = outgoing(start, run_id, defined.version, caller, api.deps)
    check_size(command, start, defined, api.deps)
    try:
        position = await api.backlogs.send({start.workflow_id: 1}, lambda: api.deps.commands.send(command))
    except OutcomeUnknown as unknown:
        raise StartUnknown([run_id], reason=str(unknown.fields.get("reason", "")), keyed=key is not None) from unknown
    if key is not None:
        api.recent.add(run_id, RecentStart(defined.version, payload_digest(start.payload), position))
    return _triggered(run_id, position)


async def _reach_definitions(request: Request, api: Api) -> None:
    """Wait until this process knows the definitions that `min_position` wants. Raises PositionNotReached."""
    given = request.query_params
    await reach_topic(api, "d", api.deps.catalog, given.get("min_position"), given.get("wait"))


def _triggered(run_id: str, position: Position, *, replayed: bool = False) -> Json:
    token = positions.encode(position)
    headers = {"Workflow-Position": token, "Location": f"/api/v1/runs/{run_id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    return Json({"run_id": run_id, "status": "triggered", "position": token}, 202, headers)


async def _known(api: Api, run_id: str, start: Start) -> Position | None:
    """Where a run stands that this key has started before. Raises IdempotencyKeyReused when it was another start."""
    stored = await api.deps.store.run(run_id)
    if stored is not None:
        view = stored.view
        if view["set_aside"] is None:  # else its columns may not hold what it was started with
            same = same_json(view["payload"], start.payload)
            _same(run_id, start, view["version"], view["workflow_id"], same=same)
        return {stored.place: stored.offset}
    recent = api.recent.get(run_id)
    if recent is not None:
        _same(run_id, start, recent.version, start.workflow_id, same=recent.digest == payload_digest(start.payload))
        return recent.position
    return None


def _same(run_id: str, start: Start, version: int | None, workflow_id: str, *, same: bool) -> None:
    """A start without a version is the same as the one that pinned the version which was the newest then."""
    field = (
        "workflow_id"
        if workflow_id != start.workflow_id
        else "version"
        if start.version is not None and version is not None and start.version != version
        else "payload"
        if not same
        else None
    )
    if field is not None:
        different = FieldError(f"/{field}", "different", "it is not what the key was used with before")
        raise IdempotencyKeyReused(errors=[different], run_id=run_id, field=field)


@router.post(
    "/api/v1/trigger/batch",
    operation_id="trigger_batch",
    status_code=202,
    response_model=BatchTriggeredBody,
    responses=problems(400, 408, 413, 415, 422, 429, 431, 503),
    openapi_extra={"requestBody": body_of("BatchBody"), "parameters": [idempotency_header(), *waiting_parameters()]},
)
async def trigger_batch(request: Request) -> Json:
    """Start many runs at once.

    One invalid item, and nothing is sent. 202 when all are safe in the log; 503 `outcome_unknown` with `run_ids` when
    that is not known of each. With an `Idempotency-Key` (of the batch, or one in each item) repeating it is safe.
    """
    api = api_of(request)
    settings = api.deps.settings
    key = idempotency_key(request)
    if request.scope["query_string"]:
        await _reach_definitions(request, api)
    body = await api.bodies.json(
        request, bytes_max=settings.workflow_batch_bytes_max, setting="WORKFLOW_BATCH_BYTES_MAX"
    )
    starts = _batch_of(body, settings.workflow_batch_items_max, key)
    if api.access is not None:
        api.access.charge(request.scope, len(starts))
    commands = await _commands(api, starts, caller_of(request))
    run_ids = [command.run_id for command in commands]
    try:
        sent = list({command.run_id: command for command in commands}.values())
        counts = Counter(start.workflow_id for start in starts)
        position = await api.backlogs.send(counts, lambda: api.deps.commands.send_many(sent))
    except OutcomeUnknown as unknown:
        keyed = all(start.key is not None for start in starts)
        raise StartUnknown(run_ids, reason=str(unknown.fields.get("reason", "")), keyed=keyed) from unknown
    token = positions.encode(position)
    return Json({"run_ids": run_ids, "status": "triggered", "position": token}, 202, {"Workflow-Position": token})


def _batch_of(body: JSON, items_max: int, key: str | None) -> list[Start]:
    """The starts of a batch. Raises BodyInvalid with every error of every item."""
    if not isinstance(body, dict):
        raise BodyInvalid(
            [FieldError("", "not_an_object", 'an object is needed: {"items": [{"workflow_id": …, "payload": {…}}, …]}')]
        )
    errors = [
        FieldError(f"/{name[:100]}", "unknown_field", "no such field; the field is items")
        for name in sorted(body.keys() - {"items"})
    ]
    items = body.get("items")
    if not isinstance(items, list) or not items:
        errors.append(
            FieldError(
                "/items", "missing" if "items" not in body else "not_a_list", "a list of at least one start is needed"
            )
        )
        raise BodyInvalid(errors)
    if len(items) > items_max:
        errors.append(
            FieldError(
                "/items",
                "too_many",
                f"{len(items)} items; at most {items_max} (setting WORKFLOW_BATCH_ITEMS_MAX)",
                items_max,
            )
        )
        raise BodyInvalid(errors)
    starts = [
        parse_start(item, errors, pointer=f"/items/{index}", key=None if key is None else f"{key}/{index}", item=True)
        for index, item in enumerate(items)
    ]
    if errors:
        raise BodyInvalid(errors)
    return [start for start in starts if start is not None]


async def _commands(api: Api, starts: list[Start], caller: str | None) -> list[Outgoing]:
    """The commands of all items. Raises BodyInvalid with a pointer for each that cannot be sent."""
    deps, errors, commands = api.deps, list[FieldError](), list[Outgoing]()
    defined: dict[tuple[str, int | None], Defined | None] = {}
    payloads: dict[str, dict[str, JSON]] = {}
    for index, start in enumerate(starts):
        if index % ITEMS_AT_ONCE == 0:
            await asyncio.sleep(0)
        wanted = (start.workflow_id, start.version)
        if wanted not in defined:
            defined[wanted] = await look_up(api, *wanted)
        version = defined[wanted]
        if version is None:
            field = "workflow_id" if deps.catalog.get(start.workflow_id) is None else "version"
            errors.append(
                FieldError(
                    f"/items/{index}/{field}",
                    "definition_unknown",
                    "there is no such workflow, or no such version of it",
                )
            )
            continue
        command = outgoing(start, run_id_of(start, caller, deps), version.version, caller, deps)
        try:
            check_size(command, start, version, deps)
        except TooLarge as large:
            limit = large.fields["limit"]
            errors.append(
                FieldError(
                    f"/items/{index}/payload", "too_large", large.message, limit if isinstance(limit, int) else None
                )
            )
        if not same_json(payloads.setdefault(command.run_id, start.payload), start.payload):
            errors.append(
                FieldError(
                    f"/items/{index}/idempotency_key",
                    "different",
                    "an item before it has the same key and another payload",
                )
            )
        commands.append(command)
    if errors:
        raise BodyInvalid(errors)
    return commands


async def find_definition(api: Api, workflow_id: str, version: int | None) -> Defined:
    """The version that a start names, or the newest. Raises DefinitionUnknown."""
    defined = await look_up(api, workflow_id, version)
    if defined is None:
        raise DefinitionUnknown(workflow_id=workflow_id, version="" if version is None else f" in version {version}")
    return defined


async def look_up(api: Api, workflow_id: str, version: int | None) -> Defined | None:
    """The same, None for an unknown one. Before a no, everything that stands in the topic is read: it may have been
    defined a moment ago by way of another process."""
    defined = api.deps.catalog.get(workflow_id, version)
    if defined is None:
        await api.deps.catalog.level()
        defined = api.deps.catalog.get(workflow_id, version)
    return defined


def run_id_of(start: Start, caller: str | None, deps: Deps) -> str:
    """A new id, or the one that the caller's idempotency key names: two callers may use the same one."""
    return deps.ids() if start.key is None else keyed_run_id(caller or "", start.workflow_id, start.key)


def outgoing(start: Start, run_id: str, version: int, caller: str | None, deps: Deps) -> Outgoing:
    """The command of a start. It has the run's id for its own: a repeat is the same command."""
    command = TriggerRun(
        id=run_id,
        run_id=run_id,
        workflow_id=start.workflow_id,
        version=version,
        payload=start.payload,
        requested_at=time_text(deps.clock()),
        actor=caller,
    )
    return Outgoing(run_id, encode(command))


def check_size(command: Outgoing, start: Start, defined: Defined, deps: Deps) -> None:
    """Raise TooLarge unless the run's first event (payload, definition, envelope) will fit into a record."""
    settings = deps.settings
    if (
        len(command.value) > settings.workflow_payload_bytes_max
    ):  # the command holds the payload, so most need no second look
        size = len(orjson.dumps(start.payload))
        if size > settings.workflow_payload_bytes_max:
            limit = settings.workflow_payload_bytes_max
            raise TooLarge(what="The payload", found=size, limit=limit, setting="WORKFLOW_PAYLOAD_BYTES_MAX")
    room = settings.workflow_record_bytes_max - ENVELOPE_BYTES - settings.workflow_definition_bytes_max
    if len(command.value) > room:  # a definition has its own bound, so only a large payload needs the exact sum
        size = len(command.value) + len(orjson.dumps(defined.definition)) + ENVELOPE_BYTES
        if size > settings.workflow_record_bytes_max:
            limit = settings.workflow_record_bytes_max
            raise TooLarge(
                what="Payload, definition and envelope together",
                found=size,
                limit=limit,
                setting="WORKFLOW_RECORD_BYTES_MAX",
            )
