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

    def take(self, key: ApiKey, requests: int = 1) -> Headers:
        """Count requests; headers that tell what is left. Raises RateLimited, having counted nothing."""
        limit = self.limit(key)
        if limit is None:
            return ()
        taken = self._counted.hit(limit, key.id, cost=requests)
        reset_at, left = self._counted.get_window_stats(limit, key.id)
        reset_s = max(1, math.ceil(reset_at - time.time()))
        headers = (
            (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit.amount, limit.get_expiry())),
            (b"ratelimit", b'"key";r=%d;t=%d' % (left, reset_s)),
        )
        if taken:
            return headers
        wait_s = reset_s if requests == 1 else limit.get_expiry()  # room for one comes sooner than room for many
        raise RateLimited(
            headers={"Retry-After": str(wait_s)} | {name.decode(): value.decode() for name, value in headers},
            name=key.name,
            limit=limit.amount,
            window=limit.GRANULARITY.name,
            wait_s=wait_s,
        )
