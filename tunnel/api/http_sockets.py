"""The socket of `management.bind`: bound before anything else runs, so that a wrong
address is refused at once.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

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
    """0600; a file that nobody answers on is a leftover and is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old_umask = os.umask(0o177)
    try:
        _remove_stale(Path(path))
        listener.bind(path)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        hint = "choose another path, or make its directory writable"
        raise _unusable(path, error.strerror or str(error), hint) from error
    finally:
        os.umask(old_umask)
    return listener


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # bind says what is wrong
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except BlockingIOError:  # its backlog is full: somebody listens
            pass


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
