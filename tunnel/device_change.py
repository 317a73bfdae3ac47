"""One plan on its way into the device: staged unseen, published at one instant.

Staging may fail at any point and is taken back without a trace: the routing table's
transaction is aborted, new peers and sockets go, interface commands are undone. What
comes after the transaction's commit does not fail; if it does all the same, the
tunnel ends rather than run on half changed.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from tunnel.errors import DeviceError, NeedsRestart
from tunnel.io.base import UdpTransport
from tunnel.limits import isolation_of, limits_of
from tunnel.state.model import (
    DeviceState,
    PeerState,
    Prefix,
    Secret,
    short_key,
)
from tunnel.state.plan import Action, ActionKind, Plan
from tunnel.state.targets import StateEditor

if TYPE_CHECKING:
    from tunnel._fastpath.pump import Path, Transaction
    from tunnel.device import Device
    from tunnel.protocol.peer import Peer

__all__ = ["DeviceChange", "listen_addresses", "path_of", "put_sockets"]

log = logging.getLogger("tunnel.device")


def listen_addresses(state: DeviceState) -> tuple[bytes, ...]:
    """The local addresses to bind to; empty for all of them."""
    address = dict(state.settings).get("listen.address")
    return (address,) if isinstance(address, bytes) and address else ()


def path_of(peer: Peer) -> Path:
    """The peer's packet path, as what it really is."""
    return cast("Path", peer.path)


def put_sockets(transaction: Transaction, transport: UdpTransport) -> None:
    """These are the sockets of the packet path from the commit on."""
    transaction.set_sockets(
        transport.fileno4,
        transport.fileno6,
        connected=transport.connected,
        more=transport.more,
    )


def _only_host(peer: PeerState) -> bytes | None:
    """The peer's address inside when it has no network, the first one of several."""
    if any(cidr != 8 * len(address) for address, cidr in peer.allowed_ips):
        return None
    return peer.allowed_ips[0][0] if peer.allowed_ips else None


class DeviceChange:
    """See `state.apply.StagedChange`."""

    def __init__(self, device: Device, plan: Plan) -> None:
        self._device = device
        self._plan = plan
        self._before = device.state  # lives until the end: freeing it takes a while
        self._editor = StateEditor(self._before)
        self._transaction = device.pump.begin()
        self._inserts: list[tuple[Prefix, bytes]] = []
        self._removed: list[bytes] = []
        self._takes_away = False  # a peer, or something of the whole device
        self._added: dict[bytes, tuple[Path, PeerState]] = {}
        self._at_commit: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []
        self._undo: list[Callable[[], None]] = []

    # --- staging

    def stage(self, action: Action) -> None:
        if action.key is not None:
            self._stage_peer(action.key, action.before, action.after)
        else:
            self._takes_away = True
            values = {change.field: change.after for change in action.fields}
            if "private_key" in values:
                self._stage_private_key(values["private_key"])
            elif action.kind is ActionKind.SETTINGS:
                self._stage_settings(values)
        self._editor.apply(action)

    def _stage_private_key(self, key: object) -> None:
        device = self._device
        secret = key if isinstance(key, Secret) else None
        self._transaction.set_public_key(device.public_key_of(secret))
        raw = secret.reveal() if secret is not None else None

        def set_key() -> None:
            device.node.set_private_key(raw, device.loop.now())

        self._at_commit.append(set_key)

    def _stage_sockets(self, after: DeviceState) -> None:
        """New sockets are bound before the old ones close; none if the port stays."""
        device, before = self._device, self._before
        port = after.listen_port
        if port != before.listen_port:
            self._at_commit.append(lambda: setattr(device, "last_port", 0))
        if device.transport is None or (
            port == before.listen_port
            and after.fwmark == before.fwmark
            and after.settings is before.settings
        ):
            return
        moved = listen_addresses(after) != listen_addresses(before)
        if port not in (before.listen_port, device.listen_port) or (moved and not port):
            new = device.open_transport(port, after.fwmark, listen_addresses(after))
            self._undo.append(new.close)
            put_sockets(self._transaction, new)
            self._at_commit.append(lambda: self._adopt(new))
        elif moved:
            raise NeedsRestart("the listen address cannot change on the same port")
        elif after.fwmark != before.fwmark:
            self._stage_fwmark(device.transport, before.fwmark, after.fwmark)

    def _adopt(self, new: UdpTransport) -> None:
        old, self._device.transport = self._device.transport, new
        if old is not None:
            self._after.append(old.close)
        self._clear_sources()

    def _stage_fwmark(self, transport: UdpTransport, old: int, new: int) -> None:
        """A socket option: set at once, so that a refusal refuses the plan."""
        self._undo.append(lambda: transport.set_fwmark(old))
        transport.set_fwmark(new)
        self._at_commit.append(self._clear_sources)

    def _clear_sources(self) -> None:
        for peer in self._device.node.peers.values():  # R72
            peer.path.clear_source()

    def _stage_network(self, after: DeviceState) -> None:
        """Addresses, routes and so on: commands that know their way back."""
        device, before = self._device, self._before
        same = before.interface is after.interface
        same = same or before.interface == after.interface
        if same and before.fwmark == after.fwmark:
            return
        if device.network is not None:
            self._undo.append(device.network.change(before, after))
        mtu = after.interface.mtu
        if mtu != before.interface.mtu and after.interface.kind == "loopback":
            self._transaction.set_mtu(mtu)
            self._at_commit.append(lambda: setattr(device, "mtu", mtu))

    def _stage_settings(self, values: dict[str, object]) -> None:
        handler = self._device.on_settings
        if handler is not None:
            self._after.append(lambda: handler(values))

    def _stage_limits(self, after: DeviceState) -> None:
        """Access, rates, numbers and isolation: nothing that ends a session."""
        before, node = self._before, self._device.node
        if (
            after.settings is before.settings
            and after.interface.addresses == before.interface.addresses
        ):
            return
        limits, own = limits_of(after), isolation_of(after)
        if limits != limits_of(before):
            self._transaction.set_rekey_limits(
                limits.rekey_after_time, limits.rekey_after_messages
            )
            self._at_commit.append(lambda: node.set_limits(limits))
        if own != isolation_of(before):
            self._transaction.set_isolation(own)

    # --- staging peers

    def _stage_peer(
        self, key: bytes, before: PeerState | None, after: PeerState | None
    ) -> None:
        """A disabled peer is only written down: on the wire it does not exist."""
        before = before if before is not None and before.enabled else None
        after = after if after is not None and after.enabled else None
        had = before.allowed_ips if before is not None else ()
        has = after.allowed_ips if after is not None else ()
        if had != has:
            known, keep = frozenset(had), frozenset(has)
            for address, cidr in known - keep:
                self._transaction.remove_prefix(address, cidr)
            self._inserts += [(prefix, key) for prefix in has if prefix not in known]
        if before is None and after is not None:
            self._add(key, after)
        elif before is not None and after is None:
            self._removed.append(key)
            self._takes_away = True
        elif before is not None and after is not None:
            self._update(key, before, after)

    def _add(self, key: bytes, state: PeerState) -> None:
        path = self._device.pump.add_peer(None, _only_host(state))
        self._added[key] = path, state
        if state.endpoint is not None:
            path.set_endpoint(state.endpoint)
        if state.keepalive:
            self._after.append(lambda: self._set_keepalive(key, state.keepalive))

    def _update(self, key: bytes, before: PeerState, after: PeerState) -> None:
        peer = self._device.node.peers[key]
        if before.name != after.name:
            self._at_commit.append(lambda: setattr(peer, "name", after.name))
        if before.preshared_key != after.preshared_key:
            psk = after.preshared_key
            raw = psk.reveal() if psk is not None else None
            self._at_commit.append(lambda: peer.set_preshared_key(raw))
        if before.endpoint != after.endpoint and after.endpoint is not None:
            path = path_of(peer)
            self._at_commit.append(lambda: path.set_endpoint(after.endpoint))
        if before.keepalive != after.keepalive:
            self._after.append(lambda: self._set_keepalive(key, after.keepalive))

    def _set_keepalive(self, key: bytes, seconds: int) -> None:
        """Switched on while up, one is sent at once (R36)."""
        device = self._device
        peer = device.node.peers.get(key)
        if peer is not None:
            peer.set_keepalive(seconds, device.loop.now(), device.up)

    # --- the instant

    def commit(self) -> None:
        after = self._editor.result()
        self._stage_network(after)
        self._stage_sockets(after)
        self._stage_limits(after)
        for (address, cidr), key in self._inserts:
            self._transaction.insert_prefix(address, cidr, self._path(key))
        try:
            self._publish(after)
        except Exception as error:
            log.exception("a change broke off in the middle")
            failure = DeviceError("a change broke off in the middle")
            failure.__cause__ = error
            self._device.loop.fail(failure)
            raise failure from error

    def _path(self, key: bytes) -> Path:
        added = self._added.get(key)
        return added[0] if added else path_of(self._device.node.peers[key])

    def _publish(self, after: DeviceState) -> None:
        """Removed peers first forget their keys; new ones are known to the protocol
        under the new private key (R69)."""
        device, node, now = self._device, self._device.node, self._device.loop.now()
        for key in self._removed:
            path = path_of(node.peers[key])
            node.remove_peer(key, now)
            self._transaction.remove_peer(path)
            path.token = None  # or else both would wait for the garbage collector
        self._transaction.commit()
        for step in self._at_commit:
            step()
        for key, (path, state) in self._added.items():
            psk = state.preshared_key
            peer = node.add_peer(
                key, path, preshared_key=psk.reveal() if psk is not None else None
            )
            if peer is None:
                raise DeviceError("our own key was planned as a peer")
            peer.name = state.name
            path.token = peer
        self._note_owners()
        device.committed(after)
        self._undo.clear()

    def _note_owners(self) -> None:
        owners = self._device.owners
        for action in self._plan.actions:
            before = action.before
            if before is not None and before.enabled:
                for prefix in before.allowed_ips:
                    if owners.get(prefix) == action.key:
                        del owners[prefix]
        for action in self._plan.actions:
            after = action.after
            if after is not None and after.enabled and action.key is not None:
                for prefix in after.allowed_ips:
                    owners[prefix] = action.key

    def finish(self) -> None:
        """What may follow. When something was taken away, no batch that is under way
        may still use it; one that only began with the routes before may end so."""
        if self._takes_away:
            self._device.pump.settle()
        for step in self._after:
            step()
        self._let_go()
        self._device.flush()
        if log.isEnabledFor(logging.DEBUG):
            for action in self._plan.actions:
                who = short_key(action.key) if action.key is not None else ""
                effect = action.session.value
                log.debug("%s %s: session %s", action.kind.value, who, effect)

    def _let_go(self) -> None:
        """The steps refer to this change: left there, it and the whole state before
        would wait for the garbage collector."""
        for steps in (self._at_commit, self._after, self._undo):
            steps.clear()

    def abort(self) -> None:
        self._transaction.abort()
        if self._added:
            with self._device.pump.begin() as transaction:
                for path, _ in self._added.values():
                    transaction.remove_peer(path)
        for undo in reversed(self._undo):
            with contextlib.suppress(Exception):
                undo()
        self._let_go()
