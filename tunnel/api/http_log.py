"""The words of the server and of its event loop go where ours go, but not all of them:
how many there are is in the hands of those who connect.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

__all__ = ["Forward", "log_like_us"]

log = logging.getLogger("tunnel.http")

_LOGGERS: Final = ("uvicorn", "asyncio")
_MOST: Final = 10
_SECONDS: Final = 60.0


class Forward(logging.Handler):
    """Passes on at most `_MOST` records in `_SECONDS`, and how many it left out."""

    def __init__(self, level: int, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(level)
        self._clock = clock
        self._until = float("-inf")
        self._passed = 0
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._clock() >= self._until:
            self._begin()
        if self._passed < _MOST:
            self._passed += 1
            log.log(record.levelno, "%s", record.getMessage())
        else:
            self._left_out += 1

    def _begin(self) -> None:
        if self._left_out:
            log.warning("%d messages of the HTTP server left out", self._left_out)
        self._until = self._clock() + _SECONDS
        self._passed = self._left_out = 0


def log_like_us() -> None:
    """From now on, in this process."""
    forward = Forward(logging.WARNING)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [forward]
        logger.propagate = False
