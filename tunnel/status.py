"""What a running tunnel shows of itself: live values, beside its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tunnel.device import Device

__all__ = ["DeviceStatus", "Live", "PeerStatus", "status_of"]

Endpoint = tuple[bytes, int, int]

CONNECTED_FOR = 180 * 1_000_000_000


class Live(NamedTuple):
    """What changes about a peer without anybody configuring it.

    `last_handshake` is Unix time in ns, 0 for never; the bytes are those of the outer
    authenticated packets, handshakes included (R58).
    """

    endpoint: Endpoint | None = None
    last_handshake: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """One peer, as configured and as it is."""

    public_key: bytes
    name: str
    enabled: bool
    endpoint: Endpoint | None
    allowed_ips: tuple[tuple[bytes, int], ...]
    keepalive: int
    last_handshake: int
    rx_bytes: int
    tx_bytes: int
    has_preshared_key: bool

    def connected(self, wall: int) -> bool:
        """Whether its session can still be in use at `wall` (Unix ns)."""
        age = wall - self.last_handshake
        return self.last_handshake > 0 and age < CONNECTED_FOR


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """The whole tunnel at one moment; holds no secret.

    `counters` are those of the packet path (packets, and one `drop.<reason>` each) and
    of the protocol (`initiation.*`, `response.*`, `cookie.*`; refused handshakes are
    `handshake.<reason>`).
    """

    name: str
    up: bool
    public_key: bytes | None
    listen_port: int
    fwmark: int
    mtu: int
    generation: int
    peers: tuple[PeerStatus, ...]
    counters: Mapping[str, int]
    workers: int = 1  # that carry its packets
    waiting: str = ""  # why it is not up though its interface is, such as a taken port

    def peer(self, name_or_key: str | bytes) -> PeerStatus | None:
        """The peer with this name or public key."""
        for peer in self.peers:
            if name_or_key in (peer.name, peer.public_key):
                return peer
        return None


def status_of(device: Device) -> DeviceStatus:
    """In the control thread."""
    state = device.state
    return DeviceStatus(
        name=state.interface.name,
        up=device.up,
        public_key=device.node.public_key,
        listen_port=device.listen_port,
        fwmark=state.fwmark,
        mtu=device.mtu,
        generation=device.generation,
        peers=tuple(_peer_status(device, key) for key in state.peers),
        counters={**device.pump.counters(), **device.node.counters},
        workers=device.pump.workers,
        waiting=device.waiting,
    )


def _peer_status(device: Device, key: bytes) -> PeerStatus:
    peer, live = device.state.peers[key], device.live(key)
    return PeerStatus(
        public_key=key,
        name=peer.name,
        enabled=peer.enabled,
        endpoint=live.endpoint,
        allowed_ips=peer.allowed_ips,
        keepalive=peer.keepalive,
        last_handshake=live.last_handshake,
        rx_bytes=live.rx_bytes,
        tx_bytes=live.tx_bytes,
        has_preshared_key=peer.preshared_key is not None,
    )
