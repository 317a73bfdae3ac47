"""Linux TUN devices: /dev/net/tun with a virtio header in front of each packet.

pytun opens the device and attaches the interface: it hands IFF_VNET_HDR through. What
it has no call for is done by ioctl on its descriptor: names that follow a rename,
offloads, further queues.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable
from typing import Final

from tunnel.errors import DeviceError, NotPermitted, NotSupported, TunnelError
from tunnel.io.steering_linux import steer_queues
from tunnel.io.tun_ioctl_linux import (
    IFF_MULTI_QUEUE,
    IFF_NO_PI,
    IFF_TUN,
    IFF_TUN_EXCL,
    IFF_UP,
    IFF_VNET_HDR,
    IFREQ,
    IFREQ_FLAGS,
    OFFLOADS_TCP,
    OFFLOADS_UDP,
    SIOCGIFFLAGS,
    SIOCGIFINDEX,
    SIOCGIFMTU,
    SIOCSIFFLAGS,
    SIOCSIFMTU,
    TUNSETIFF,
    check_header_size,
    identity,
    interface_ioctl,
    set_offloads,
)

__all__ = ["WANTED", "LinuxTun", "open_tun", "ready"]

WANTED: Final = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR
_MANY_QUEUES: Final = IFF_MULTI_QUEUE | IFF_TUN_EXCL  # of a new interface only
_NAME_MAX: Final = 15


class LinuxTun:
    """A TUN interface and its descriptor (see `TunDevice`).

    `set_mtu` and `set_up` act on the interface in the caller's network namespace; an
    interface that was moved into another keeps its packets here, and `mtu` says what
    was last seen.
    """

    vnet_header = True
    more_queues: tuple[int, ...] = ()

    def __init__(self, fd: int, release: Callable[[], None]) -> None:
        """`release` closes `fd`. The device is left without offloads."""
        self._fd = fd
        self._release = release
        self._mtu = 0
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        check_header_size(fd)
        set_offloads(fd, 0)

    def fileno(self) -> int:
        if self._fd < 0:
            raise DeviceError("the TUN device is closed")
        return self._fd

    def enable_offloads(self) -> tuple[bool, bool]:
        taken = set_offloads(self.fileno(), OFFLOADS_TCP | OFFLOADS_UDP)
        return taken & OFFLOADS_TCP == OFFLOADS_TCP, bool(taken & OFFLOADS_UDP)

    @property
    def name(self) -> str:
        try:
            return identity(self.fileno())[0]
        except OSError as error:
            raise DeviceError("the TUN interface was deleted") from error

    @property
    def alive(self) -> bool:
        if self._fd < 0:
            return False
        try:
            identity(self._fd)
        except OSError:  # EBADFD
            return False
        return True

    @property
    def ifindex(self) -> int:
        return int(IFREQ.unpack(self._request(SIOCGIFINDEX, 0, "look up"))[1])

    @property
    def mtu(self) -> int:
        try:
            self._mtu = IFREQ.unpack(interface_ioctl(SIOCGIFMTU, self.name, 0))[1]
        except OSError as error:
            if error.errno != errno.ENODEV or not self._mtu:
                raise DeviceError(f"cannot read the MTU: {error.strerror}") from error
        return self._mtu

    def set_mtu(self, mtu: int) -> None:
        self._request(SIOCSIFMTU, mtu, f"set the MTU to {mtu} of")

    @property
    def is_up(self) -> bool:
        answer = self._request(SIOCGIFFLAGS, 0, "read the flags of")
        return bool(IFREQ_FLAGS.unpack(answer)[1] & IFF_UP)

    def set_up(self, up: bool) -> None:
        answer = self._request(SIOCGIFFLAGS, 0, "read the flags of")
        flags = IFREQ_FLAGS.unpack(answer)[1]
        flags = flags | IFF_UP if up else flags & ~IFF_UP
        self._request(SIOCSIFFLAGS, flags, f"set {'up' if up else 'down'}")

    def open_queues(self, count: int) -> None:
        """`count` queues in all, of which each packet takes the one that `queue_of` its
        destination names; when that is not possible there is one, as before. The
        device must be of our own making, with IFF_MULTI_QUEUE."""
        if count < 2 or not steer_queues(self.fileno(), count):
            return
        request = IFREQ_FLAGS.pack(self.name.encode(), WANTED | IFF_MULTI_QUEUE)
        for _ in range(1, count):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            self.more_queues += (fd,)
            fcntl.ioctl(fd, TUNSETIFF, request)

    def close(self) -> None:
        queues, self.more_queues = self.more_queues, ()
        for fd in queues:
            os.close(fd)
        if self._fd >= 0:
            self._fd = -1
            self._release()

    def _request(self, request: int, value: int, what: str) -> bytes:
        name = self.name
        try:
            return interface_ioctl(request, name, value)
        except OSError as error:
            raise _problem(error, f"cannot {what} {name}") from error


def open_tun(name: str, *, mtu: int = 0, queues: int = 1) -> LinuxTun:
    """See `tunnel.io.tun.open_tun`."""
    if len(name.encode()) > _NAME_MAX:
        raise DeviceError(f"interface name {name!r} has more than {_NAME_MAX} bytes")
    if queues > 1:
        with contextlib.suppress(_Exists):
            return ready(*_attach(name, WANTED | _MANY_QUEUES), mtu, queues)
    return ready(*_attach(name, WANTED), mtu)


class _Exists(DeviceError):
    """There is an interface of this name: it has the queues that it has."""


def _attach(name: str, flags: int) -> tuple[int, Callable[[], None]]:
    """A descriptor on the interface, and what closes it."""
    import pytun

    try:
        # pytun opens without O_CLOEXEC; LinuxTun sets it a moment later
        device = pytun.TunTapDevice(name=name, flags=flags)
    except (pytun.Error, OSError) as error:
        number = error.args[0] if isinstance(error.args[0], int) else 0
        if number == errno.EBUSY and flags & IFF_TUN_EXCL:
            raise _Exists(f"the interface {name!r} exists") from error
        reason = OSError(number, str(error.args[-1]))
        raise _problem(reason, f"cannot open the TUN device {name!r}") from error
    return device.fileno(), device.close


def ready(
    fd: int, release: Callable[[], None], mtu: int = 0, queues: int = 1
) -> LinuxTun:
    """The finished device, or nothing left open."""
    with contextlib.ExitStack() as undo:
        undo.callback(release)
        try:
            tun = LinuxTun(fd, release)
            undo.pop_all()
            undo.callback(tun.close)
            tun.open_queues(queues)
            if mtu:
                tun.set_mtu(mtu)
        except OSError as error:
            raise _problem(error, "cannot prepare the TUN device") from error
        undo.pop_all()
    return tun


_HINTS: Final = {
    errno.EBUSY: "another program uses this interface",
    errno.EINVAL: "an interface of another kind, or of another program with several "
    "workers, has this name; or it is not a name",
    errno.ENODEV: "the interface is gone, or in another network namespace",
    errno.ERANGE: "the value is out of range for this interface",
}


def _problem(error: OSError, message: str) -> TunnelError:
    text = f"{message}: {error.strerror}"
    if error.errno in {errno.EPERM, errno.EACCES}:
        return NotPermitted(text, hint="run as root, or with CAP_NET_ADMIN")
    if error.errno in {errno.ENOENT, errno.ENXIO}:
        return NotSupported(
            text, hint="load it with modprobe tun; in a container pass /dev/net/tun"
        )
    return DeviceError(text, hint=_HINTS.get(error.errno or 0, ""))
