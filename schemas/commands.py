"""Commands: what may be asked of a run, as it stands on `workflow.trigger`.

A command is a CloudEvent whose `data` holds the fields, or just the fields as one flat object. A message that says only
`workflow_id` and `payload` is a `TriggerRun`. A run's id is the field `run_id`, never the record's key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson

from schemas import jsontext
from schemas.errors import CommandRefused
from schemas.events import SOURCE, record_time
from schemas.identity import RUN_ID, foreign_run_id, is_version, is_workflow_id

TRIGGER_RUN: Final = "TriggerRun"
CANCEL_RUN: Final = "CancelRun"
_ENVELOPE: Final = frozenset(
    "specversion id source type subject time datacontenttype dataversion data actor traceparent tracestate".split()
)
_FLAT: Final = frozenset("type id actor time run_id workflow_id version payload reason".split())
_FIELDS: Final = {
    TRIGGER_RUN: frozenset({"run_id", "workflow_id", "version", "payload"}),
    CANCEL_RUN: frozenset({"run_id", "reason"}),
}
ID_CHARS_MAX: Final = 200
_RFC3339: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class TriggerRun:
    """Start a run. `version` None: the newest. `requested_at`: RFC 3339, when the command was made or written."""

    id: str
    run_id: str
    workflow_id: str
    version: int | None
    payload: dict[str, Any]
    requested_at: str
    actor: str | None = None


@dataclass(frozen=True, slots=True)
class CancelRun:
    """End a run as CANCELLED."""

    id: str
    run_id: str
    reason: str
    requested_at: str
    actor: str | None = None


Command = TriggerRun | CancelRun


def encode(command: Command) -> bytes:
    """The record value of a command."""
    match command:
        case TriggerRun():
            data: dict[str, Any] = {
                "run_id": command.run_id,
                "workflow_id": command.workflow_id,
                "payload": command.payload,
            }
            if command.version is not None:
                data["version"] = command.version
            return _envelope(TRIGGER_RUN, command, data)
        case CancelRun():
            return _envelope(CANCEL_RUN, command, {"run_id": command.run_id, "reason": command.reason})


def _envelope(type_: str, command: Command, data: dict[str, Any]) -> bytes:
    envelope = {
        "specversion": "1.0",
        "id": command.id,
        "source": SOURCE,
        "type": type_,
        "subject": command.run_id,
        "time": command.requested_at,
        "datacontenttype": "application/json",
        "data": data,
    }
    if command.actor is not None:
        envelope["actor"] = command.actor
    return orjson.dumps(envelope)


def decode(
    value: bytes | None,
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    partitions: int,
    depth_max: int = 32,
) -> Command:
    """The command that a record holds. Raises CommandRefused with the field and what is wrong with it.

    A trigger without `run_id` gets one derived from where the record stands, at home there: however often the record is
    delivered, it is the same run.
    """
    try:
        message = jsontext.loads(value or b"", depth_max=depth_max)
    except jsontext.JsonRefused as refused:
        raise CommandRefused(reason=f"it is not the JSON that is taken here: {refused.message}") from refused
    if not isinstance(message, dict):
        raise CommandRefused(reason="it is not a JSON object")
    type_, fields = _unwrap(message)
    requested_at = _time(message.get("time")) or record_time(timestamp_ms)
    run_id = fields.get("run_id")
    if run_id is None and type_ == TRIGGER_RUN:
        run_id = foreign_run_id(topic, partition, offset, timestamp_ms, value or b"", partitions)
    if not isinstance(run_id, str) or not RUN_ID.match(run_id):
        raise CommandRefused(
            reason="run_id: a letter or digit and then up to 127 letters, digits, '.', '_', ':' or '-' is needed"
        )
    command_id = _text(message, "id") or f"{topic}/{partition}/{offset}"
    actor = _text(message, "actor")
    if type_ == CANCEL_RUN:
        return CancelRun(command_id, run_id, _text(fields, "reason", 2000) or "", requested_at, actor)
    return _trigger(fields, command_id, run_id, requested_at, actor)


def _unwrap(message: dict[str, Any]) -> tuple[Literal["TriggerRun", "CancelRun"], dict[str, Any]]:
    wrapped = "specversion" in message
    unknown = sorted(message.keys() - (_ENVELOPE if wrapped else _FLAT))
    if unknown and not (wrapped and all(name.isalnum() and name.islower() for name in unknown)):
        raise CommandRefused(reason=f"{unknown[0]}: no such field in a command")
    type_ = message.get("type", TRIGGER_RUN)
    if type_ not in tuple(_FIELDS):  # it may be unhashable
        raise CommandRefused(reason=f"type: {str(type_)[:80]!r} is none of {', '.join(_FIELDS)}")
    fields = (
        message.get("data")
        if wrapped
        else {k: v for k, v in message.items() if k not in ("type", "id", "actor", "time")}
    )
    if not isinstance(fields, dict):
        raise CommandRefused(reason="data: an object is needed")
    unknown = sorted(fields.keys() - _FIELDS[type_])
    if unknown:
        raise CommandRefused(reason=f"{unknown[0][:80]}: no such field in a {type_}")
    return type_, fields


def _trigger(fields: dict[str, Any], command_id: str, run_id: str, requested_at: str, actor: str | None) -> TriggerRun:
    workflow_id, version, payload = fields.get("workflow_id"), fields.get("version"), fields.get("payload", {})
    if not is_workflow_id(workflow_id):
        raise CommandRefused(
            reason="workflow_id: a letter or digit and then up to 127 letters, digits, '.', '_' or '-' is needed"
        )
    if version is not None and not (is_version(version) and version >= 1):
        raise CommandRefused(reason="version: a whole number from 1 to 2^63 - 1 is needed")
    if not isinstance(payload, dict):
        raise CommandRefused(reason="payload: an object is needed")
    return TriggerRun(command_id, run_id, workflow_id, version, payload, requested_at, actor)


def _text(fields: dict[str, Any], name: str, chars_max: int = ID_CHARS_MAX) -> str | None:
    value = fields.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > chars_max):
        raise CommandRefused(reason=f"{name}: a text of at most {chars_max} characters is needed")
    return value


def _time(value: object) -> str | None:
    """An RFC 3339 time as all others are written, None for anything else: runs are listed in the order of these texts."""
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        return None
    try:
        at = datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
