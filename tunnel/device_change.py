"""One plan on its way into the device: staged unseen, published at one instant.

Staging may fail at any point and is taken back without a trace: the routing table's
transaction is aborted, new peers and sockets go, interface commands are undone. What
comes after the transaction's commit does not fail; if it does all the same, the
tunnel ends rather than run on half changed.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
from typing import TYPE_CHECKING, Final

from tunnel.errors import ApplyError, DeviceError, NeedsRestart
from tunnel.io.base import UdpTransport
from tunnel.limits import isolation_of, limits_of
from tunnel.peer_change import PeerChanges, Steps
from tunnel.state.model import DeviceState, Secret, short_key
from tunnel.state.plan import Action, ActionKind, Plan
from tunnel.state.targets import StateEditor

if TYPE_CHECKING:
    from tunnel._fastpath.pump import Transaction
    from tunnel.device import Device

__all__ = ["DeviceChange", "listen_addresses", "put_sockets"]

log = logging.getLogger("tunnel.device")

_SPARE: Final = 4 << 20  # bytes; Python asks the system for 1 MiB at once


def listen_addresses(state: DeviceState) -> tuple[bytes, ...]:
    """The local addresses to bind to; empty for all of them."""
    address = dict(state.settings).get("listen.address")
    return (address,) if isinstance(address, bytes) and address else ()


def put_sockets(transaction: Transaction, transport: UdpTransport) -> None:
    """These are the sockets of the packet path from the commit on."""
    transaction.set_sockets(
        transport.fileno4,
        transport.fileno6,
        connected=transport.connected,
        more=transport.more,
    )


def _spare_memory() -> mmap.mmap:
    """What the rest of a change may ask for after its commit, as long as it is open:
    without it a change is refused, rather than broken off in the middle."""
    try:
        return mmap.mmap(-1, _SPARE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError("no memory for this change") from error


class DeviceChange:
    """See `state.apply.StagedChange`."""

    def __init__(self, device: Device, plan: Plan) -> None:
        self._device = device
        self._plan = plan
        self._before = device.state  # lives until the end: freeing it takes a while
        self._editor = StateEditor(self._before)
        self._takes_away = False  # something of the whole device
        self._steps = Steps()
        self._transaction = device.pump.begin()
        try:
            self._peers = PeerChanges(device, self._transaction, self._steps)
        except BaseException:
            self._transaction.abort()
            raise

    # --- staging

    def stage(self, action: Action) -> None:
        if action.key is not None:
            self._peers.stage(action.key, action.before, action.after)
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

        self._steps.at_commit.append(set_key)

    def _stage_sockets(self, after: DeviceState) -> None:
        """New sockets are bound before the old ones close; none if the port stays."""
        device, before = self._device, self._before
        port, last = after.listen_port, device.port_of_zero
        self._steps.at_commit.append(lambda: setattr(device, "last_port", last))
        if device.transport is None or (
            port == before.listen_port
            and after.fwmark == before.fwmark
            and after.settings is before.settings
        ):
            return
        moved = listen_addresses(after) != listen_addresses(before)
        stays = port == before.listen_port or (port or last) == device.listen_port
        if not stays or (moved and not port):
            new = device.open_sockets(after)
            self._steps.undo.append(new.close)
            put_sockets(self._transaction, new)
            self._steps.at_commit.append(lambda: self._adopt(new))
        elif moved:
            raise NeedsRestart("the listen address cannot change on the same port")
        elif after.fwmark != before.fwmark:
            self._stage_fwmark(device.transport, before.fwmark, after.fwmark)

    def _adopt(self, new: UdpTransport) -> None:
        old, self._device.transport = self._device.transport, new
        if old is not None:
            self._steps.after.append(old.close)
        self._clear_sources()

    def _stage_fwmark(self, transport: UdpTransport, old: int, new: int) -> None:
        """A socket option: set at once, so that a refusal refuses the plan."""
        self._steps.undo.append(lambda: transport.set_fwmark(old))
        transport.set_fwmark(new)
        self._steps.at_commit.append(self._clear_sources)

    def _clear_sources(self) -> None:
        for peer in self._device.node.peers.values():  # R72
            peer.path.forget_source()

    def _stage_network(self, after: DeviceState) -> None:
        """Addresses, routes and so on: commands that know their way back."""
        device, before = self._device, self._before
        same = before.interface is after.interface
        same = same or before.interface == after.interface
        if same and before.fwmark == after.fwmark:
            return
        if device.network is not None:
            self._steps.undo.append(device.network.change(before, after))
        mtu = after.interface.mtu
        if mtu != before.interface.mtu and after.interface.kind == "loopback":
            self._transaction.set_mtu(mtu)
            self._steps.at_commit.append(lambda: setattr(device, "mtu", mtu))

    def _stage_settings(self, values: dict[str, object]) -> None:
        handler = self._device.on_settings
        if handler is not None:
            self._steps.after.append(lambda: handler(values))

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
            self._steps.at_commit.append(lambda: node.set_limits(limits))
        if own != isolation_of(before):
            self._transaction.set_isolation(own)

    # --- the instant

    def commit(self) -> None:
        after = self._editor.result()
        if self._device.public_key_of(after.private_key) in after.peers:
            raise ApplyError("the key of this tunnel itself cannot be a peer")
        self._stage_sockets(after)
        self._stage_limits(after)
        self._peers.insert_prefixes()
        self._peers.make_room()
        with _spare_memory():
            # last: no refusal of the others touches the system
            self._stage_network(after)
        try:
            self._publish(after)
        except Exception as error:
            log.exception("a change broke off in the middle")
            failure = DeviceError("a change broke off in the middle")
            failure.__cause__ = error
            self._device.loop.fail(failure)
            raise failure from error

    def _publish(self, after: DeviceState) -> None:
        """The packet path first, which carries packets by the state before until it
        has the one after. Then removed peers leave the protocol, before the private key
        changes: it knows only those that stay then (R69)."""
        self._transaction.commit()
        self._peers.forget_removed()
        for step in self._steps.at_commit:
            step()
        self._peers.note_owners(self._plan.actions)
        self._device.committed(after)
        self._steps.undo.clear()

    def finish(self) -> None:
        """What may follow. When something was taken away, no batch that is under way
        may still use it; one that only began with the routes before may end so."""
        if self._takes_away or self._peers.removes:
            self._device.pump.settle()
        for step in self._steps.after:
            step()
        self._steps.let_go()
        self._device.driver.flush()
        if log.isEnabledFor(logging.DEBUG):
            for action in self._plan.actions:
                who = short_key(action.key) if action.key is not None else ""
                effect = action.session.value
                log.debug("%s %s: session %s", action.kind.value, who, effect)

    def abort(self) -> None:
        self._transaction.abort()
        self._peers.abort()
        for undo in reversed(self._steps.undo):
            with contextlib.suppress(Exception):
                undo()
        self._steps.let_go()
