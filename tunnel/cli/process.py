"""What both daemons do to their own process before they hold a key."""

from __future__ import annotations

import ctypes
import gc
import resource
from typing import Final

__all__ = ["calm_collector", "harden"]

_PR_SET_DUMPABLE: Final = 4


def harden() -> None:
    """No core dumps and no ptrace by the same user: keys are in this memory (R77)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def calm_collector() -> None:
    """Ten thousand peers are many objects and live long: going over all of them for
    garbage stops every thread for 70 ms and finds nothing."""
    gc.set_threshold(700, 10, 1000)
