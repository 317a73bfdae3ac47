"""The control plane's own datagrams on their way out. One for which the socket has no
room, because data fills it faster than the network takes it, is tried again for a
while: without handshakes a tunnel would lose its session under such a load. A source
that the system refuses is forgotten at once (U13).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from tunnel.constants import MILLISECOND
from tunnel.io.base import SendResult
from tunnel.loop import ControlLoop, Timer
from tunnel.protocol.types import Datagram

__all__ = ["Outgoing"]

log = logging.getLogger("tunnel.device")

# As often as a worker that waits for room looks: what becomes free, either may get.
RETRY_EVERY: Final = MILLISECOND
# Long before the protocol sends another one (R17), and often enough to meet with room.
RETRY_FOR: Final = 200 * MILLISECOND
KEPT: Final = 64  # datagrams

_COOKIE_REPLY: Final = 3  # message type

_Key = tuple[bytes, int, int]  # address, port, message type


class Outgoing:
    """Control thread only. `send` is given each datagram as often as it is tried; no
    timer runs while nothing waits."""

    def __init__(
        self, loop: ControlLoop, send: Callable[[Datagram], SendResult]
    ) -> None:
        self._loop = loop
        self._send = send
        self._waiting: dict[_Key, tuple[Datagram, int]] = {}  # until when; oldest first
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def send(self, datagram: Datagram) -> None:
        """Of one peer only the newest message of a type waits: an older initiation
        that comes behind it would be refused."""
        key = datagram.endpoint.address, datagram.endpoint.port, datagram.data[0]
        self._waiting.pop(key, None)
        if self._try(datagram):
            return
        if len(self._waiting) >= KEPT and not self._make_room(key):
            log.debug("a handshake message was dropped: too many wait")
            return
        self._waiting[key] = datagram, self._loop.now() + RETRY_FOR
        self._arm()

    def close(self) -> None:
        """What waits is dropped, and `send` let go; idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
        self._send = lambda _: SendResult.NO_SOCKET

    def _make_room(self, new: _Key) -> bool:
        """Whether there is: the oldest cookie reply gives way to any other message.
        They go to strangers, who could fill all places with them."""
        if new[2] == _COOKIE_REPLY:
            return False
        oldest = next((key for key in self._waiting if key[2] == _COOKIE_REPLY), None)
        return oldest is not None and self._waiting.pop(oldest) is not None

    def _try(self, datagram: Datagram) -> bool:
        """Whether that was all; False: it may be tried again."""
        result = self._send(datagram)
        if result is not SendResult.SENT:
            log.debug("a handshake message was %s", result.value)
        if result is SendResult.SENT_WITHOUT_SOURCE:
            _forget_source(datagram)
        return result is not SendResult.NO_ROOM

    def _arm(self) -> None:
        if self._timer is None and self._waiting:
            self._timer = self._loop.call_later(RETRY_EVERY, self._again)

    def _again(self) -> None:
        """In order; behind the first one of a family that finds no room the others of
        that family need not ask."""
        self._timer = None
        now, full = self._loop.now(), set[int]()
        for key, (datagram, until) in list(self._waiting.items()):
            family = len(datagram.endpoint.address)
            if family not in full and self._try(datagram):
                del self._waiting[key]
                continue
            full.add(family)
            if now >= until:
                log.debug("a handshake message was dropped")
                del self._waiting[key]
        self._arm()


def _forget_source(datagram: Datagram) -> None:
    """As the packet path does after such a packet. Not one that was learned meanwhile;
    and the source of a cookie reply, which goes to a stranger, nobody remembers."""
    path = datagram.path
    if path is not None and path.source == datagram.source:
        path.clear_source()
