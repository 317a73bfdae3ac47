"""One end of the churn: a whole device on the loop that both share."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Sequence
from dataclasses import replace

from tunnel._fastpath.pump import Pump
from tunnel.device import Device
from tunnel.io.memory import memory_tun
from tunnel.io.udp import UdpSockets
from tunnel.loop import ControlLoop
from tunnel.protocol.node import Node
from tunnel.protocol.types import Timing
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret, clamp
from tunnel.state.plan import diff

__all__ = ["End", "packet"]

LOCALHOST = bytes([127, 0, 0, 1])
PATIENCE_S = 1.0  # for the worker to come round


def inner(number: int) -> bytes:
    return bytes([10, 0, 0, number])


def packet(source: int, target: int) -> bytes:
    """IPv4 without anything in it."""
    head = bytes([0x45, 0, 0, 20, 0, 0, 0, 0, 64, 253, 0, 0])
    return head + inner(source) + inner(target)


def _open_sockets(port: int, fwmark: int, addresses: Sequence[bytes]) -> UdpSockets:
    return UdpSockets.bind(port, fwmark=fwmark, addresses=addresses)


class End:
    """One device on the shared loop, with one peer or none."""

    def __init__(self, number: int, loop: ControlLoop, rng: random.Random) -> None:
        self.number = number
        self.tun, self.packets = memory_tun(f"memory{number}")
        interface = InterfaceState(kind="loopback", name=f"memory{number}")
        self.device = Device(
            loop=loop,
            pump=Pump(self.tun.fileno()),
            node=Node(Timing(), random.Random(rng.getrandbits(64)), os.urandom),
            open_transport=_open_sockets,
            interface=interface,
        )
        self.device.start()
        self.device.set_up(True)
        secret = Secret(clamp(rng.randbytes(32)))
        self.become(replace(self.device.observe(), private_key=secret))
        assert self.device.node.public_key is not None
        self.public_key: bytes = self.device.node.public_key

    def become(self, desired: DeviceState) -> None:
        device = self.device
        device.apply(diff(device.observe(), desired, generation=device.generation))

    def add(self, other: End) -> None:
        peer = PeerState(
            other.public_key,
            endpoint=(LOCALHOST, other.device.listen_port, 0),
            allowed_ips=((inner(other.number), 32),),
        )
        self.become(replace(self.device.observe(), peers={peer.public_key: peer}))

    def remove(self) -> None:
        self.become(replace(self.device.observe(), peers={}))

    def stage(self, other: End) -> str:
        """Where its handshake with the other is."""
        peer = self.device.node.peers[other.public_key]
        if peer.handshake.index is not None:
            return "initiated"
        if peer.slots.next is not None:
            return "responded"
        return "established" if peer.slots.current is not None else "idle"

    def empty(self) -> None:
        """Takes the packets that came through."""
        with contextlib.suppress(TimeoutError):
            while True:
                self.packets.recv(timeout=0)

    def leftovers(self) -> dict[str, int]:
        """What must be nothing without a peer."""
        device = self.device
        deadline = time.monotonic() + PATIENCE_S
        while device.pump.retired and time.monotonic() < deadline:
            device.pump.settle()
            device.pump.drain()
        return {
            "indices": device.node.indices,
            "deadlines": int(device.node.next_deadline() is not None),
            "retired": device.pump.retired,
            "snapshots": device.pump.retired_snapshots,
            "owners": len(device.owners),
            "peers": len(device.node.peers),
        }

    def close(self) -> None:
        self.device.close()
        self.packets.close()
        self.tun.close()
