"""Listens at a path of the file system, for whoever may read it: its owner only."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

__all__ = ["Served", "SocketFile", "listen_unix"]


class Served(OSError):
    """Another process listens there."""

    def __init__(self) -> None:
        super().__init__(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


class SocketFile:
    """The file of a socket that listens, which others may delete or replace. While the
    socket is open no other file can be taken for this one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            found = self.path.lstat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    @property
    def is_ours(self) -> bool:
        return self._identity is not None and self._look() == self._identity

    def remove(self) -> None:
        """Once, if it is still ours, and before the socket is closed."""
        with contextlib.suppress(OSError):
            if self.is_ours:
                self.path.unlink()
        self._identity = None


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
