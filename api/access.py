"""Who asks, and whether they may: the one way into every operation that is not open."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope as Asgi

from api.errors import BodyInvalid, FieldError, NotAuthenticated, ScopeMissing
from api.ports import ApiKeys
from api.rates import Rates
from api.tokens import Verifier
from schemas.keys import ApiKey, Scope, Token, read_token

_BEARER: Final = b"bearer "


class Access:
    """Asks every caller for a key."""

    def __init__(self, keys: ApiKeys, *, per_second: int) -> None:
        """`per_second`: see `Rates`."""
        self._keys = keys
        self._verifier = Verifier()
        self._rates = Rates(per_second)

    async def admit(self, request: Asgi, needed: Scope) -> None:
        """Let the caller in to what needs this scope: puts its `api_key` into the request, and `limit_headers` for its answer.

        Raises NotAuthenticated, ScopeMissing, RateLimited; BrokerAway or LogMismatch while keys cannot be known,
        Overloaded when too many wait for a check.
        """
        key = request["api_key"] = await self._caller(_token(request))
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

    async def _caller(self, token: Token | None) -> ApiKey:
        if token is None:
            raise NotAuthenticated
        key = self._keys.usable(token.id)
        digest = self._verifier.digest(token)
        right = self._verifier.remembered(key, token, digest)
        if right is None:
            right = await self._verifier.check(key, token, digest)
        if key is None or not right:
            raise NotAuthenticated
        return key


def _token(request: Asgi) -> Token | None:
    """The token of the Authorization header, None without one, with another scheme, or with two headers."""
    found = [value for name, value in request["headers"] if name == b"authorization"]
    if len(found) != 1 or found[0][:7].lower() != _BEARER:
        return None
    return read_token(found[0][7:].decode("latin-1").strip(" "))
