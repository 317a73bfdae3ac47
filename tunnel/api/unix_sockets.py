"""Listens at a path of the file system, for whoever may read it: its owner only."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

__all__ = ["Served", "listen_unix"]


class Served(OSError):
    """Another process listens there."""

    def __init__(self) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def listen_unix(path: Path, backlog: int) -> socket.socket:
    """A non-blocking socket with mode 0600; OSError says why not.

    A file that nobody answers on is a leftover and is replaced.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    old_umask = os.umask(0o177)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
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
            return
        except BlockingIOError:  # its backlog is full: somebody listens
            pass
    raise Served
