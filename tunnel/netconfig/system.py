"""The commands of this operating system."""

from __future__ import annotations

import sys

from tunnel.errors import NotSupported
from tunnel.netconfig import linux, windows
from tunnel.netconfig.base import Command, WantedState

__all__ = ["commands"]


def commands(
    observed: WantedState | None, wanted: WantedState, *, platform: str = sys.platform
) -> list[Command]:
    """What turns `observed` (None: down and bare) into `wanted`; see `diff.commands`.

    Raises NetconfigError for a state that cannot be, NotSupported where there is
    nothing to configure interfaces with.
    """
    if platform == "linux":
        return linux.commands(observed, wanted)
    if platform == "win32":
        return windows.commands(observed, wanted)
    raise NotSupported(
        f"not supported yet: configuring an interface on {platform}",
        hint='set "autoConfigure" to false and configure it by hand',
    )
