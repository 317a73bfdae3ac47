"""Warns of prefixes that a UAPI `set` took from other peers: a few lines a second.

As in the kernel a prefix goes to whom it was given last; who lost it is still there and
does not know. In a storm of such changes, the rest of a second is only counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Final

from tunnel.constants import SECOND
from tunnel.state.merge import who
from tunnel.state.model import DeviceState, Prefix
from tunnel.state.plan import Plan

__all__ = ["LINES", "MoveLog"]

log = logging.getLogger("tunnel.uapi")

LINES: Final = 4  # of a second, and one more with the number of the others

Later = Callable[[int, Callable[[], None]], object]
"""Nanoseconds, callback: `ControlLoop.call_later`."""


class MoveLog:
    """`note` what was applied. With `later`, what was left out is told when its second
    is over, otherwise with the next move."""

    def __init__(
        self,
        later: Later | None = None,
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._later = later
        self._now = now
        self._began = now() - SECOND  # the second that is going on, or was
        self._lines = self._left_out = 0

    def note(self, plan: Plan, state: DeviceState) -> None:
        """Warns of the moves of a plan; `state` is what came of it."""
        if len(plan.actions) < 2:  # it takes two
            return
        peers = state.peers
        lost = [move for move in plan.moves if move.source in peers]
        if not lost:
            return
        left = self._left()
        for prefix, source, target in lost[:left]:
            log.warning(
                "allowed IP %s was taken from peer %s and belongs to peer %s now",
                _prefix_text(prefix),
                who(peers[source]),
                who(peers[target]),
            )
        self._lines += min(len(lost), left)
        if len(lost) > left:
            if not self._left_out and self._later is not None:
                self._later(self._began + SECOND - self._now(), self._tell)
            self._left_out += len(lost) - left

    def _left(self) -> int:
        """How many lines may still be written in this second."""
        now = self._now()
        if now - self._began >= SECOND:
            self._tell()
            self._began, self._lines = now, 0
        return LINES - self._lines

    def _tell(self) -> None:
        """How many were left out since this was said last."""
        if self._left_out:
            log.warning("%d more allowed IPs were taken from peers", self._left_out)
            self._left_out = 0


def _prefix_text(prefix: Prefix) -> str:
    address, cidr = prefix
    return f"{inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)}/{cidr}"
