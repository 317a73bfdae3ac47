"""What the rest of the package expects of a TUN device and of the UDP sockets.

The comments are the contract. Both own their descriptors. The packet pump duplicates
what it is given, so closing here while the pump runs ends nothing by itself: stop the
pump (or give it other descriptors) as well. Nothing here is called per packet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol

__all__ = [
    "Endpoint",
    "SendResult",
    "Source",
    "TunDevice",
    "UdpTransport",
]

Endpoint = tuple[bytes, int, int]  # packed address, port, IPv6 scope id
Source = tuple[bytes, int]  # packed local address, interface index (0: any)


class SendResult(Enum):
    """What became of one datagram."""

    SENT = "sent"
    # Sent, but the system refused the sticky source (R62, U13): it is to be forgotten.
    SENT_WITHOUT_SOURCE = "sent without source"
    # Refused for now (no route, firewall); the timers send another.
    DROPPED = "dropped"
    # The buffer is full: some milliseconds later there may be room.
    NO_ROOM = "without room"
    # There is no socket of that address family, or it is closed.
    NO_SOCKET = "no socket"


class TunDevice(Protocol):
    """A packet interface. One packet per read or write, never blocking.

    A closed device answers every call but `close` with DeviceError.
    """

    # Every packet in either direction has 10 bytes of virtio_net_hdr in front.
    vnet_header: bool
    # Descriptors of further queues: of as many as were asked for, or none. Packets to
    # one address come in on one queue; writing to any of them is the same.
    more_queues: tuple[int, ...]

    def fileno(self) -> int:
        """The descriptor; it stays the device's own."""

    @property
    def name(self) -> str:
        """The current name (others may rename an interface)."""

    @property
    def mtu(self) -> int: ...

    def set_mtu(self, mtu: int) -> None: ...

    def enable_offloads(self) -> tuple[bool, bool]:
        """Asks for large packets (TSO, USO) in both directions, with checksums left
        to us; returns what was agreed, for TCP and for UDP."""

    @property
    def alive(self) -> bool:
        """False once it is closed or somebody has deleted the interface."""

    def close(self) -> None:
        """Gives the descriptor up; idempotent. A device that is not persistent
        disappears with the last descriptor, the pump's duplicate included."""


class UdpTransport(Protocol):
    """The sockets that carry the outer datagrams; handed to the pump as descriptors."""

    # Not None: `fileno4` is one end of a socketpair and the other end is this peer.
    connected: Endpoint | None

    @property
    def fileno4(self) -> int:
        """Descriptor for IPv4, -1 if there is none. Never blocks."""

    @property
    def fileno6(self) -> int:
        """Descriptor for IPv6, -1 if there is none. Never blocks."""

    @property
    def more(self) -> Sequence[tuple[int, int]]:
        """IPv4 and IPv6 descriptors of further workers on the same port; each gets the
        data messages whose receiver index names its worker."""

    @property
    def port(self) -> int:
        """The local port, the same for both families."""

    @property
    def errors(self) -> Mapping[str, int]:
        """How often a send failed, by the name of its errno."""

    def send(
        self,
        data: bytes,
        endpoint: Endpoint,
        source: Source | None = None,
        tos: int = 0,
    ) -> SendResult:
        """Sends one handshake message from `source` (None: the system chooses) with
        this outer TOS byte. Raises for nothing that the network or system does."""

    def set_fwmark(self, mark: int) -> None:
        """Marks what is sent from now on; NotPermitted without CAP_NET_ADMIN."""

    def close(self) -> None:
        """Closes the sockets; idempotent."""
