"""Keeps the kernel's large packets to what fits one train of datagrams.

A TSO packet of 64 KiB becomes 47 segments; 45 sealed ones fit the largest UDP datagram,
and the other two would cost a whole send, receive and write of their own.
"""

from __future__ import annotations

from typing import Final

__all__ = ["train_limit"]

_UDP_MAX: Final = 65_507
_TRAIN_MAX: Final = 64
_OVERHEAD: Final = 32  # data header and tag
_HEADERS: Final = 52  # IPv4 and TCP with timestamps
_SLACK: Final = 640  # what TCP leaves free, and its headers


def train_limit(mtu: int) -> int:
    """Bytes of the largest packet whose segments make one train at this MTU; 0 when
    there is nothing to gain."""
    if mtu <= _HEADERS or mtu > _UDP_MAX // 2:
        return 0
    segments = min(_TRAIN_MAX, _UDP_MAX // (mtu + _OVERHEAD))
    return min(65_535, segments * (mtu - _HEADERS) + _SLACK)
