"""How many workers carry the packets of a tunnel: the setting, and what it comes to."""

from __future__ import annotations

import os
from typing import Final

__all__ = ["AUTO", "WORKERS_MAX", "count_workers", "read_workers", "workers_text"]

AUTO: Final = 0
WORKERS_MAX: Final = 16
_AUTO_MAX: Final = 8


def read_workers(value: int | str) -> int | None:
    """The number out of 4, "4" or "auto" (AUTO); None when it is none of them."""
    if isinstance(value, str):
        text = value.strip()
        if text == "auto":
            return AUTO
        if not (text.isascii() and text.isdigit() and len(text) <= 2):
            return None
        value = int(text)
    return value if 1 <= value <= WORKERS_MAX else None


def workers_text(wanted: int) -> str:
    return str(wanted) if wanted else "auto"


def count_workers(wanted: int, cpus: int = 0) -> int:
    """What the setting means on this machine (0 CPUs: look). One worker with its helper
    uses two CPUs, so more than one are of use from four on."""
    if wanted:
        return wanted
    cpus = cpus or len(os.sched_getaffinity(0))
    return 1 if cpus < 4 else min(cpus // 2, _AUTO_MAX)
