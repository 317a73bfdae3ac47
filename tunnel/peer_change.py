"""The peers of one plan on their way into the device: staged unseen, then published
by the change that they are a part of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from tunnel.errors import ApplyError
from tunnel.state.model import PeerState, Prefix
from tunnel.state.plan import Action
from tunnel.state.render import prefix_text

if TYPE_CHECKING:
    from tunnel._fastpath.pump import Path, Transaction
    from tunnel.device import Device
    from tunnel.protocol.peer import Peer

__all__ = ["PeerChanges", "Steps"]

Step = Callable[[], None]


@dataclass(slots=True)
class Steps:
    """What a change does at its commit and after it, or if it comes to nothing."""

    at_commit: list[Step] = field(default_factory=list)
    after: list[Step] = field(default_factory=list)
    undo: list[Step] = field(default_factory=list)

    def let_go(self) -> None:
        """The steps refer to their change: left there, it and the whole state before
        would wait for the garbage collector."""
        for steps in (self.at_commit, self.after, self.undo):
            steps.clear()


def _path_of(peer: Peer) -> Path:
    """The peer's packet path, as what it really is."""
    return cast("Path", peer.path)


def _only_host(peer: PeerState) -> bytes | None:
    """The peer's address inside when it has no network, the first one of several."""
    if any(cidr != 8 * len(address) for address, cidr in peer.allowed_ips):
        return None
    return peer.allowed_ips[0][0] if peer.allowed_ips else None


@dataclass(slots=True)
class _Added:
    """A peer that nobody knows yet."""

    path: Path | None = None
    peer: Peer | None = None


class PeerChanges:
    """Owned by a `DeviceChange`, whose transaction and steps these are."""

    def __init__(self, device: Device, transaction: Transaction, steps: Steps) -> None:
        self._device = device
        self._transaction = transaction
        self._steps = steps
        self._inserts: list[tuple[Prefix, bytes]] = []
        self._freed: set[Prefix] = set()
        self._removed: list[bytes] = []
        self._added: dict[bytes, _Added] = {}
        self._owned: list[Prefix] = []  # that nobody owned before

    # --- staging

    def stage(
        self, key: bytes, before: PeerState | None, after: PeerState | None
    ) -> None:
        """A disabled peer is only written down: on the wire it does not exist."""
        before = before if before is not None and before.enabled else None
        after = after if after is not None and after.enabled else None
        had = before.allowed_ips if before is not None else ()
        has = after.allowed_ips if after is not None else ()
        if had != has:
            known, keep = frozenset(had), frozenset(has)
            for address, cidr in (freed := known - keep):
                self._transaction.remove_prefix(address, cidr)
            self._freed |= freed
            self._inserts += [(prefix, key) for prefix in has if prefix not in known]
        if before is None and after is not None:
            self._add(key, after)
        elif before is not None and after is None:
            self._removed.append(key)
            self._transaction.remove_peer(_path_of(self._device.node.peers[key]))
        elif before is not None and after is not None:
            self._update(key, before, after)

    def _add(self, key: bytes, state: PeerState) -> None:
        device = self._device
        self._added[key] = added = _Added()
        added.path = path = device.pump.add_peer(None, _only_host(state))
        psk = state.preshared_key
        raw = psk.reveal() if psk is not None else None
        added.peer = peer = device.node.make_peer(key, path, preshared_key=raw)
        peer.name = state.name
        path.token = peer
        if state.endpoint is not None:
            path.set_endpoint(state.endpoint)
        if state.keepalive:
            self._steps.after.append(lambda: self._set_keepalive(key, state.keepalive))

    def _update(self, key: bytes, before: PeerState, after: PeerState) -> None:
        peer, at_commit = self._device.node.peers[key], self._steps.at_commit
        if before.name != after.name:
            at_commit.append(lambda: setattr(peer, "name", after.name))
        if before.preshared_key != after.preshared_key:
            psk = after.preshared_key
            raw = psk.reveal() if psk is not None else None
            at_commit.append(lambda: peer.set_preshared_key(raw))
        if before.endpoint != after.endpoint and after.endpoint is not None:
            path = _path_of(peer)
            at_commit.append(lambda: path.set_endpoint(after.endpoint))
            self._steps.after.append(lambda: self._send_what_waits(key))
        if before.keepalive != after.keepalive:
            self._steps.after.append(lambda: self._set_keepalive(key, after.keepalive))

    def _set_keepalive(self, key: bytes, seconds: int) -> None:
        """Switched on while up, one is sent at once (R36)."""
        device = self._device
        peer = device.node.peers.get(key)
        if peer is not None:
            peer.set_keepalive(seconds, device.loop.now(), device.up)

    def _send_what_waits(self, key: bytes) -> None:
        """A keepalive, too: one without an endpoint could not ask for a session."""
        device = self._device
        peer = device.node.peers.get(key)
        if peer is not None and device.up:
            alive = peer.slots.can_send(device.loop.now())
            peer.path.flush(keepalive=bool(peer.keepalive) and not alive)

    @property
    def removes(self) -> bool:
        return bool(self._removed)

    def insert_prefixes(self) -> None:
        """Last of all staging: what is taken from one peer was removed before. The
        table knows one owner of a prefix, and would lose it with either of two."""
        owned, new = self._device.owners, dict[Prefix, bytes]()
        for prefix, key in self._inserts:
            taken = prefix in owned and prefix not in self._freed
            if taken or new.setdefault(prefix, key) != key:
                raise ApplyError(
                    f"{prefix_text(prefix)} would belong to two peers",
                    hint="a prefix has one owner: take it from one of them",
                )
            address, cidr = prefix
            added = self._added.get(key)
            peer = added.peer if added else self._device.node.peers[key]
            assert peer is not None
            self._transaction.insert_prefix(address, cidr, _path_of(peer))

    def make_room(self) -> None:
        """In the tables of the device, for what the commit writes there: it must not
        need memory then. Nobody looks at them before."""
        owners, peers = self._device.owners, self._device.node.peers
        for prefix, key in self._inserts:
            if prefix not in owners:
                self._owned.append(prefix)
                owners[prefix] = key
        for key, added in self._added.items():
            assert added.peer is not None
            peers[key] = added.peer

    # --- the instant

    def forget_removed(self) -> None:
        """After the commit of the table, which took their keys out of the packet path:
        until then each packet found a peer that could send it. Before the private key
        changes: the protocol knows only those that stay then (R69)."""
        node, now = self._device.node, self._device.loop.now()
        for key in self._removed:
            path = _path_of(node.peers[key])
            node.remove_peer(key, now)
            path.token = None  # or else both would wait for the garbage collector

    def note_owners(self, actions: Sequence[Action]) -> None:
        """Who has which prefix now."""
        owners = self._device.owners
        for action in actions:
            before = action.before
            if before is not None and before.enabled:
                for prefix in before.allowed_ips:
                    if owners.get(prefix) == action.key:
                        del owners[prefix]
        for action in actions:
            after = action.after
            if after is not None and after.enabled and action.key is not None:
                for prefix in after.allowed_ips:
                    owners[prefix] = action.key

    def abort(self) -> None:
        """The transaction was aborted."""
        device = self._device
        for prefix in self._owned:
            device.owners.pop(prefix, None)
        for key, added in self._added.items():
            if device.node.peers.get(key) is added.peer:
                device.node.peers.pop(key, None)
            if added.path is not None:
                device.pump.forget_peer(added.path)
