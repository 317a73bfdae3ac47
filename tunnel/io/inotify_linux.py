"""inotify(7) through the C library: which files in which directories change."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["IN_DONE", "IN_MODIFY", "Inotify"]

log = logging.getLogger("tunnel.config")

# <sys/inotify.h>
IN_MODIFY: Final = 0x2
_IN_CLOSE_WRITE: Final = 0x8
_IN_MOVED_FROM: Final = 0x40
_IN_MOVED_TO: Final = 0x80
_IN_CREATE: Final = 0x100
_IN_DELETE: Final = 0x200
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_IN_Q_OVERFLOW: Final = 0x4000
_IN_IGNORED: Final = 0x8000
_IN_ONLYDIR: Final = 0x01000000
_WANTED: Final = (
    IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_FROM | _IN_MOVED_TO | _IN_CREATE
    | _IN_DELETE | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR
)  # fmt: skip
IN_DONE: Final = _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE | _IN_MOVED_FROM
"""Nobody is writing to that file any more."""

_EVENT: Final = struct.Struct("@iIII")


class Inotify:
    """Watches directories; `fd` is readable when there is something to `read`."""

    def __init__(self, libc: ctypes.CDLL, fd: int) -> None:
        self._libc = libc
        self.fd = fd
        self._names: dict[int, set[bytes] | None] = {}

    @classmethod
    def open(cls) -> Inotify | None:
        """None when the system has no more of them; polling has to do then."""
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            reason = os.strerror(ctypes.get_errno())
            log.warning("no inotify (%s): changed files are noticed in 5 s", reason)
            return None
        return cls(libc, fd)

    def watch(self, places: Mapping[Path, set[bytes] | None]) -> None:
        """These directories and no others; those that do not exist are left out."""
        names: dict[int, set[bytes] | None] = {}
        for directory, wanted in places.items():
            number = self._libc.inotify_add_watch(
                self.fd, os.fsencode(directory), _WANTED
            )
            if number >= 0:
                known = names.get(number, set())
                both = None if known is None or wanted is None else known | wanted
                names[number] = both
            elif ctypes.get_errno() == errno.ENOSPC:
                log.warning("%s: too many inotify watches, it is polled", directory)
        for number in self._names.keys() - names.keys():
            self._libc.inotify_rm_watch(self.fd, number)
        self._names = names

    def read(self) -> list[tuple[int, int, bytes]]:
        """(watch, mask, name) of events that matter."""
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        events, at = [], 0
        while at < len(data):
            number, mask, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + size
            name = data[at - size : at].rstrip(b"\0")
            if mask & _IN_IGNORED:
                self._names.pop(number, None)
                continue
            wanted = self._names.get(number, set())
            if mask & _IN_Q_OVERFLOW or wanted is None or not name or name in wanted:
                events.append((number, mask, name))
        return events
