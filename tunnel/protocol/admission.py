"""Who may make a handshake with us: access lists and the number of connections.

What is refused is dropped in silence and counted as `handshake.<reason>`; what we
would send ourselves, as `initiation.<reason>`. The rate of handshakes belongs to the
cookies (`cookie.CookieChecker`), because only they tell who the sender is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunnel import constants as c
from tunnel.protocol.prefixes import PrefixSet
from tunnel.protocol.primitives import HandshakeError
from tunnel.protocol.types import elapsed

if TYPE_CHECKING:
    from tunnel.protocol.peer import Peer

_EVERYBODY = PrefixSet()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a configuration says; the default is WireGuard without any.

    `rate` and `burst` are handshakes per second and source, 0 for those of the
    protocol. A session is renewed at `rekey_after_time` (ns) or after so many
    messages, never later than the protocol says.
    """

    allow: PrefixSet = _EVERYBODY  # none: everybody
    deny: PrefixSet = _EVERYBODY
    blocklist: PrefixSet = _EVERYBODY
    max_connections: int = 0  # 0: no limit
    rate: float = 0
    burst: int = 0
    rekey_after_time: int = c.REKEY_AFTER_TIME
    rekey_after_messages: int = c.REKEY_AFTER_MESSAGES

    def admits(self, address: bytes) -> bool:
        """Whether handshakes are made with this packed outer address; `deny` and
        `blocklist` win over `allow`."""
        if self.deny.holds(address) or self.blocklist.holds(address):
            return False
        return not self.allow or self.allow.holds(address)


class Admission:
    """Belongs to one device. `lifetime` (ns) is how long a session can be used."""

    __slots__ = ("_lifetime", "_since", "limits")

    def __init__(self, lifetime: int) -> None:
        self.limits = Limits()
        self._lifetime = lifetime
        self._since: dict[Peer, int] = {}  # latest session, the oldest first

    def check_source(self, address: bytes) -> None:
        """HandshakeError when no handshake is made with that address."""
        if not self.limits.admits(address):
            raise HandshakeError("access_denied")

    def check_room(self, peer: Peer, now: int) -> None:
        """HandshakeError when `peer` has no live session and enough others have.

        Who has one may renew it, whatever the limit is now.
        """
        most = self.limits.max_connections
        if most and self.connections(now) >= most and peer not in self._since:
            raise HandshakeError("max_connections")

    def connections(self, now: int) -> int:
        """How many peers have a session that can still be in use."""
        since = self._since
        while since:
            oldest = next(iter(since))
            if elapsed(since[oldest], now) < self._lifetime:
                break
            del since[oldest]
        return len(since)

    def began(self, peer: Peer, now: int) -> None:
        """A session of the peer was made."""
        self._since.pop(peer, None)
        self._since[peer] = now

    def ended(self, peer: Peer) -> None:
        """Its keys are gone."""
        self._since.pop(peer, None)
