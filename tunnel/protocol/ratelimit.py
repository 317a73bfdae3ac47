"""The token bucket behind the cookie (K ratelimiter.c; R48, R51).

20 messages a second and bursts of 5 for each IPv4 address or IPv6 /64. The table has a
hard cap, beyond which new sources are refused, and forgets idle buckets a few at each
call, so that no call is long.
"""

from __future__ import annotations

from tunnel import constants as c
from tunnel.protocol.types import elapsed

_COST = c.SECOND // c.COOKIE_RATE_PER_SECOND
_FULL = _COST * c.COOKIE_RATE_BURST
_FORGET_AT_ONCE = 2  # more than the one that a call can add


class RateLimiter:
    """Buckets in the order of their last use, the longest idle first."""

    __slots__ = ("_buckets", "_capacity")

    def __init__(self, capacity: int = c.COOKIE_RATE_TABLE_MAX) -> None:
        self._capacity = capacity
        self._buckets: dict[bytes, tuple[int, int]] = {}  # (ns of tokens, last use)

    def __len__(self) -> int:
        return len(self._buckets)

    def allow(self, address: bytes, now: int) -> bool:
        """Takes a token for a packed source address; False if there is none."""
        self._forget(now)
        key = address[:8] if len(address) == 16 else address
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            if len(self._buckets) >= self._capacity:
                return False
            self._buckets[key] = _FULL - _COST, now
            return True
        tokens = min(_FULL, bucket[0] + elapsed(bucket[1], now))
        allowed = tokens >= _COST
        self._buckets[key] = tokens - _COST if allowed else tokens, now
        return allowed

    def _forget(self, now: int) -> None:
        for _ in range(_FORGET_AT_ONCE):
            oldest = next(iter(self._buckets), None)
            if oldest is None:
                return
            if elapsed(self._buckets[oldest][1], now) <= c.COOKIE_RATE_EXPIRY:
                return
            del self._buckets[oldest]
