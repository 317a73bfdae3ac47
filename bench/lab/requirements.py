"""What this machine lacks for a lab."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["REQUIRED_PROGRAMS", "missing"]

REQUIRED_PROGRAMS = (
    "ip",
    "iperf3",
    "mount",
    "nsenter",
    "ping",
    "setpriv",
    "unshare",
    "wg",
)


def missing() -> list[str]:
    """Reasons why no `Lab` can be built here; empty when it can."""
    reasons = [
        f"{each} is not installed"
        for each in REQUIRED_PROGRAMS
        if not shutil.which(each)
    ]
    if os.geteuid():
        reasons.append("root is needed for network namespaces")
    if not Path("/dev/net/tun").exists():
        reasons.append("/dev/net/tun does not exist")
    return reasons
