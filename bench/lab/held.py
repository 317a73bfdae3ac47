"""What this process holds, for tests that nothing is left behind."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

__all__ = ["kernel_threads", "named_threads", "open_descriptors"]


def open_descriptors() -> int:
    """How many, and none that only waits for the garbage collector."""
    gc.collect()
    return _entries("fd")


def kernel_threads() -> int:
    """How many, those included that Python does not know."""
    return _entries("task")


def named_threads(*prefixes: str) -> list[threading.Thread]:
    """The living ones with such a name: others end when it suits them."""
    return [one for one in threading.enumerate() if one.name.startswith(prefixes)]


def _entries(of: str) -> int:
    return sum(1 for _ in Path("/proc/self", of).iterdir())
