"""Watches an interface that was moved to another network namespace.

A socket in that namespace would keep it alive after everybody else has left it, and
the interface in it. So what happens there is heard from here: a socket hears of every
namespace that has a number in its own (NETLINK_LISTEN_ALL_NSID). What it hears is a
hint, upon which the interface is looked at, wherever it is by then.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tunnel.errors import DeviceError
from tunnel.io.link_linux import LinkEvent, LinkMonitor
from tunnel.io.netlink_linux import (
    RTM_DELLINK,
    RTM_NEWLINK,
    RTMGRP_LINK,
    attribute,
    messages,
    open_rtnetlink,
    received,
    request,
)
from tunnel.io.tun_ioctl_linux import TUNGETDEVNETNS, identity

__all__ = ["DistantLink", "follow_link"]

# linux/sched.h
_CLONE_NEWNET: Final = 0x40000000

# linux/netlink.h, linux/rtnetlink.h, linux/net_namespace.h
_SOL_NETLINK: Final = 270
_NETLINK_LISTEN_ALL_NSID: Final = 8
_RTM_NEWNSID: Final = 88
_NETNSA_NSID: Final = 1
_NETNSA_FD: Final = 3
_ANY_NUMBER: Final = -1

_INDEX: Final = struct.Struct("=BxHi")  # the beginning of struct ifinfomsg
_NOT_THERE: Final = {errno.ENODEV, errno.ENXIO, errno.EBADFD}
_MOVES: Final = 100  # that come between our looking where it is and looking at it


class DistantLink:
    """The interface of a TUN descriptor, as `LinkMonitor` shows one that is here.

    Made in the namespace from which it is heard, in whose thread `read_events` and
    `limit_gso` are called: both enter the interface's namespace for a moment. OSError
    when that is not permitted (CAP_SYS_ADMIN, CAP_NET_BROADCAST). It is followed
    wherever it goes, and never said to be MOVED.
    """

    def __init__(self, tun_fd: int) -> None:
        self.ifindex = 0
        self.is_up = False
        self.mtu = 0
        self.exists = True
        self.unseen = False  # it could not be looked at: `read_events` is to be called
        self._tun_fd = tun_fd
        self._socket = open_rtnetlink(RTMGRP_LINK)
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_LISTEN_ALL_NSID, 1)
            self._look()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when `read_events` has something to look at."""
        return self._socket.fileno()

    def read_events(self) -> list[LinkEvent]:
        """What is different from the last time; never blocks."""
        hinted = self._hinted() or self.unseen
        if not (hinted and self.exists):
            return []
        before = (self.is_up, self.mtu)
        self.unseen = False
        try:
            self._look()
        except DeviceError:
            self.exists = self.is_up = False
            return [LinkEvent.DELETED]
        except OSError:  # there is no descriptor or no memory just now
            self.unseen = True
            return []
        events = []
        if self.mtu != before[1]:
            events.append(LinkEvent.MTU)
        if self.is_up != before[0]:
            events.append(LinkEvent.UP if self.is_up else LinkEvent.DOWN)
        return events

    def limit_gso(self, size: int) -> None:
        """See `LinkMonitor.limit_gso`."""
        with suppress(OSError, DeviceError), self._found() as link:
            link.limit_gso(size)

    def close(self) -> None:
        self._socket.close()

    def _hinted(self) -> bool:
        """Whether anything was heard that may be about the interface."""
        found = False
        for data in received(self._socket):
            found |= data is None or self._is_about(data)
        return found

    def _is_about(self, data: bytes) -> bool:
        return any(
            kind in {RTM_NEWLINK, RTM_DELLINK}
            and _INDEX.unpack_from(body)[2] == self.ifindex
            for kind, _, body in messages(data)
        )

    def _look(self) -> None:
        with self._found() as link:
            self.ifindex, self.is_up, self.mtu = link.ifindex, link.is_up, link.mtu

    @contextmanager
    def _found(self) -> Iterator[LinkMonitor]:
        """As it is now; this thread is in its namespace meanwhile. DeviceError when it
        is nowhere any more, OSError when that cannot be told."""
        for _ in range(_MOVES):
            with _namespace_of(self._tun_fd, self._register):
                try:
                    link = _here(self._tun_fd)
                except DeviceError:  # it has moved on
                    continue
                except OSError as error:
                    if error.errno in _NOT_THERE:
                        continue
                    raise
                try:
                    yield link
                finally:
                    link.close()
                return
        raise DeviceError("the interface does not stay in any network namespace")

    def _register(self, namespace: int) -> None:
        """Gives the namespace a number here, so that it is heard; most have one."""
        body = bytes(4)  # struct rtgenmsg
        body += attribute(_NETNSA_NSID, struct.pack("=i", _ANY_NUMBER))
        body += attribute(_NETNSA_FD, struct.pack("=i", namespace))
        with suppress(OSError):
            self._socket.send(request(_RTM_NEWNSID, 1, body))


def follow_link(tun_fd: int) -> DistantLink | LinkMonitor:
    """A monitor of the interface, which is no longer in this namespace. Where we may
    not hear others from here, it is a socket there. Raises OSError or DeviceError."""
    try:
        return DistantLink(tun_fd)
    except PermissionError:
        with _namespace_of(tun_fd):
            return _here(tun_fd)


def _here(tun_fd: int) -> LinkMonitor:
    return LinkMonitor(socket.if_nametoindex(identity(tun_fd)[0]))


@contextmanager
def _namespace_of(
    tun_fd: int, prepare: Callable[[int], None] = lambda _: None
) -> Iterator[None]:
    """This thread in the network namespace in which the TUN interface is now, after
    `prepare` was given its descriptor. DeviceError when the interface was deleted."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open("rb") as own:
        try:
            there = fcntl.ioctl(tun_fd, TUNGETDEVNETNS)
        except OSError as error:
            if error.errno != errno.EBADFD:
                raise
            raise DeviceError("the interface was deleted") from error
        try:
            prepare(there)
            if libc.setns(there, _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            try:
                yield
            finally:
                libc.setns(own.fileno(), _CLONE_NEWNET)
        finally:
            os.close(there)
