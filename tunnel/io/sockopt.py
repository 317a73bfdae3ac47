"""Linux socket options and control messages of the UDP sockets, by number and layout.

Python names only some of the options; the rest is from linux/in.h, in6.h and udp.h.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tunnel.errors import NotPermitted
from tunnel.io.base import Source

__all__ = [
    "ControlMessage",
    "UdpOffloads",
    "control_messages",
    "equal_trains_work",
    "is_link_local",
    "prepare",
    "probe_offloads",
    "set_buffers",
    "set_mark",
]

ControlMessage = tuple[int, int, bytes]  # level, type, data

_IP_TOS: Final = 1
_IP_PKTINFO: Final = 8
_IP_MTU_DISCOVER: Final = 10
_IP_RECVTOS: Final = 13
_IPV6_MTU_DISCOVER: Final = 23
_IPV6_V6ONLY: Final = 26
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_IPV6_RECVTCLASS: Final = 66
_IPV6_TCLASS: Final = 67
_PMTUDISC_DONT: Final = 0
_SO_MARK: Final = 36
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104


def prepare(sock: socket.socket) -> None:
    """What every socket needs: arrival address and TOS with each datagram, no DF.

    Outer datagrams may be fragmented on the way (R61): path MTU discovery inside the
    tunnel must not depend on ICMP errors that anybody can forge.
    """
    if sock.family == socket.AF_INET6:
        level = socket.IPPROTO_IPV6
        options: tuple[tuple[int, int], ...] = (
            (_IPV6_V6ONLY, 1),
            (_IPV6_RECVPKTINFO, 1),
            (_IPV6_RECVTCLASS, 1),
            (_IPV6_MTU_DISCOVER, _PMTUDISC_DONT),
        )
    else:
        level = socket.IPPROTO_IP
        options = (
            (_IP_PKTINFO, 1),
            (_IP_RECVTOS, 1),
            (_IP_MTU_DISCOVER, _PMTUDISC_DONT),
        )
    for option, value in options:
        sock.setsockopt(level, option, value)
    if os.environ.get("TUNNEL_OFFLOADS") != "0" and probe_offloads().coalescing:
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)


def set_buffers(sock: socket.socket, receive: int, send: int) -> None:
    """Raises the buffers to so many bytes; never lowers what the system gives.

    Without CAP_NET_ADMIN the result is limited by net.core.rmem_max and wmem_max.
    """
    for plain, forced, size in (
        (socket.SO_RCVBUF, _SO_RCVBUFFORCE, receive),
        (socket.SO_SNDBUF, _SO_SNDBUFFORCE, send),
    ):
        # the kernel doubles what it is told, for its own bookkeeping
        if sock.getsockopt(socket.SOL_SOCKET, plain) >= 2 * size:
            continue
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except OSError:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, plain, size)


def set_mark(sock: socket.socket, mark: int) -> None:
    """SO_MARK; NotPermitted without CAP_NET_ADMIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, struct.pack("=I", mark))
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES):
            raise
        raise NotPermitted(
            f"cannot set fwmark {mark:#x}: {error.strerror}",
            hint="run as root, or with CAP_NET_ADMIN, or leave fwmark out",
        ) from error


def control_messages(
    family: int, source: Source | None, tos: int
) -> list[ControlMessage]:
    """Control messages that send from `source` with this TOS byte.

    A source of the other family is left out: it belongs to a previous endpoint. Else
    only its address counts, and the route chooses the interface (R62); but a link-local
    one means nothing without its own.
    """
    found: list[ControlMessage] = []
    if family == socket.AF_INET6:
        if source is not None and len(source[0]) == 16:
            ifindex = source[1] if is_link_local(source[0]) else 0
            info = struct.pack("=16sI", source[0], ifindex)
            found.append((socket.IPPROTO_IPV6, _IPV6_PKTINFO, info))
        if tos:
            found.append((socket.IPPROTO_IPV6, _IPV6_TCLASS, struct.pack("=i", tos)))
    else:
        if source is not None and len(source[0]) == 4:
            # the source is ipi_spec_dst; ipi_addr means something on receive only
            info = struct.pack("=i4s4x", 0, source[0])
            found.append((socket.IPPROTO_IP, _IP_PKTINFO, info))
        if tos:
            found.append((socket.IPPROTO_IP, _IP_TOS, struct.pack("=i", tos)))
    return found


def is_link_local(address: bytes) -> bool:
    """Whether it is of fe80::/10."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def equal_trains_work(release: str) -> bool:
    """Whether the kernel of this release (`uname -r`) sends trains of equal datagrams
    as they are: Linux 7.0-rc1 to 7.1-rc4 damage those whose last datagram is as long as
    the others (U9). A later 7.0 may have been mended: then it only gains less."""
    found = re.match(r"(\d+)\.(\d+)(?:\.\d+)*(?:-rc(\d+))?", release)
    if found is None:
        return True
    major, minor, candidate = (int(part or 0) for part in found.groups())
    if (major, minor) == (7, 1):
        return not 1 <= candidate <= 4
    return (major, minor) != (7, 0)


@dataclass(frozen=True, slots=True)
class UdpOffloads:
    """What the kernel can do for trains of datagrams (U3)."""

    segmentation: bool  # UDP_SEGMENT: one send, many datagrams
    coalescing: bool  # UDP_GRO, and it reads back (Linux 5.12)


def probe_offloads() -> UdpOffloads:
    """Tries both on a socket of its own; nothing is switched on."""
    if sys.platform != "linux":
        return UdpOffloads(False, False)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        segmentation = coalescing = False
        with suppress(OSError):
            sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
            segmentation = True
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
            coalescing = sock.getsockopt(socket.IPPROTO_UDP, _UDP_GRO) == 1
    return UdpOffloads(segmentation, coalescing)
