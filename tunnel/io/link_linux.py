"""Watches one network interface through rtnetlink: up, down, MTU, deletion."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from typing import Final

from tunnel.errors import DeviceError
from tunnel.io.netlink_linux import (
    NLMSG_ERROR,
    RECEIVE_MAX,
    RTM_DELLINK,
    RTM_NEWLINK,
    RTMGRP_LINK,
    attribute,
    attributes,
    messages,
    open_rtnetlink,
    request,
)

__all__ = ["LinkEvent", "LinkMonitor"]

# linux/rtnetlink.h, linux/if_link.h
_RTM_GETLINK: Final = 18
_RTM_SETLINK: Final = 19
_IFLA_MTU: Final = 4
_IFLA_GSO_MAX_SIZE: Final = 41
_IFLA_NEW_NETNSID: Final = 45
_IFF_UP: Final = 1

_LINK: Final = struct.Struct("=BxHiII")  # family, hardware type, index, flags, change
_ASK, _LIMIT = 1, 2  # sequence numbers


class LinkEvent(Enum):
    """What happened to the interface."""

    UP = "up"
    DOWN = "down"
    MTU = "mtu"  # the new value is `LinkMonitor.mtu`
    DELETED = "deleted"
    # Into another network namespace: its packets still come and go through the
    # descriptor, and nothing more is heard of it here.
    MOVED = "moved"


class LinkMonitor:
    """Compares what the kernel reports about an interface with what was known.

    Made from the interface's index in the caller's network namespace; `is_up`, `mtu`
    and `exists` are right from the start and change in `read_events` only. DeviceError
    when there is no such interface.
    """

    def __init__(self, ifindex: int) -> None:
        self.ifindex = ifindex
        self.is_up = False
        self.mtu = 0
        self.exists = True
        self.unseen = False  # see DistantLink
        self._socket = open_rtnetlink(RTMGRP_LINK)
        try:
            self._ask()
            self.read_events()
            if not self.exists:
                raise DeviceError(f"there is no network interface {ifindex}")
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when `read_events` has something to look at."""
        return self._socket.fileno()

    def read_events(self) -> list[LinkEvent]:
        """Everything since the last call, in order; never blocks."""
        events: list[LinkEvent] = []
        lost = False
        while True:
            try:
                data = self._socket.recv(RECEIVE_MAX)
            except BlockingIOError:
                if not lost:
                    return events
                # compare with what is now; only the empty queue has room for it
                lost = False
                self._ask()
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                lost = True
                continue
            for kind, sequence, body in messages(data):
                if (kind, sequence) != (NLMSG_ERROR, _LIMIT):
                    events += self._notice(kind, body)

    def limit_gso(self, size: int) -> None:
        """Sets gso_max_size, where the system lets us: the largest packet of many
        segments that it hands to the interface."""
        limit = attribute(_IFLA_GSO_MAX_SIZE, struct.pack("=I", size))
        body = _LINK.pack(socket.AF_UNSPEC, 0, self.ifindex, 0, 0) + limit
        with suppress(OSError):
            self._socket.send(request(_RTM_SETLINK, _LIMIT, body))

    def close(self) -> None:
        self._socket.close()

    def _ask(self) -> None:
        """Requests the present state; the answer is queued before this returns."""
        body = _LINK.pack(socket.AF_UNSPEC, 0, self.ifindex, 0, 0)
        self._socket.send(request(_RTM_GETLINK, _ASK, body))

    def _notice(self, kind: int, body: bytes) -> Iterator[LinkEvent]:
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", body)
            if code == -errno.ENODEV:
                yield from self._gone(LinkEvent.DELETED)
            elif code:
                raise DeviceError(f"rtnetlink: {os.strerror(-code)}")
            return
        if kind not in {RTM_NEWLINK, RTM_DELLINK}:
            return
        family, _, ifindex, flags, _ = _LINK.unpack_from(body)
        # other families' messages of the kind are about a bridge port and the like
        if ifindex != self.ifindex or family != socket.AF_UNSPEC:
            return
        told = dict(attributes(body[_LINK.size :]))
        if kind == RTM_DELLINK:
            moved = _IFLA_NEW_NETNSID in told
            yield from self._gone(LinkEvent.MOVED if moved else LinkEvent.DELETED)
            return
        if _IFLA_MTU in told:
            (mtu,) = struct.unpack("=I", told[_IFLA_MTU])
            if mtu != self.mtu:
                self.mtu = mtu
                yield LinkEvent.MTU
        if bool(flags & _IFF_UP) != self.is_up:
            self.is_up = not self.is_up
            yield LinkEvent.UP if self.is_up else LinkEvent.DOWN

    def _gone(self, event: LinkEvent) -> Iterator[LinkEvent]:
        if self.exists:
            self.exists = self.is_up = False
            yield event
