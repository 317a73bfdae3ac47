"""The local side of the protocol: one device's identity and its peers.

The driver hands in handshake messages, the packet path's events, deadlines and
changes of configuration, each with the time; after every call it sends what
`to_send` gives and reads `next_event` and `next_deadline`. Nothing here blocks, and
nothing an unauthenticated sender does makes anything be kept (R2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from tunnel.protocol import duties, noise
from tunnel.protocol.admission import Limits
from tunnel.protocol.cookie import CookieChecker
from tunnel.protocol.events import Event
from tunnel.protocol.inbox import Inbox, Incoming, Received
from tunnel.protocol.initiations import expected, parts, prepared
from tunnel.protocol.local import Local
from tunnel.protocol.path import PeerPath
from tunnel.protocol.peer import Peer
from tunnel.protocol.primitives import ZERO_KEY, checked_key, checked_psk
from tunnel.protocol.types import Datagram, Jitter, Source, Timing


class Node:
    """`rng` gives jitter and must be seeded; `random_bytes` must be a CSPRNG.

    `counters` has `initiation.*`, `response.*`, `cookie.*` for what was done and
    `handshake.<reason>` for what was refused. Owned by the control thread.
    """

    __slots__ = ("_checker", "_inbox", "_local", "_timing", "peers")

    def __init__(
        self, timing: Timing, rng: Jitter, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._timing = timing  # the protocol's, which limits only lower
        self._local = Local(timing, rng, random_bytes)
        self._checker = CookieChecker(timing, random_bytes)
        self.peers: dict[bytes, Peer] = {}
        self._inbox = Inbox(self._local, self._checker, self.peers)

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

    def set_limits(self, limits: Limits) -> None:
        """For what comes next; no session ends."""
        local, protocol = self._local, self._timing
        before, local.admission.limits = local.admission.limits, limits
        if (limits.rate, limits.burst) != (before.rate, before.burst):
            self._checker.set_rate(limits.rate, limits.burst)
        local.timing = replace(
            protocol,
            rekey_after_time=min(protocol.rekey_after_time, limits.rekey_after_time),
            rekey_after_messages=limits.rekey_after_messages,
        )

    def connections(self, now: int) -> int:
        """How many peers have a session that can still be in use."""
        return self._local.admission.connections(now)

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
        if public_key == self.public_key:
            return None
        peer = self.make_peer(public_key, path, preshared_key=preshared_key)
        self.peers[public_key] = peer
        peer.set_keepalive(keepalive, 0, False)
        if keepalive and self._local.up:
            path.flush(keepalive=True)
        return peer

    def make_peer(
        self, public_key: bytes, path: PeerPath, *, preshared_key: bytes | None = None
    ) -> Peer:
        """For who puts it into `peers`, or not. ValueError: it is there."""
        checked_key(public_key)
        if public_key in self.peers:
            raise ValueError("public_key: is a peer already")
        return Peer(self._local, public_key, path, checked_psk(preshared_key))

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
        self.receive_many([Received(data, endpoint, source)], now, wall, queued=queued)

    def receive_many(
        self, messages: Sequence[Incoming], now: int, wall: int, *, queued: int
    ) -> None:
        """The same for many that are there at once, which cost less together;
        `queued` wait behind the last of them."""
        self._inbox.receive(messages, now, wall, queued=queued)

    def path_event(self, peer: Peer, events: int, now: int, wall: int) -> None:
        """PathEvent bits that the packet path posted for `peer`."""
        if self._local.up and not peer.removed:
            duties.path_event(peer, events, now, wall)
            self._local.deadlines.update(peer)

    def path_events(
        self, happened: Sequence[tuple[Peer, int]], now: int, wall: int
    ) -> None:
        """The same for many peers, whose initiations cost less together."""
        local = self._local
        for some in parts(happened):
            due = [p for p, bits in some if expected(p, local.timing, now, bits)]
            with prepared(due, local.identity):
                for peer, bits in some:
                    self.path_event(peer, bits, now, wall)

    # --- time

    def next_deadline(self) -> int | None:
        """When to call `handle_deadline`; may be early, is never late."""
        return self._local.deadlines.next()

    def handle_deadline(self, now: int, wall: int) -> None:
        local = self._local
        for some in parts(local.deadlines.pop_due(now)):
            due = [peer for peer in some if expected(peer, local.timing, now)]
            with prepared(due, local.identity):
                for peer in some:
                    duties.handle_deadline(peer, now, wall)
                    local.deadlines.update(peer)

    # --- output

    def to_send(self) -> list[Datagram]:
        """Hands over what is to be sent, in order."""
        out, self._local.outbox = self._local.outbox, []
        return out

    def next_event(self) -> Event | None:
        events = self._local.events
        return events.popleft() if events else None
