"""Small value types of the protocol: endpoints, datagrams, times. No behaviour here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tunnel import constants as c

if TYPE_CHECKING:
    from tunnel.protocol.path import PeerPath

Source = tuple[bytes, int]
"""Our address that a datagram came to, packed, and the index of its interface."""


class Endpoint(NamedTuple):
    """Where datagrams go: packed address (4 or 16 bytes), port, IPv6 scope id."""

    address: bytes
    port: int
    scope_id: int = 0


class Datagram(NamedTuple):
    """A datagram that the driver is to send. `path` is that of the peer who remembers
    `source`; an answer to a stranger has none."""

    data: bytes
    endpoint: Endpoint
    source: Source | None
    tos: int
    path: PeerPath | None = None


class Jitter(Protocol):
    """The part of `random.Random` that timers use; must be seeded (R42)."""

    def randrange(self, stop: int, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Every time of the protocol, in ns. Tests shorten them; the rest is derived."""

    rekey_after_time: int = c.REKEY_AFTER_TIME
    rekey_after_messages: int = c.REKEY_AFTER_MESSAGES
    reject_after_time: int = c.REJECT_AFTER_TIME
    rekey_timeout: int = c.REKEY_TIMEOUT
    keepalive_timeout: int = c.KEEPALIVE_TIMEOUT
    rekey_jitter_max: int = c.REKEY_JITTER_MAX
    max_timer_handshakes: int = c.MAX_TIMER_HANDSHAKES
    initiation_flood_gate: int = c.INITIATION_FLOOD_GATE
    cookie_secret_max_age: int = c.COOKIE_SECRET_MAX_AGE
    cookie_secret_latency: int = c.COOKIE_SECRET_LATENCY
    under_load_sticky: int = c.UNDER_LOAD_STICKY
    slack_parts: int = c.TIMER_SLACK_PARTS  # see `timers.shared_time`; 0: no slack

    @property
    def new_handshake_timeout(self) -> int:
        """Unanswered data is given this long, plus jitter (R33)."""
        return self.keepalive_timeout + self.rekey_timeout

    @property
    def last_minute(self) -> int:
        """Key age at which receiving makes the initiator rekey (R26)."""
        return self.reject_after_time - self.keepalive_timeout - self.rekey_timeout

    @property
    def key_erase_time(self) -> int:
        """All keys are erased this long after the last session was derived (R38)."""
        return 3 * self.reject_after_time


def elapsed(since: int, now: int) -> int:
    """`now - since`, never negative: clocks have been seen to step back (R40)."""
    return now - since if now > since else 0


class Arrival(NamedTuple):
    """When a datagram came (boot time, Unix time; ns), how long it is, from where."""

    now: int
    wall: int
    size: int
    endpoint: Endpoint
    source: Source | None
