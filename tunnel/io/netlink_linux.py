"""rtnetlink messages: what LinkMonitor and the route tables have in common."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Final

__all__ = [
    "NLMSG_ERROR",
    "NLM_F_REQUEST",
    "RECEIVE_MAX",
    "RTMGRP_LINK",
    "RTM_DELLINK",
    "RTM_NEWLINK",
    "attribute",
    "attributes",
    "messages",
    "open_rtnetlink",
    "received",
    "request",
]

# linux/netlink.h
NLM_F_REQUEST: Final = 1
NLMSG_ERROR: Final = 2

# linux/rtnetlink.h
RTMGRP_LINK: Final = 1
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17

RECEIVE_MAX: Final = 65_536
_BUFFER_BYTES: Final = 256 * 1024

_HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE: Final = struct.Struct("=HH")  # length, type


def open_rtnetlink(groups: int = 0) -> socket.socket:
    """Of the caller's network namespace, non-blocking; hears these RTMGRP_ groups."""
    made = socket.socket(
        socket.AF_NETLINK,
        socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
        0,  # NETLINK_ROUTE
    )
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        made.bind((0, groups))
    except BaseException:
        made.close()
        raise
    return made


def received(s: socket.socket) -> Iterator[bytes | None]:
    """What waits; never blocks. None: something was lost (ENOBUFS)."""
    while True:
        try:
            data = s.recv(RECEIVE_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield None
        else:
            yield data


def request(kind: int, sequence: int, body: bytes) -> bytes:
    """One message; several may follow each other in one send."""
    length = _HEADER.size + len(body)
    header = _HEADER.pack(length, kind, NLM_F_REQUEST, sequence, 0)
    return header + body + bytes(_aligned(length) - length)


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr with its padding."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind) + value + bytes(_aligned(length) - length)


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, sequence and body of each message; what is cut off is left out."""
    while len(data) >= _HEADER.size:
        length, kind, _, sequence, _ = _HEADER.unpack_from(data)
        if not _HEADER.size <= length <= len(data):
            return
        yield kind, sequence, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and value of each rtattr."""
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= length <= len(data):
            return
        yield kind, data[_ATTRIBUTE.size : length]
        data = data[_aligned(length) :]


def _aligned(length: int) -> int:
    return (length + 3) & ~3
