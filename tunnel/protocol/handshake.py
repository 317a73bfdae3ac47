"""The handshake of one peer: what it keeps between messages, and what it refuses.

Messages go in and out as fields; sessions, timers and datagrams are Peer's business.
"""

from __future__ import annotations

from tunnel.protocol import noise
from tunnel.protocol.cookie import CookieJar
from tunnel.protocol.local import Local
from tunnel.protocol.messages import Response
from tunnel.protocol.primitives import KEY_SIZE, HandshakeError
from tunnel.protocol.tai64n import Clock
from tunnel.protocol.types import elapsed

_NEVER = bytes(12)  # smaller than any timestamp


class Handshake:
    """At most one initiation of ours waits for its response."""

    __slots__ = (
        "_clock",
        "_initiated",
        "_last_consumed",
        "_latest_timestamp",
        "_local",
        "attempts",
        "index",
        "jar",
        "last_minute_done",
        "last_sent",
        "preshared_key",
        "remote",
    )

    def __init__(self, local: Local, public: bytes, psk: bytes | None) -> None:
        self._local = local
        self.remote = noise.Remote(public)
        self.jar = CookieJar(public)
        self.preshared_key = psk
        self._clock = Clock()
        self._initiated: noise.Initiated | None = None
        self.index: int | None = None  # of the initiation that waits
        # both outlive sessions and the interface going down (R12)
        self._latest_timestamp = _NEVER
        self._last_consumed: int | None = None
        self.last_sent: int | None = None  # an initiation or a response (R17)
        self.attempts = 0
        self.last_minute_done = False  # R26, until the next session

    def __repr__(self) -> str:
        return f"<Handshake waiting={self._initiated is not None}>"

    def clear(self) -> None:
        """Forgets the initiation that waits, with its ephemeral key."""
        self._initiated = None
        if self.index is not None:
            self._local.indices.remove(self.index)
            self.index = None

    def create_initiation(
        self, identity: noise.Identity, wall: int
    ) -> noise.InitiationFields:
        """A new one each time, in place of the one that waits (R18).

        The caller draws an index for it and keeps it in `index`.
        """
        self.clear()
        fields, self._initiated = noise.create_initiation(
            identity,
            self.remote,
            self._clock.stamp(wall),
            self._local.random_bytes(KEY_SIZE),
        )
        return fields

    def admit(self, consumed: noise.Consumed, now: int) -> None:
        """The last checks of an authentic initiation; then it is the latest one."""
        if consumed.timestamp <= self._latest_timestamp:
            raise HandshakeError("stale_timestamp")
        gate = self._local.timing.initiation_flood_gate
        if self._last_consumed is not None and elapsed(self._last_consumed, now) < gate:
            raise HandshakeError("flood")
        self._latest_timestamp = consumed.timestamp
        self._last_consumed = now

    def consume_response(
        self, identity: noise.Identity, message: Response
    ) -> noise.SessionKeys:
        """Changes nothing if the message is refused (R15, R16)."""
        if self._initiated is None:
            raise HandshakeError("not_expected")
        fields = noise.ResponseFields(message.ephemeral, message.encrypted_nothing)
        keys = noise.consume_response(
            identity, self._initiated, fields, self.preshared_key
        )
        self._initiated = None
        return keys
