"""The words of the server and of its event loop go where ours go, but not all of them:
how many there are is in the hands of those who connect.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["Forward", "log_like_us"]

log = logging.getLogger("tunnel.http")

# where they are made: what is above them does not filter
_LOGGERS: Final = ("uvicorn.error", "uvicorn.asgi", "asyncio")
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


@contextlib.contextmanager
def log_like_us() -> Iterator[None]:
    """For what this thread says meanwhile. Both loggers are the whole process's, which
    may have an event loop or a server of its own: theirs is not touched."""
    forward, here = Forward(logging.WARNING), threading.get_ident()

    def take(record: logging.LogRecord) -> bool:
        if threading.get_ident() != here:
            return True
        if record.levelno >= forward.level:
            forward.handle(record)
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(take)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(take)
