"""Splitting and merging large packets, for tests (see gso.h, gro.h)."""

from collections.abc import Sequence

def complete(vnet: bytes, packet: bytes) -> bytes | None:
    """`packet` with the checksum that its 10 byte virtio header leaves to us; None when
    the header contradicts the packet."""

def split(vnet: bytes, packet: bytes) -> list[bytes] | None:
    """The segments of a TSO or USO packet; None when the header contradicts it."""

def merge(
    packets: Sequence[bytes], *, tcp: bool = True, udp: bool = True
) -> list[bytes]:
    """What goes to the TUN for these packets: each with its virtio header in front."""
