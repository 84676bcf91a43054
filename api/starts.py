"""What a start asks for, read from a body without pydantic: this is the hot path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from api.errors import FieldError, ParameterInvalid
from schemas.identity import is_workflow_id
from schemas.jsontext import JSON

KEY_CHARS_MAX: Final = 255
_FIELDS: Final = frozenset({"workflow_id", "payload", "version"})
_ITEM_FIELDS: Final = _FIELDS | {"idempotency_key"}
ID_RULE: Final = "a letter or digit and then up to 127 letters, digits, '.', '_' or '-' is needed"
_KEY_RULE: Final = f"1 to {KEY_CHARS_MAX} printable ASCII characters are needed"
VERSION_MAX: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Start:
    """A start as it was asked for. `version` None: the newest. `key`: the caller's idempotency key."""

    workflow_id: str
    version: int | None
    payload: dict[str, JSON]
    key: str | None


def parse_start(
    body: JSON, errors: list[FieldError], *, pointer: str = "", key: str | None = None, item: bool = False
) -> Start | None:
    """The start that `body` describes; None, and at least one more entry in `errors`, where it describes none.

    `item`: it is one of a batch, and may carry its own `idempotency_key`.
    """
    if not isinstance(body, dict):
        errors.append(FieldError(pointer, "not_an_object", "an object with workflow_id and payload is needed"))
        return None
    found = len(errors)
    fields = _ITEM_FIELDS if item else _FIELDS
    if not body.keys() <= fields:
        detail = f"no such field; the fields are {', '.join(sorted(fields))}"
        unknown = sorted(body.keys() - fields)
        errors.extend(FieldError(f"{pointer}/{escape(name)}", "unknown_field", detail) for name in unknown)
    workflow_id, payload, version = body.get("workflow_id"), body.get("payload", {}), body.get("version")
    if not is_workflow_id(workflow_id):
        code = "missing" if "workflow_id" not in body else "bad_id"
        errors.append(FieldError(f"{pointer}/workflow_id", code, ID_RULE, 128))
    if not isinstance(payload, dict):
        errors.append(FieldError(f"{pointer}/payload", "not_an_object", "an object is needed"))
    if version is not None and (type(version) is not int or not 1 <= version <= VERSION_MAX):
        errors.append(FieldError(f"{pointer}/version", "bad_version", "a whole number from 1 is needed", VERSION_MAX))
    if item and "idempotency_key" in body:
        key = _sound_key(body["idempotency_key"])
        if key is None:
            errors.append(FieldError(f"{pointer}/idempotency_key", "bad_key", _KEY_RULE, KEY_CHARS_MAX))
    if len(errors) > found:
        return None
    assert isinstance(workflow_id, str)
    assert isinstance(payload, dict)
    assert version is None or isinstance(version, int)
    return Start(workflow_id, version, payload, key)


def idempotency_key(request: Request) -> str | None:
    """The header's value, None without one. Raises ParameterInvalid for one that cannot be a key, or two of them."""
    found: str | None = None
    for name, value in request.scope["headers"]:
        if name == b"idempotency-key":
            key = _sound_key(value.decode("latin-1"))
            if key is None or found is not None:
                raise ParameterInvalid(
                    FieldError("header/Idempotency-Key", "bad_key", f"once, and {_KEY_RULE}", KEY_CHARS_MAX)
                )
            found = key
    return found


def _sound_key(value: object) -> str | None:
    sound = isinstance(value, str) and 0 < len(value) <= KEY_CHARS_MAX and value.isascii() and value.isprintable()
    return value if sound and isinstance(value, str) else None


def escape(name: str) -> str:
    """A key as a part of an RFC 6901 pointer, cut to a length that can be shown."""
    return name[:100].replace("~", "~0").replace("/", "~1")


def same_json(one: JSON, other: JSON) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(same_json(value, other[key]) for key, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(same_json, one, other))
        case bool(), _:
            return one is other
        case _, bool():
            return False
        case _:
            return one == other
