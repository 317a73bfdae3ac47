"""The local side of the protocol: one device's identity and its peers.

The driver hands in handshake messages, the packet path's events, deadlines and
changes of configuration, each with the time; after every call it sends what
`to_send` gives and reads `next_event` and `next_deadline`. Nothing here blocks, and
nothing an unauthenticated sender does makes anything be kept (R2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tunnel.protocol import noise
from tunnel.protocol.cookie import CookieChecker, MacState
from tunnel.protocol.events import Event
from tunnel.protocol.local import Local
from tunnel.protocol.messages import CookieReply, Initiation, Response, unpack
from tunnel.protocol.path import PeerPath
from tunnel.protocol.peer import Peer, checked_key, checked_psk
from tunnel.protocol.primitives import ZERO_KEY, HandshakeError
from tunnel.protocol.types import (
    Arrival,
    Datagram,
    Endpoint,
    Jitter,
    Source,
    Timing,
)


class Node:
    """`rng` gives jitter and must be seeded; `random_bytes` must be a CSPRNG.

    `counters` has `initiation.*`, `response.*`, `cookie.*` for what was done and
    `handshake.<reason>` for what was refused. Owned by the control thread.
    """

    __slots__ = ("_checker", "_local", "peers")

    def __init__(
        self, timing: Timing, rng: Jitter, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._local = Local(timing, rng, random_bytes)
        self._checker = CookieChecker(timing, random_bytes)
        self.peers: dict[bytes, Peer] = {}

    def __repr__(self) -> str:
        return f"<Node peers={len(self.peers)}>"

    @property
    def public_key(self) -> bytes | None:
        identity = self._local.identity
        return identity.public if identity else None

    @property
    def counters(self) -> Counter[str]:
        return self._local.counters

    @property
    def indices(self) -> int:
        """How many receiver indices are taken."""
        return len(self._local.indices)

    # --- configuration

    def set_private_key(self, key: bytes | None, now: int) -> Peer | None:
        """None or all zeros unsets it; the key in use is left alone (R67, R68).

        Returns the peer that was removed because its key is now ours.
        """
        local = self._local
        if key is None or checked_key(key) == ZERO_KEY:
            if local.identity is not None:
                self._change_identity(None)
            return None
        if local.identity is not None and local.identity.private.same_as(key):
            return None
        had_none = local.identity is None
        identity = noise.Identity(key)
        ourselves = self.remove_peer(identity.public, now)
        self._change_identity(identity)
        if had_none and local.up:
            for peer in self.peers.values():
                peer.path.flush(keepalive=False)
        return ourselves

    def _change_identity(self, identity: noise.Identity | None) -> None:
        self._local.identity = identity
        self._checker.set_public_key(identity.public if identity else None)
        for peer in self.peers.values():
            peer.identity_changed()

    def add_peer(
        self,
        public_key: bytes,
        path: PeerPath,
        *,
        preshared_key: bytes | None = None,
        keepalive: int = 0,
    ) -> Peer | None:
        """None: the key is our own, and is ignored (R69). ValueError: it is there.

        With `keepalive`, give the path its endpoint first: `up` sends one at once.
        """
        checked_key(public_key)
        if public_key in self.peers:
            raise ValueError("public_key: is a peer already")
        if public_key == self.public_key:
            return None
        peer = Peer(self._local, public_key, path, checked_psk(preshared_key))
        self.peers[public_key] = peer
        peer.set_keepalive(keepalive, 0, False)
        if keepalive and self._local.up:
            path.flush(keepalive=True)
        return peer

    def remove_peer(self, public_key: bytes, now: int = 0) -> Peer | None:
        """Drops its keypairs and indices; a late packet of it finds nothing (R76)."""
        peer = self.peers.pop(public_key, None)
        if peer is not None:
            peer.removed = True
            peer.stop(now)
            self._local.deadlines.forget(peer)
        return peer

    # --- life

    def up(self, now: int) -> None:
        self._local.up = True
        for peer in self.peers.values():
            peer.start(now)
            self._local.deadlines.update(peer)

    def down(self, now: int) -> None:
        self._local.up = False
        for peer in self.peers.values():
            peer.stop(now)
            self._local.deadlines.forget(peer)

    def resumed(self, now: int) -> None:
        """The machine comes back from suspend: no key outlives it (R41)."""
        for peer in self.peers.values():
            peer.suspended(now)

    # --- input

    def receive(
        self,
        data: bytes,
        endpoint: tuple[bytes, int, int],
        source: Source | None,
        now: int,
        wall: int,
        *,
        queued: int,
    ) -> None:
        """A message of type 1, 2 or 3; `queued` is how many wait behind it (R46)."""
        local = self._local
        arrival = Arrival(now, wall, len(data), Endpoint(*endpoint), source)
        if not local.up or local.identity is None:
            local.counters["handshake.not_ready"] += 1
            return
        try:
            self._dispatch(data, local.identity, arrival, queued)
        except HandshakeError as error:
            local.counters[f"handshake.{error.reason}"] += 1

    def _dispatch(
        self, data: bytes, identity: noise.Identity, arrival: Arrival, queued: int
    ) -> None:
        match unpack(data):
            case Initiation() as message:
                if self._admitted(data, message.sender, arrival, queued):
                    self._initiation(message, identity, arrival)
            case Response() as message:
                if self._admitted(data, message.sender, arrival, queued):
                    self._response(message, identity, arrival)
            case CookieReply() as message:
                self._cookie_reply(message, arrival.now)
            case _:
                raise HandshakeError("malformed")

    def _admitted(
        self, data: bytes, sender: int, arrival: Arrival, queued: int
    ) -> bool:
        """mac1, and under load mac2; the only answer to a stranger is a cookie."""
        now, endpoint = arrival.now, arrival.endpoint
        under_load = self._checker.under_load(queued, now)
        state = self._checker.check(data, endpoint, now, under_load=under_load)
        if state is MacState.ACCEPT:
            return True
        self.counters[f"handshake.{state.value}"] += 1
        if state is MacState.DEMAND_COOKIE:
            reply = self._checker.reply(data, sender, endpoint, now)
            # DSCP 0: the kernel marks only what goes to a known peer (socket.c)
            self._local.outbox.append(Datagram(reply, endpoint, arrival.source, 0))
            self.counters["cookie.sent"] += 1
        return False

    def _initiation(
        self, message: Initiation, identity: noise.Identity, arrival: Arrival
    ) -> None:
        fields = noise.InitiationFields(*message[1:])
        consumed = noise.consume_initiation(identity, fields, self._find)
        peer = self.peers[consumed.remote.public]
        peer.confirm_if_due(arrival.now, arrival.wall)
        peer.respond(consumed, message.sender, arrival)
        self.counters["initiation.received"] += 1
        self._local.deadlines.update(peer)

    def _find(self, public_key: bytes) -> noise.Remote | None:
        peer = self.peers.get(public_key)
        return peer.handshake.remote if peer else None

    def _response(
        self, message: Response, identity: noise.Identity, arrival: Arrival
    ) -> None:
        peer = self._local.indices.handshake(message.receiver)
        if peer is None:
            raise HandshakeError("unknown_index")
        peer.confirm_if_due(arrival.now, arrival.wall)
        peer.accept(message, identity, arrival)
        self.counters["response.received"] += 1
        self._local.deadlines.update(peer)

    def _cookie_reply(self, message: CookieReply, now: int) -> None:
        """No timer, no roaming, no counter of bytes (R39)."""
        peer = self._local.indices.any_kind(message.receiver)
        if peer is None:
            raise HandshakeError("unknown_index")
        peer.handshake.jar.consume(message, now)
        self.counters["cookie.received"] += 1

    def path_event(self, peer: Peer, events: int, now: int, wall: int) -> None:
        """PathEvent bits that the packet path posted for `peer`."""
        if self._local.up and not peer.removed:
            peer.path_event(events, now, wall)
            self._local.deadlines.update(peer)

    # --- time

    def next_deadline(self) -> int | None:
        """When to call `handle_deadline`; may be early, is never late."""
        return self._local.deadlines.next()

    def handle_deadline(self, now: int, wall: int) -> None:
        for peer in self._local.deadlines.pop_due(now):
            peer.handle_deadline(now, wall)
            self._local.deadlines.update(peer)

    # --- output

    def to_send(self) -> list[Datagram]:
        """Hands over what is to be sent, in order."""
        out, self._local.outbox = self._local.outbox, []
        return out

    def next_event(self) -> Event | None:
        events = self._local.events
        return events.popleft() if events else None
