"""The answer on systems for which no TUN device is written."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from tunnel.errors import NotSupported

__all__ = ["from_fd", "open_tun"]

_HINT = 'use Linux, or a tunnel of type "loopback", which needs no interface'


def open_tun(name: str, *, mtu: int = 0, queues: int = 1) -> NoReturn:
    """Raises NotSupported."""
    del mtu, queues
    raise NotSupported(
        f"not supported yet: the TUN device {name!r} on {sys.platform}", hint=_HINT
    )


def from_fd(fd: int) -> NoReturn:
    """Closes the descriptor, as its owner, and raises NotSupported."""
    os.close(fd)
    raise NotSupported(
        f"not supported yet: a TUN descriptor on {sys.platform}", hint=_HINT
    )
