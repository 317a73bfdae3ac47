"""TUN descriptors that somebody else opened (WG_TUN_FD)."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from tunnel.errors import DeviceError
from tunnel.io.tun_ioctl_linux import (
    IFF_MULTI_QUEUE,
    IFF_NO_PI,
    IFF_PERSIST,
    IFF_TUN,
    IFF_VNET_HDR,
    IFREQ_FLAGS,
    TUNGETDEVNETNS,
    TUNSETIFF,
    TUNSETPERSIST,
    identity,
)
from tunnel.io.tun_linux import WANTED, LinuxTun, ready

__all__ = ["from_fd"]


def from_fd(fd: int) -> LinuxTun:
    """See `tunnel.io.tun.tun_from_fd`.

    A descriptor without the virtio header (other programs open them so) cannot be
    changed. The interface is then kept alive while it is opened anew; that works only
    if the descriptor is the last one on it.
    """
    try:
        name, flags = identity(fd)
        if not flags & IFF_TUN:
            raise DeviceError(f"descriptor {fd} is not a TUN device but a TAP")
        if flags & (IFF_VNET_HDR | IFF_NO_PI) != IFF_VNET_HDR | IFF_NO_PI:
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
    fcntl.ioctl(fd, TUNSETPERSIST, 1)
    new = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.dup2(new, fd, inheritable=False)
    finally:
        os.close(new)
    kept = WANTED | flags & IFF_MULTI_QUEUE
    fcntl.ioctl(fd, TUNSETIFF, IFREQ_FLAGS.pack(name.encode(), kept))
    fcntl.ioctl(fd, TUNSETPERSIST, int(bool(flags & IFF_PERSIST)))


def _in_this_namespace(fd: int) -> bool:
    namespace = fcntl.ioctl(fd, TUNGETDEVNETNS)
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
