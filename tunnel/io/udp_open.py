"""How UDP sockets are opened and bound, and what is wrong when that fails."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from tunnel.errors import DeviceError, NotPermitted, TunnelError
from tunnel.io import sockopt

__all__ = ["bind_error", "hosts_of", "open_pair", "open_socket"]

_WILDCARDS: Final[Mapping[int, str]] = {
    socket.AF_INET: "0.0.0.0",  # noqa: S104
    socket.AF_INET6: "::",
}

# What a refused bind asks for.
_LOW_PORT: Final = "ports below 1024 need root or CAP_NET_BIND_SERVICE"
_POLICY: Final = (
    "a rule of this system forbids it: net.ipv4.ip_unprivileged_port_start, or the "
    "policy that this process runs under (SELinux, seccomp, a cgroup's BPF program)"
)

# The family is switched off on this system; the other one will do.
_NO_FAMILY: Final = {
    errno.EAFNOSUPPORT,
    errno.EPROTONOSUPPORT,
    errno.EADDRNOTAVAIL,
    errno.ENODEV,
}


def hosts_of(addresses: Sequence[bytes]) -> dict[int, str]:
    """Text of the address to bind to, by family."""
    if not addresses:
        return dict(_WILDCARDS)
    hosts: dict[int, str] = {}
    for address in addresses:
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        if family in hosts:
            raise ValueError("at most one address of each family")
        hosts[family] = socket.inet_ntop(family, address)
    return hosts


def open_pair(
    hosts: Mapping[int, str], port: int, *, optional: bool
) -> dict[int, socket.socket]:
    """All sockets on one port, or none; a family that is off may be left out."""
    opened: dict[int, socket.socket] = {}
    missing: OSError | None = None
    try:
        for family, host in hosts.items():
            try:
                opened[family] = open_socket(family, host, port)
            except OSError as error:
                if not (optional and error.errno in _NO_FAMILY):
                    raise
                missing = error
            else:
                port = opened[family].getsockname()[1]
        if not opened:
            assert missing is not None
            raise missing
    except BaseException:
        for sock in opened.values():
            sock.close()
        raise
    return opened


def open_socket(
    family: int, host: str, port: int, *, shared: bool = False
) -> socket.socket:
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    sock = socket.socket(family, kind)
    try:
        sockopt.prepare(sock)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def bind_error(error: OSError, port: int) -> TunnelError:
    """In words, with the way to mend it; `port` 0 is any."""
    where = f"UDP port {port}" if port else "a UDP port"
    message = f"cannot bind {where}: {error.strerror}"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return NotPermitted(message, hint=_LOW_PORT if 0 < port < 1024 else _POLICY)
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = "another program uses it; choose another listen port, or 0 for any"
    elif error.errno == errno.EADDRNOTAVAIL:
        hint = "the address to listen on is not one of this system's"
    return DeviceError(message, hint=hint)
