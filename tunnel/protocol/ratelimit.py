"""The token bucket behind the cookie (K ratelimiter.c; R48, R51).

20 messages a second and bursts of 5, unless configured, for each IPv4 address or IPv6
/64. The table has a hard cap, beyond which new sources are refused, and forgets idle
buckets a few at each call, so that no call is long.
"""

from __future__ import annotations

from collections import OrderedDict

from tunnel import constants as c
from tunnel.protocol.types import elapsed

_FORGET_AT_ONCE = 2  # more than the one that a call can add


class RateLimiter:
    """Buckets in the order of their last use, the longest idle first."""

    __slots__ = ("_buckets", "_capacity", "_cost", "_expiry", "_full")

    def __init__(
        self,
        capacity: int = c.COOKIE_RATE_TABLE_MAX,
        *,
        rate: float = c.COOKIE_RATE_PER_SECOND,
        burst: int = c.COOKIE_RATE_BURST,
    ) -> None:
        self._capacity = capacity
        # (ns of tokens, last use); a plain dict looks for its first key ever longer
        self._buckets: OrderedDict[bytes, tuple[int, int]] = OrderedDict()
        self._cost = round(c.SECOND / rate)
        self._full = self._cost * burst
        self._expiry = max(c.COOKIE_RATE_EXPIRY, self._full)

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
            self._buckets[key] = self._full - self._cost, now
            return True
        tokens = min(self._full, bucket[0] + elapsed(bucket[1], now))
        allowed = tokens >= self._cost
        self._buckets[key] = tokens - self._cost if allowed else tokens, now
        return allowed

    def _forget(self, now: int) -> None:
        for _ in range(_FORGET_AT_ONCE):
            oldest = next(iter(self._buckets), None)
            if oldest is None:
                return
            if elapsed(self._buckets[oldest][1], now) <= self._expiry:
                return
            del self._buckets[oldest]
