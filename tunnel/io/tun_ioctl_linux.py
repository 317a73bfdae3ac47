"""What TUN descriptors and network interfaces are asked by ioctl."""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from typing import Final

from tunnel.errors import DeviceError

# linux/if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNSETPERSIST: Final = 0x400454CB
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNGETIFF: Final = 0x800454D2
_TUNGETVNETHDRSZ: Final = 0x800454D7
_TUNSETVNETHDRSZ: Final = 0x400454D8
TUNGETDEVNETNS: Final = 0x54E3
IFF_TUN: Final = 0x0001
IFF_MULTI_QUEUE: Final = 0x0100
IFF_PERSIST: Final = 0x0800
IFF_NO_PI: Final = 0x1000
IFF_TUN_EXCL: Final = 0x8000
IFF_VNET_HDR: Final = 0x4000

# What the reader promises to understand: TUN_F_CSUM | TSO4 | TSO6, and USO4 | USO6,
# which exist since Linux 6.2 and only together.
OFFLOADS_TCP: Final = 0x01 | 0x02 | 0x04
OFFLOADS_UDP: Final = 0x20 | 0x40

# linux/sockios.h, linux/if.h
SIOCGIFFLAGS: Final = 0x8913
SIOCSIFFLAGS: Final = 0x8914
SIOCGIFMTU: Final = 0x8921
SIOCSIFMTU: Final = 0x8922
SIOCGIFINDEX: Final = 0x8933
IFF_UP: Final = 0x1
IFREQ: Final = struct.Struct("16s i 20x")
IFREQ_FLAGS: Final = struct.Struct("16s H 22x")

_VNET_HEADER_SIZE: Final = 10


def identity(fd: int) -> tuple[str, int]:
    """Name and IFF_ flags of what the descriptor is attached to; OSError if nothing."""
    name, flags = IFREQ_FLAGS.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(40)))
    return name.rstrip(b"\0").decode(), flags


def check_header_size(fd: int) -> None:
    """The virtio header has the size that the packet path knows."""
    size = struct.pack("i", _VNET_HEADER_SIZE)
    if fcntl.ioctl(fd, _TUNGETVNETHDRSZ, bytes(4)) != size:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, size)


def set_offloads(fd: int, wanted: int) -> int:
    """Asks for these TUN_F_ bits and returns those that the kernel took.

    UDP segmentation is given up first, then everything (S1).
    """
    for flags in dict.fromkeys((wanted, wanted & ~OFFLOADS_UDP, 0)):
        try:
            fcntl.ioctl(fd, _TUNSETOFFLOAD, flags)
        except OSError as error:
            if error.errno != errno.EINVAL or not flags:
                raise DeviceError(
                    f"cannot set the TUN offloads: {error.strerror}"
                ) from error
        else:
            return flags
    raise AssertionError("0 is always tried")


def interface_ioctl(request: int, name: str, value: int) -> bytes:
    """One ifreq to the kernel and back; any socket will do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, IFREQ.pack(name.encode(), value))
