"""The socket of `management.bind`: bound before anything else runs, so that a wrong
address is refused at once.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tunnel.api.unix_sockets import listen_unix
from tunnel.config.values import parse_host_port
from tunnel.errors import DeviceError

__all__ = ["BACKLOG", "listen", "spelled"]

BACKLOG: Final = 64


def listen(bind: str) -> socket.socket:
    """A listening socket at "host:port" or "unix:/path"; DeviceError says why not."""
    return _bind_unix(bind[5:]) if bind.startswith("unix:") else _bind_tcp(bind)


def _bind_tcp(bind: str) -> socket.socket:
    host, port = parse_host_port(bind)
    try:
        found: Sequence[tuple[Any, ...]] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise _unusable(bind, "the name has no address", "write an address") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = "choose a free port and an address of this machine"
        raise _unusable(bind, error.strerror or str(error), hint) from error
    return listener


def _bind_unix(path: str) -> socket.socket:
    try:
        return listen_unix(Path(path), BACKLOG)
    except OSError as error:
        hint = "choose another path, or make its directory writable"
        raise _unusable(path, error.strerror or str(error), hint) from error


def _unusable(where: str, reason: str, hint: str) -> DeviceError:
    return DeviceError(
        f"management.bind: cannot listen on {where}: {reason}", hint=hint
    )


def spelled(name: Any) -> str:
    """The name of a socket as people write it."""
    if isinstance(name, str):
        return f"unix:{name}"
    host, port = name[0], name[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
