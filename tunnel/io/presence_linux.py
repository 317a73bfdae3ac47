"""Notices, without looking again and again, that a file is no longer where it was."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Final

__all__ = ["Presence"]

# <sys/inotify.h>; unlinking, and being renamed over, change the link count
_IN_ATTRIB: Final = 0x4
_IN_DELETE_SELF: Final = 0x400
_IN_MOVE_SELF: Final = 0x800
_WANTED: Final = _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF


class Presence:
    """Readable when a file may have been deleted, renamed or replaced (inotify(7)).

    It is a hint, also given when only the mode changed: look at the file after it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def watch(cls, path: Path) -> Presence | None:
        """None when there is no such file, or when the system has no more watches."""
        libc = ctypes.CDLL(None)
        fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if fd < 0:
            return None
        if libc.inotify_add_watch(fd, os.fsencode(path), _WANTED) < 0:
            os.close(fd)
            return None
        return cls(fd)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> None:
        """Takes the hints; it becomes readable with the next one."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 4096)

    def close(self) -> None:
        """Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
