"""The device: wires packet path, protocol, sockets and interface together.

Everything here runs in the control thread. The rules are elsewhere: timers and
handshakes in `protocol/`, what a change means in `state/`, how one is carried out in
`device_change.py`, packets in `_fastpath/`; what happens meanwhile is for `driver.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from tunnel._fastpath.pump import Path, Pump
from tunnel.device_change import DeviceChange, listen_addresses, put_sockets
from tunnel.driver import Driver
from tunnel.errors import DeviceError, TunnelError
from tunnel.io.base import SendResult, UdpTransport
from tunnel.loop import ControlLoop
from tunnel.outgoing import Outgoing
from tunnel.protocol.node import Node
from tunnel.protocol.peer import Peer
from tunnel.protocol.types import Datagram
from tunnel.state.apply import apply
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    InterfaceState,
    Prefix,
    Secret,
)
from tunnel.state.plan import Plan
from tunnel.status import DeviceStatus, Live, status_of

__all__ = ["Device", "Network", "OpenTransport"]

log = logging.getLogger("tunnel.device")

OpenTransport = Callable[[int, int, Sequence[bytes]], UdpTransport]
"""Port (0: any), fwmark, local addresses (none: all) -> bound sockets."""

_NOTHING = Live()


class Network(Protocol):
    """Carries out changes of addresses, routes, MTU and DNS of the interface."""

    def change(self, before: DeviceState, after: DeviceState) -> Callable[[], None]:
        """Makes the system's interface as `after` says; returns what takes it back.
        Raises TunnelError having changed nothing."""

    def close(self) -> None:
        """The tunnel ends: takes back what would stay behind."""


class Device:
    """One tunnel. Made stopped, down and unconfigured; plans make it something."""

    def __init__(
        self,
        *,
        loop: ControlLoop,
        pump: Pump,
        node: Node,
        open_transport: OpenTransport,
        interface: InterfaceState,
        network: Network | None = None,
        on_settings: Callable[[dict[str, object]], None] | None = None,
    ) -> None:
        """The device owns the pump and the sockets it opens, not the loop."""
        self.loop = loop
        self.pump = pump
        self.node = node
        self.outgoing = Outgoing(loop, self._send)
        self.driver = Driver(loop, pump, node, self.outgoing.send)
        self.open_transport = open_transport
        self.network = network
        self.on_settings = on_settings
        self.transport: UdpTransport | None = None
        self.state = DeviceState(interface=interface)
        self.owners: dict[Prefix, bytes] = {}
        self.up = False
        self.waiting = ""  # why it is not, though the interface is
        self.mtu = interface.mtu
        self._generation = 0
        self.last_port = 0  # what port 0 meant last
        self._closed = False

    # --- life

    def start(self) -> None:
        """Starts the packet path; the interface is down until `set_up`."""
        self.set_mtu(self.mtu)
        self.pump.start()
        self.driver.start()

    def close(self) -> None:
        """Ends the packet path and closes the sockets; idempotent."""
        if self._closed:
            return
        self._closed = True
        self.driver.close()
        self.outgoing.close()
        self.pump.stop()
        if self.transport is not None:
            self.transport.close()

    def set_up(self, up: bool) -> None:
        """The interface went up or down (R75). Raises when a port cannot be bound."""
        self.waiting = ""
        if up == self.up or self._closed:
            return
        if up:
            try:
                self._bind()
            except TunnelError as error:
                self.waiting = str(error)
                raise
            self.up = True
            self.node.up(self.loop.now())
        else:
            self.node.down(self.loop.now())
            self.driver.flush()
            self.up = False
            self._unbind()
        log.info(
            "interface %s is %s", self.state.interface.name, "up" if up else "down"
        )
        self.driver.flush()

    def _bind(self) -> None:
        self._publish(self.open_sockets(self.state))

    def open_sockets(self, state: DeviceState) -> UdpTransport:
        """On the configured port; with 0 on the one of last time, if it is free."""
        wanted, addresses = state.listen_port or self.last_port, listen_addresses(state)
        try:
            return self.open_transport(wanted, state.fwmark, addresses)
        except DeviceError:
            if wanted == state.listen_port:
                raise
            return self.open_transport(0, state.fwmark, addresses)

    def _unbind(self) -> None:
        if self.transport is not None:
            self.last_port = self.port_of_zero
            self.transport.close()
        self._publish(None)
        self.pump.settle()  # then the port is free, for us too

    def _publish(self, transport: UdpTransport | None) -> None:
        with self.pump.begin() as change:
            if transport is None:
                change.set_sockets(-1, -1)
            else:
                put_sockets(change, transport)
        self.transport = transport

    def _send(self, datagram: Datagram) -> SendResult:
        """One of the protocol's own."""
        if self.transport is None:
            return SendResult.NO_SOCKET
        data, endpoint, source, tos, _ = datagram
        return self.transport.send(data, endpoint, source, tos)

    def set_mtu(self, mtu: int) -> None:
        """The interface's MTU is this now."""
        self.mtu = mtu
        with self.pump.begin() as change:
            change.set_mtu(mtu)

    # --- configuration: the target of plans

    @property
    def generation(self) -> int:
        return self._generation

    def observe(self) -> DeviceState:
        return self.state

    def begin(self, plan: Plan) -> DeviceChange:
        return DeviceChange(self, plan)

    def apply(self, plan: Plan) -> int:
        """All of it or nothing; see `state.apply.apply`."""
        return apply(plan, self)

    def committed(self, state: DeviceState) -> None:
        """For the change: the packet path has taken `state` over."""
        self.state = state
        self._generation += 1

    # --- what is live

    @property
    def listen_port(self) -> int:
        if self.transport is not None:
            return self.transport.port
        return self.state.listen_port or self.last_port

    @property
    def port_of_zero(self) -> int:
        """What a listen port of 0 means, or meant last; 0 when it never was."""
        return self.last_port if self.state.listen_port else self.listen_port

    def owner(self, prefix: Prefix) -> bytes | None:
        return self.owners.get(prefix)

    def public_key_of(self, private_key: Secret | None) -> bytes | None:
        if private_key is None:
            return None
        if private_key == self.state.private_key:
            return self.node.public_key
        from tunnel.protocol.primitives import PrivateKey

        return PrivateKey(private_key.reveal()).public

    def live(self, public_key: bytes) -> Live:
        peer = self.node.peers.get(public_key)
        if peer is None:
            return _NOTHING
        path: Path = peer.path  # type: ignore[assignment]  # ten thousand times
        return Live(
            path.endpoint, peer.last_handshake_wall, path.rx_bytes, path.tx_bytes
        )

    @property
    def live_peers(self) -> dict[bytes, Peer]:
        """For what reads the same of ten thousand at once; not to be changed."""
        return self.node.peers

    def live_endpoint(self, public_key: bytes) -> Endpoint | None:
        peer = self.node.peers.get(public_key)
        if peer is None:
            return None
        path: Path = peer.path  # type: ignore[assignment]  # ten thousand times
        return path.endpoint

    def set_live_endpoint(self, public_key: bytes, endpoint: Endpoint | None) -> None:
        """As if the peer had been heard from there, or never (None)."""
        peer = self.node.peers.get(public_key)
        if peer is not None and endpoint != self.live_endpoint(public_key):
            path: Path = peer.path  # type: ignore[assignment]
            path.set_endpoint(endpoint)

    def status(self) -> DeviceStatus:
        """A copy of everything; cheap enough to poll."""
        return status_of(self)
