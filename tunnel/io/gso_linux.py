"""Keeps the kernel's large packets to what fits one train of datagrams.

A TSO packet of 64 KiB becomes 47 segments; 45 sealed ones fit the largest UDP datagram,
and the other two would cost a whole send, receive and write of their own.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

__all__ = ["limit_gso", "train_limit"]

_UDP_MAX: Final = 65_507
_TRAIN_MAX: Final = 64
_OVERHEAD: Final = 32  # data header and tag
_HEADERS: Final = 52  # IPv4 and TCP with timestamps
_SLACK: Final = 640  # what TCP leaves free, and its headers

# linux/rtnetlink.h, linux/if_link.h
_RTM_SETLINK: Final = 19
_NLM_F_REQUEST_ACK: Final = 5
_IFLA_GSO_MAX_SIZE: Final = 41
_MESSAGE: Final = struct.Struct("=IHHII BxHiII HHI")


def train_limit(mtu: int) -> int:
    """Bytes of the largest packet whose segments make one train at this MTU; 0 when
    there is nothing to gain."""
    if mtu <= _HEADERS or mtu > _UDP_MAX // 2:
        return 0
    segments = min(_TRAIN_MAX, _UDP_MAX // (mtu + _OVERHEAD))
    return min(65_535, segments * (mtu - _HEADERS) + _SLACK)


def limit_gso(ifindex: int, size: int) -> bool:
    """Sets the interface's gso_max_size; False when the system does not let us."""
    message = _MESSAGE.pack(
        *(_MESSAGE.size, _RTM_SETLINK, _NLM_F_REQUEST_ACK, 1, 0),
        *(socket.AF_UNSPEC, 0, ifindex, 0, 0),
        *(8, _IFLA_GSO_MAX_SIZE, size),
    )
    try:
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0
        ) as link:
            link.settimeout(1)
            link.send(message)
            (code,) = struct.unpack_from("=i", link.recv(4096), 16)
    except OSError:
        return False
    return bool(code == 0)
