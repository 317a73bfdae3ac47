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
import socket
import struct
from collections.abc import Callable
from typing import Final

from tunnel.errors import DeviceError, NotPermitted, NotSupported, TunnelError
from tunnel.io.steering_linux import steer_queues

__all__ = [
    "OFFLOADS_TCP",
    "OFFLOADS_UDP",
    "WANTED",
    "LinuxTun",
    "identity",
    "open_tun",
    "ready",
    "set_offloads",
]

# linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_TUNGETIFF: Final = 0x800454D2
_TUNGETVNETHDRSZ: Final = 0x800454D7
_TUNSETVNETHDRSZ: Final = 0x400454D8
_IFF_TUN: Final = 0x0001
_IFF_MULTI_QUEUE: Final = 0x0100
_IFF_NO_PI: Final = 0x1000
_IFF_TUN_EXCL: Final = 0x8000
_IFF_VNET_HDR: Final = 0x4000
WANTED: Final = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
_MANY_QUEUES: Final = _IFF_MULTI_QUEUE | _IFF_TUN_EXCL  # of a new interface only

# What the reader promises to understand: TUN_F_CSUM | TSO4 | TSO6, and USO4 | USO6,
# which exist since Linux 6.2 and only together.
OFFLOADS_TCP: Final = 0x01 | 0x02 | 0x04
OFFLOADS_UDP: Final = 0x20 | 0x40

# linux/sockios.h, linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_SIOCGIFMTU: Final = 0x8921
_SIOCSIFMTU: Final = 0x8922
_SIOCGIFINDEX: Final = 0x8933
_IFF_UP: Final = 0x1
_NAME_MAX: Final = 15
_IFREQ: Final = struct.Struct("16s i 20x")
_IFREQ_FLAGS: Final = struct.Struct("16s H 22x")

VNET_HEADER_SIZE: Final = 10


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
        _check_header_size(fd)
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
        return int(_IFREQ.unpack(self._request(_SIOCGIFINDEX, 0, "look up"))[1])

    @property
    def mtu(self) -> int:
        try:
            self._mtu = _IFREQ.unpack(_interface_ioctl(_SIOCGIFMTU, self.name, 0))[1]
        except OSError as error:
            if error.errno != errno.ENODEV or not self._mtu:
                raise DeviceError(f"cannot read the MTU: {error.strerror}") from error
        return self._mtu

    def set_mtu(self, mtu: int) -> None:
        self._request(_SIOCSIFMTU, mtu, f"set the MTU to {mtu} of")

    @property
    def is_up(self) -> bool:
        answer = self._request(_SIOCGIFFLAGS, 0, "read the flags of")
        return bool(_IFREQ_FLAGS.unpack(answer)[1] & _IFF_UP)

    def set_up(self, up: bool) -> None:
        answer = self._request(_SIOCGIFFLAGS, 0, "read the flags of")
        flags = _IFREQ_FLAGS.unpack(answer)[1]
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        self._request(_SIOCSIFFLAGS, flags, f"set {'up' if up else 'down'}")

    def open_queues(self, count: int) -> None:
        """`count` queues in all, of which each packet takes the one that `queue_of` its
        destination names; when that is not possible there is one, as before. The
        device must be of our own making, with IFF_MULTI_QUEUE."""
        if count < 2 or not steer_queues(self.fileno(), count):
            return
        request = _IFREQ_FLAGS.pack(self.name.encode(), WANTED | _IFF_MULTI_QUEUE)
        for _ in range(1, count):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            self.more_queues += (fd,)
            fcntl.ioctl(fd, _TUNSETIFF, request)

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
            return _interface_ioctl(request, name, value)
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
        if number == errno.EBUSY and flags & _IFF_TUN_EXCL:
            raise _Exists(f"the interface {name!r} exists") from error
        reason = OSError(number, str(error.args[-1]))
        raise _problem(reason, f"cannot open the TUN device {name!r}") from error
    return device.fileno(), device.close


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


def identity(fd: int) -> tuple[str, int]:
    """Name and IFF_ flags of what the descriptor is attached to; OSError if nothing."""
    name, flags = _IFREQ_FLAGS.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(40)))
    return name.rstrip(b"\0").decode(), flags


def _check_header_size(fd: int) -> None:
    size = struct.pack("i", VNET_HEADER_SIZE)
    if fcntl.ioctl(fd, _TUNGETVNETHDRSZ, bytes(4)) != size:
        fcntl.ioctl(fd, _TUNSETVNETHDRSZ, size)


def _interface_ioctl(request: int, name: str, value: int) -> bytes:
    """One ifreq to the kernel and back; any socket will do."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as control:
        return fcntl.ioctl(control, request, _IFREQ.pack(name.encode(), value))


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
