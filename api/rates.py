"""How many requests a key may make: counted in this process, two numbers for each key."""

from __future__ import annotations

import math
import time
from functools import lru_cache

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from api.errors import RateLimited
from schemas.keys import ApiKey

Headers = tuple[tuple[bytes, bytes], ...]

_parsed = lru_cache(maxsize=1_000)(parse)


class Rates:
    """The requests of every key. A key's own limit stands in place of the platform's."""

    def __init__(self, per_second: int) -> None:
        """`per_second`: the limit of keys without one of their own; 0 is none."""
        self._common = f"{per_second}/second" if per_second else None
        self._counted = SlidingWindowCounterRateLimiter(MemoryStorage())

    def limit(self, key: ApiKey) -> RateLimitItem | None:
        """What a key may do; None is anything."""
        rate = key.rate or self._common
        return None if rate is None else _parsed(rate)

    def take(self, key: ApiKey, requests: int = 1) -> None:
        """Count requests. Raises RateLimited, having counted nothing."""
        limit = self.limit(key)
        if limit is None or self._counted.hit(limit, key.id, cost=requests):
            return
        # room for one comes sooner than room for many
        wait_s = self._left(limit, key)[1] if requests == 1 else limit.get_expiry()
        raise RateLimited(
            headers={"Retry-After": str(wait_s)},
            name=key.name,
            limit=limit.amount,
            window=limit.GRANULARITY.name,
            wait_s=wait_s,
        )

    def told(self, key: ApiKey) -> Headers:
        """Headers that tell a caller what is left."""
        limit = self.limit(key)
        if limit is None:
            return ()
        left, reset_s = self._left(limit, key)
        return (
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit.amount, limit.get_expiry())),
            (b"ratelimit", b'"key";r=%d;t=%d' % (left, reset_s)),
        )

    def _left(self, limit: RateLimitItem, key: ApiKey) -> tuple[int, int]:
        """Requests that are left, and in how many seconds there are more."""
        reset_at, left = self._counted.get_window_stats(limit, key.id)
        return left, max(1, math.ceil(reset_at - time.time()))
