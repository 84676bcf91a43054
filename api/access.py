"""Who asks, and whether they may: the one way into every operation that is not open."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import QueryParams
from starlette.types import Scope as Asgi

from api.errors import BodyInvalid, FieldError, NotAuthenticated, ScopeMissing
from api.ports import ApiKeys
from api.rates import Rates
from api.tokens import Verifier
from schemas import position as positions
from schemas.keys import ApiKey, Scope, Token, read_token

_BEARER: Final = b"bearer "
NEWS_S: Final = 1.0
"""How long a caller waits at most for keys that it knows to have changed: within it every process has heard."""
NEWS_WAITS_MAX: Final = 256
"""Who comes after so many that wait for that is judged by the keys that are known."""


class Access:
    """Asks every caller for a key."""

    def __init__(self, keys: ApiKeys, *, per_second: int) -> None:
        """`per_second`: see `Rates`."""
        self._keys = keys
        self._verifier = Verifier()
        self._rates = Rates(per_second)
        self._waiting = 0

    async def admit(self, request: Asgi, needed: Scope) -> None:
        """Let the caller in to what needs this scope: puts its `api_key` into the request, and `limit_headers` for its answer.

        Raises NotAuthenticated, ScopeMissing, RateLimited; BrokerAway or LogMismatch while keys cannot be known,
        Overloaded when too many wait for a check.
        """
        key = request["api_key"] = await self._caller(request, _token(request))
        self._count(request, key)
        if not key.allows(needed):
            raise ScopeMissing(name=key.name, scope=needed, has=", ".join(key.scopes))

    def charge(self, request: Asgi, starts: int) -> None:
        """Count a batch as the requests that it stands for. Raises BodyInvalid for one that could never pass, RateLimited."""
        key: ApiKey = request["api_key"]
        limit = self._rates.limit(key)
        if limit is not None and starts > limit.amount:
            detail = f"{starts} items; the API key {key.name!r} may start {limit.amount} per {limit.GRANULARITY.name}"
            raise BodyInvalid([FieldError("/items", "too_many", detail, limit.amount)])
        if starts > 1:
            self._count(request, key, starts - 1)

    def _count(self, request: Asgi, key: ApiKey, requests: int = 1) -> None:
        try:
            self._rates.take(key, requests)
        finally:
            request["limit_headers"] = self._rates.told(key)

    async def _hear(self, position: int) -> None:
        """Wait for the keys that the caller has seen changed through another process."""
        if position <= self._keys.position or self._waiting >= NEWS_WAITS_MAX:
            return
        self._waiting += 1
        try:
            await self._keys.reach(position, NEWS_S)
        finally:
            self._waiting -= 1

    async def _caller(self, request: Asgi, token: Token | None) -> ApiKey:
        if token is None:
            raise NotAuthenticated
        await self._hear(_seen(request))
        key = self._keys.usable(token.id)
        digest = self._verifier.digest(token)
        right = self._verifier.remembered(key, token, digest)
        if right is None:
            right = await self._verifier.check(key, token, digest)
        if key is None or not right:
            raise NotAuthenticated
        return key


def _seen(request: Asgi) -> int:
    """What the `min_position` of the request wants of the keys; 0 for one that its operation will refuse."""
    token = QueryParams(request["query_string"]).get("min_position", "")
    try:
        return positions.decode(token).get(("k", 0), 0)
    except ValueError:
        return 0


def _token(request: Asgi) -> Token | None:
    """The token of the Authorization header, None without one, with another scheme, or with two headers."""
    found = [value for name, value in request["headers"] if name == b"authorization"]
    if len(found) != 1 or found[0][:7].lower() != _BEARER:
        return None
    return read_token(found[0][7:].decode("latin-1").strip(" "))
