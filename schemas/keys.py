"""API keys as `workflow.keys` tells them. A record is the state of one key: of each id, the newest record counts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, get_args

import orjson

from schemas.errors import KeyRefused

Scope = Literal["read", "trigger", "define", "operate", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
"""What a key may do; `admin` includes all others."""

NAME_RULE: Final = "a letter or digit and then up to 63 letters, digits, '.', '_', '-', '@', ':' or '+' is needed"
RATE_RULE: Final = "a whole number from 1 to 9999999, then /second, /minute or /hour, as 20/second, is needed"
SCOPES_RULE: Final = f"at least one of {', '.join(SCOPES)} is needed, each once"
TOKEN_RULE: Final = "a key as `workflow keys create` shows it, wfk_…, is needed"  # noqa: S105 - what one looks like

ID: Final = re.compile(r"[a-z0-9]{12}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+-]{0,63}")
_RATE: Final = re.compile(r"[1-9][0-9]{0,6}/(second|minute|hour)")
_TOKEN: Final = re.compile(r"wfk_([a-z0-9]{12})_([0-9a-f]{64})")
_HASH: Final = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,6}),t=([0-9]{1,2}),p=([0-9]{1,2})\$[A-Za-z0-9+/]{8,90}\$[A-Za-z0-9+/]{20,90}"
)
_MEMORY_KIB_MAX: Final = 256 * 1024
_PASSES_MAX: Final = 10
_LANES_MAX: Final = 16


class Token(NamedTuple):
    """What a caller sends: the id of its key and the secret, 64 hex digits that nobody else keeps."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        return f"wfk_{self.id}_{self.secret}"


def read_token(text: str) -> Token | None:
    """The token that a text is; None for any other text."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else Token(found[1], found[2])


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key. `hash`: argon2id of its secret, as PHC text. `rate`: a limit of its own, as `20/second`; None takes the
    platform's. `created_at`, `revoked_at`: RFC 3339; `revoked_at` None while it may be used."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    hash: str = field(repr=False)
    created_at: str
    rate: str | None = None
    revoked_at: str | None = None

    @property
    def usable(self) -> bool:
        return self.revoked_at is None

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs this scope."""
        return scope in self.scopes or "admin" in self.scopes

    def revoked(self, at: str) -> ApiKey:
        """The same key from when on it may not be used."""
        return replace(self, revoked_at=at)

    def shown(self) -> dict[str, Any]:
        """What people see of it: all but the hash."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": list(self.scopes),
            "rate": self.rate,
            "created_at": self.created_at,
            "revoked_at": self.revoked_at,
        }


def mistakes(name: object, scopes: object, rate: object) -> dict[str, str]:
    """What is wrong with what a key shall be, by field; empty when it can be made."""
    found: dict[str, str] = {}
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        found["name"] = NAME_RULE
    if not _are_scopes(scopes):
        found["scopes"] = SCOPES_RULE
    if rate is not None and not _is_rate(rate):
        found["rate"] = RATE_RULE
    return found


def _are_scopes(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and 0 < len(value) <= len(SCOPES)
        and all(isinstance(scope, str) and scope in SCOPES for scope in value)
        and len(set(value)) == len(value)
    )


def _is_rate(value: object) -> bool:
    return isinstance(value, str) and _RATE.fullmatch(value) is not None


def is_hash(value: object) -> bool:
    """Whether this is a hash that may be checked: argon2id whose cost is bounded, for a record is not to be trusted."""
    found = _HASH.fullmatch(value) if isinstance(value, str) else None
    return found is not None and all(
        1 <= int(given) <= limit
        for given, limit in zip(found.groups(), (_MEMORY_KIB_MAX, _PASSES_MAX, _LANES_MAX), strict=True)
    )


def encode(key: ApiKey) -> bytes:
    """The record value of a key."""
    return orjson.dumps({**key.shown(), "hash": key.hash})


def decode(key: bytes | None, value: bytes | None) -> ApiKey:
    """The key that a record holds; fields that are not known are passed over. Raises KeyRefused with what is wrong."""
    try:
        fields = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise KeyRefused(reason="the record is no JSON") from error
    if not isinstance(fields, dict):
        raise KeyRefused(reason="the record is no JSON object")
    wrong = mistakes(fields.get("name"), fields.get("scopes"), fields.get("rate"))
    if wrong:
        raise KeyRefused(reason="; ".join(f"{name}: {rule}" for name, rule in wrong.items()))
    id_, created_at, revoked_at = fields.get("id"), fields.get("created_at"), fields.get("revoked_at")
    if not isinstance(id_, str) or not ID.fullmatch(id_) or id_.encode() != key:
        raise KeyRefused(reason="id: 12 letters and digits are needed, the same as the record's key")
    if not is_hash(fields.get("hash")):
        raise KeyRefused(reason="hash: argon2id as PHC text with bounded parameters is needed")
    if not isinstance(created_at, str) or not (revoked_at is None or isinstance(revoked_at, str)):
        raise KeyRefused(reason="created_at, revoked_at: a time as text is needed, the latter may be null")
    return ApiKey(
        id_, fields["name"], tuple(fields["scopes"]), fields["hash"], created_at, fields.get("rate"), revoked_at
    )


class Keys:
    """A fold of the topic: folding what compaction left of it gives the same as folding all of it."""

    def __init__(self) -> None:
        self.unreadable = 0
        self._keys: dict[str, tuple[int, ApiKey]] = {}

    def fold(self, offset: int, key: bytes | None, value: bytes | None) -> str | None:
        """Take a record; why it cannot be read, None when it can.

        One that cannot be read takes the place of its id, because compaction will drop the record before it. One without
        a value ends its id.
        """
        id_ = (key or b"").decode("ascii", "replace")
        if value is None:
            self._keys.pop(id_, None)
            return None
        try:
            self._keys[id_] = offset, decode(key, value)
        except KeyRefused as refused:
            self._keys.pop(id_, None)
            self.unreadable += 1
            return refused.message
        return None

    def get(self, key_id: str) -> ApiKey | None:
        """The key of this id, revoked or not."""
        found = self._keys.get(key_id)
        return None if found is None else found[1]

    def all(self) -> list[ApiKey]:
        """Every key by name, those of one name by when they were made."""
        return sorted((key for _, key in self._keys.values()), key=lambda key: (key.name, key.created_at, key.id))

    def named(self, name: str) -> list[ApiKey]:
        """Keys of this name that may be used, the one that stands first in the topic first: more than one only for a
        moment, when two were made at once."""
        found = [(offset, key) for offset, key in self._keys.values() if key.name == name and key.usable]
        return [key for _, key in sorted(found, key=lambda entry: entry[0])]

    def usable(self) -> int:
        """How many may be used."""
        return sum(key.usable for _, key in self._keys.values())


def sorted_scopes(scopes: Iterable[str]) -> tuple[Scope, ...]:
    """Scopes in their own order."""
    given = set(scopes)
    return tuple(scope for scope in SCOPES if scope in given)
