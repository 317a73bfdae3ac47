"""mac1, mac2 and cookie replies (paper 5.4.4, 5.4.7; K cookie.c; R43-R48).

`CookieChecker` is the side that receives handshakes, one for each device; `CookieJar`
is the side that sends them, one for each peer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from tunnel.constants import (
    COOKIE_NONCE_SIZE,
    COOKIE_RATE_BURST,
    COOKIE_RATE_PER_SECOND,
    HANDSHAKE_UNDER_LOAD,
    LABEL_COOKIE,
    LABEL_MAC1,
    MAC_SIZE,
)
from tunnel.digest import compare_digest
from tunnel.protocol.messages import CookieReply
from tunnel.protocol.primitives import (
    KEY_SIZE,
    HandshakeError,
    hash_of,
    mac,
    xseal,
    xunseal,
)
from tunnel.protocol.ratelimit import RateLimiter
from tunnel.protocol.types import Endpoint, Timing, elapsed

_ZERO_MAC = bytes(MAC_SIZE)
_MACS = 2 * MAC_SIZE


def mac1_key(public: bytes) -> bytes:
    return hash_of(LABEL_MAC1, public)


def cookie_key(public: bytes) -> bytes:
    return hash_of(LABEL_COOKIE, public)


class MacState(Enum):
    """What is to be done with a handshake message."""

    ACCEPT = "accept"
    BAD_MAC1 = "bad_mac1"
    DEMAND_COOKIE = "cookie_demanded"
    RATE_LIMITED = "rate_limited"


class CookieChecker:
    """Decides whether a handshake message is worth any computation."""

    __slots__ = (
        "_cookie_key",
        "_last_under_load",
        "_limiter",
        "_mac1_key",
        "_random_bytes",
        "_secret",
        "_secret_born",
        "_strangers",
        "_timing",
    )

    def __init__(self, timing: Timing, random_bytes: Callable[[int], bytes]) -> None:
        self._timing = timing
        self._random_bytes = random_bytes
        self._limiter = RateLimiter()
        self._strangers: RateLimiter | None = None  # only with a rate of our own
        # drawn here: on a machine whose random generator is not seeded yet this
        # waits, before any message is read (R50)
        self._secret = random_bytes(KEY_SIZE)
        self._secret_born: int | None = None
        self._last_under_load: int | None = None
        self._mac1_key = self._cookie_key = b""

    def __repr__(self) -> str:
        return "<CookieChecker>"

    def set_public_key(self, public: bytes | None) -> None:
        """Our static public key; None: every mac1 is wrong."""
        self._mac1_key = mac1_key(public) if public else b""
        self._cookie_key = cookie_key(public) if public else b""

    def set_rate(self, rate: float, burst: int) -> None:
        """Handshakes per second and source. Both 0: the protocol's, under load only
        (R48). Otherwise a source that goes beyond them has to show a cookie at any
        time, and is held to them with it; without, anybody could use up the share of
        somebody else's address."""
        limited = bool(rate or burst)
        rate, burst = rate or COOKIE_RATE_PER_SECOND, burst or COOKIE_RATE_BURST
        self._limiter = RateLimiter(rate=rate, burst=burst)
        self._strangers = RateLimiter(rate=rate, burst=burst) if limited else None

    def under_load(self, queued: int, now: int) -> bool:
        """An eighth of the queue is waiting, or was within the last second."""
        if queued >= HANDSHAKE_UNDER_LOAD:
            self._last_under_load = now
            return True
        if self._last_under_load is None:
            return False
        if elapsed(self._last_under_load, now) < self._timing.under_load_sticky:
            return True
        self._last_under_load = None
        return False

    def check(
        self, data: bytes, endpoint: Endpoint, now: int, *, under_load: bool
    ) -> MacState:
        """mac1 first, in constant time; mac2 and the rate only under load (R48), or
        when a rate was set."""
        covered = len(data) - _MACS
        mac1, mac2 = data[covered : covered + MAC_SIZE], data[-MAC_SIZE:]
        if not self._mac1_key or not compare_digest(
            mac(self._mac1_key, data[:covered]), mac1
        ):
            return MacState.BAD_MAC1
        strangers, address = self._strangers, endpoint.address
        if not under_load and strangers is None:
            return MacState.ACCEPT
        cookie = self._cookie(endpoint, now)
        if not compare_digest(mac(cookie, data[:-MAC_SIZE]), mac2):
            if under_load or strangers is None or not strangers.allow(address, now):
                return MacState.DEMAND_COOKIE
            return MacState.ACCEPT
        if not self._limiter.allow(address, now):
            return MacState.RATE_LIMITED
        if strangers is not None:
            strangers.allow(address, now)  # one share, whoever shows a cookie or not
        return MacState.ACCEPT

    def reply(self, data: bytes, sender: int, endpoint: Endpoint, now: int) -> bytes:
        """The cookie reply to message `data`, whose sender index is `sender` (R46)."""
        nonce = self._random_bytes(COOKIE_NONCE_SIZE)
        mac1 = data[-_MACS:-MAC_SIZE]
        cookie = self._cookie(endpoint, now)
        sealed = xseal(self._cookie_key, nonce, cookie, mac1)
        return CookieReply(sender, nonce, sealed).pack()

    def _cookie(self, endpoint: Endpoint, now: int) -> bytes:
        """Depends on address and port, and on a secret of two minutes (R45)."""
        if self._secret_born is None:
            self._secret_born = now
        elif elapsed(self._secret_born, now) >= self._timing.cookie_secret_max_age:
            self._secret = self._random_bytes(KEY_SIZE)
            self._secret_born = now
        return mac(self._secret, endpoint.address + endpoint.port.to_bytes(2, "big"))


class CookieJar:
    """The latest cookie that a peer gave us, and the mac1 that it may answer to."""

    __slots__ = ("_cookie", "_mac1_key", "_received", "_sent_mac1", "cookie_key")

    def __init__(self, public: bytes) -> None:
        self._mac1_key = mac1_key(public)
        self.cookie_key = cookie_key(public)
        self._cookie: bytes | None = None
        self._received = 0
        self._sent_mac1: bytes | None = None

    def __repr__(self) -> str:
        return "<CookieJar>"

    def add_macs(self, message: bytes, now: int, timing: Timing) -> bytes:
        """`message` with mac1, and mac2 while there is a fresh cookie (R44)."""
        mac1 = mac(self._mac1_key, message)
        self._sent_mac1 = mac1
        message += mac1
        useful = timing.cookie_secret_max_age - timing.cookie_secret_latency
        if self._cookie is None or elapsed(self._received, now) >= useful:
            return message + _ZERO_MAC
        return message + mac(self._cookie, message)

    def consume(self, reply: CookieReply, now: int) -> None:
        """Keeps the cookie for the next initiation; HandshakeError if not for us.

        One reply for each mac1 sent: a replay finds nothing to answer (R47).
        """
        if self._sent_mac1 is None:
            raise HandshakeError("not_expected")
        self._cookie = xunseal(
            self.cookie_key, reply.nonce, reply.encrypted_cookie, self._sent_mac1
        )
        self._received = now
        self._sent_mac1 = None

    def answered(self) -> None:
        """Otherwise than by a cookie: none is to come."""
        self._sent_mac1 = None

    @staticmethod
    def mac1_of(message: bytes) -> bytes:
        """Of what `add_macs` made."""
        return message[-_MACS:-MAC_SIZE]
