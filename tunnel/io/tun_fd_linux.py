"""TUN descriptors that somebody else opened (WG_TUN_FD)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from tunnel.errors import DeviceError
from tunnel.io.tun_linux import WANTED, LinuxTun, identity, ready

__all__ = ["from_fd"]

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETPERSIST: Final = 0x400454CB
_TUNGETDEVNETNS: Final = 0x54E3
_IFF_TUN: Final = 0x0001
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_PERSIST: Final = 0x0800
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000


def from_fd(fd: int) -> LinuxTun:
    """See `tunnel.io.tun.tun_from_fd`.

    A descriptor without the virtio header (other programs open them so) cannot be
    changed. The interface is then kept alive while it is opened anew; that works only
    if the descriptor is the last one on it.
    """
    try:
        name, flags = identity(fd)
        if not flags & _IFF_TUN:
            raise DeviceError(f"descriptor {fd} is not a TUN device but a TAP")
        if flags & (_IFF_VNET_HDR | _IFF_NO_PI) != _IFF_VNET_HDR | _IFF_NO_PI:
            _reopen(fd, name, flags)
    except OSError as error:
        _close_quietly(fd)
        raise DeviceError(
            f"descriptor {fd} cannot be used as a TUN device: {error.strerror}",
            hint="WG_TUN_FD must be an open /dev/net/tun that an interface is "
            "attached to, in this network namespace",
        ) from error
    except DeviceError:
        _close_quietly(fd)
        raise
    return ready(fd, lambda: os.close(fd))


def _reopen(fd: int, name: str, flags: int) -> None:
    """Attaches `fd` anew, with the flags we want, to the interface it is on now.

    If another descriptor is on it, that is EBUSY and the interface stays persistent.
    """
    if not _in_this_namespace(fd):
        raise OSError(errno.EXDEV, "the interface is in another network namespace")
    fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    new = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(new, fd, inheritable=False)
    finally:
        os.close(new)
    kept = WANTED | flags & _IFF_MULTI_QUEUE
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), kept))
    fcntl.ioctl(fd, _TUNSETPERSIST, int(bool(flags & _IFF_PERSIST)))


def _in_this_namespace(fd: int) -> bool:
    namespace = fcntl.ioctl(fd, _TUNGETDEVNETNS)
    try:
        own = Path("/proc/thread-self/ns/net").stat()
        return os.path.samestat(os.fstat(namespace), own)
    finally:
        os.close(namespace)


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # it was none
        return
