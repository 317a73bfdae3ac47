"""A timer that epoll can wait for, on a clock that goes on while the machine sleeps."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from typing import Final

__all__ = ["TimerFd"]

_CLOCK_BOOTTIME: Final = 7
_TFD_FLAGS: Final = 0o2004000  # TFD_CLOEXEC | TFD_NONBLOCK
_TFD_TIMER_ABSTIME: Final = 1
_ITIMERSPEC: Final = struct.Struct("@qqqq")
_SECOND: Final = 1_000_000_000


class TimerFd:
    """timerfd_create(2) on CLOCK_BOOTTIME: epoll's own timeout stops in suspend.
    Whoever makes one closes its `fd`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_BOOTTIME, _TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create failed")
        self._armed = 0

    def arm(self, when: int) -> None:
        """At `when`; 0 disarms. A time that has passed fires at once."""
        if when == self._armed:
            return
        self._armed = when
        spec = _ITIMERSPEC.pack(0, 0, *divmod(when, _SECOND))
        self._libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, spec, None)

    def acknowledge(self) -> None:
        self._armed = 0
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)
