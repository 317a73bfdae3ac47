"""Where the UAPI's Unix socket is, and how it is made."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Final

from tunnel.api.unix_sockets import Served, listen_unix
from tunnel.errors import DeviceError, NotPermitted, NotSupported, TunnelError

__all__ = ["bind_socket", "run_directory", "socket_path"]

_BACKLOG: Final = 128


def run_directory() -> Path:
    """Where sockets are: `TUNNEL_RUN_DIR`, or the place `wg` looks in."""
    return Path(os.environ.get("TUNNEL_RUN_DIR") or "/var/run/wireguard")


def socket_path(name: str) -> Path:
    """Of the interface's socket."""
    return run_directory() / f"{name}.sock"


def bind_socket(name: str) -> socket.socket:
    """Listens on the interface's socket, readable by its owner only (R74).
    DeviceError when another process serves the interface; NotPermitted or NotSupported
    when the directory cannot be used."""
    path = socket_path(name)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        what = f"cannot make the directory for control sockets, {path.parent}"
        raise _unusable(what, error) from error
    try:
        return listen_unix(path, _BACKLOG)
    except Served as error:
        hint = "stop it first"
        raise DeviceError(f"another process serves {path}", hint=hint) from error
    except OSError as error:
        what = f"cannot listen on {path}"
        if error.errno == errno.EADDRINUSE:
            hint = "something that is no socket is in its place: remove it"
            raise DeviceError(what, hint=hint) from error
        raise _unusable(what, error) from error


def _unusable(what: str, error: OSError | ValueError) -> TunnelError:
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, PermissionError):
        return NotPermitted(
            f"{what}: {reason}",
            hint="run as root, or set TUNNEL_RUN_DIR to a directory of your own",
        )
    return NotSupported(
        f"{what}: {reason}",
        hint="set TUNNEL_RUN_DIR to a directory, with a short path, that can be made "
        "and written to",
    )
