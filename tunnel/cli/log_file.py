"""A log in a file, opened without waiting for anybody."""

from __future__ import annotations

import errno
import io
import logging
import os

from tunnel.config.settings import takes_log

__all__ = ["LogFile"]

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC


class LogFile(logging.FileHandler):
    """Only we can read a file that is made. OSError when it cannot be opened, or is
    something that could keep us waiting: a pipe waits for its reader, at the opening
    and whenever it is full."""

    def _open(self) -> io.TextIOWrapper:
        fd = os.open(self.baseFilename, _FLAGS | os.O_NONBLOCK, 0o600)
        try:
            if not takes_log(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is neither a file nor a terminal")
            os.set_blocking(fd, True)
            return open(  # noqa: PTH123 - there is no path, but a descriptor
                fd, "a", encoding="utf-8", errors="backslashreplace"
            )
        except BaseException:
            os.close(fd)
            raise
