"""Remembered source addresses, looked over when the system's routes change (R62, U13).

A peer is answered from the address and through the interface that it last talked to.
That is wrong once the address is no longer ours, or once the route to the peer leaves
by another interface: then the kernel chooses, as it does in WireGuard's own module.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from tunnel.io.routes_linux import Question, Route, RouteMonitor, RouteTable
from tunnel.loop import Timer

if TYPE_CHECKING:
    from tunnel._fastpath.pump import Path
    from tunnel.device import Device
    from tunnel.protocol.peer import Peer

__all__ = ["StickySources"]

log = logging.getLogger("tunnel.sticky")

_DELAY: Final = 200_000_000  # from the first change on, for those that come with it
_AT_ONCE: Final = 200  # peers; then timers, path events and clients get their turn
_SHARE: Final = 20  # of the time, at most one 20th, however often routes change

_Asked = tuple["Path", tuple[bytes, int]]


class StickySources:
    """Of one device. Made in the network namespace of its sockets, in its thread."""

    def __init__(self, device: Device) -> None:
        """OSError when rtnetlink is not to be had."""
        self._device = device
        self._loop = device.loop
        self._monitor = RouteMonitor()
        try:
            self._table = RouteTable()
        except BaseException:
            self._monitor.close()
            raise
        self._timer: Timer | None = None
        self._waiting: list[Peer] = []
        self._again = False  # routes changed while the peers were gone through
        self._not_before = 0
        self._spent = 0
        self._ours: dict[tuple[bytes, int], bool] = {}
        self._closed = False
        self._loop.add_reader(self._monitor.fileno(), self._on_change)

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        self._loop.remove_reader(self._monitor.fileno())
        self._monitor.close()
        self._table.close()

    def _on_change(self) -> None:
        if not self._monitor.changed():
            return
        if self._waiting:
            self._again = True
        elif self._timer is None:
            self._schedule()

    def _schedule(self) -> None:
        when = max(self._loop.now() + _DELAY, self._not_before)
        self._timer = self._loop.call_at(when, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._spent = 0
        self._ours.clear()
        self._waiting = list(self._device.live_peers.values())
        self._go_on()

    def _go_on(self) -> None:
        """Some of the peers; the rest in the loop's next round."""
        if self._closed:
            return
        started = self._loop.now()
        some = self._waiting[-_AT_ONCE:]
        del self._waiting[-_AT_ONCE:]
        self._look_over(some)
        now = self._loop.now()
        self._spent += now - started
        if self._waiting:
            self._loop.call_soon_threadsafe(self._go_on)
            return
        self._not_before = now + _SHARE * self._spent
        if self._again:
            self._again = False
            self._schedule()

    def _look_over(self, peers: list[Peer]) -> None:
        transport = self._device.transport
        if transport is None or transport.connected is not None:
            return
        mark, own_port = self._device.state.fwmark, transport.port
        asked: list[_Asked] = []
        questions: list[Question] = []
        for peer in peers:
            path: Path = peer.path  # type: ignore[assignment]  # ten thousand times
            found = path.source_question()
            if found is None:
                continue
            (address, port, scope_id), source = found
            if len(source[0]) != len(address):
                continue  # of an endpoint before this one, and not used
            asked.append((path, source))
            questions.append(
                Question(address, source[0], scope_id, mark, own_port, port)
            )
        self._ask_for_ours(asked)
        for (path, source), route in zip(
            asked, self._table.ask(questions), strict=True
        ):
            if route is not None:
                good = self._ours.get(source, True) and leaves_by(route, source[1])
                if path.judge_source(source, good):
                    log.debug("a source is %s", "good again" if good else "forgotten")

    def _ask_for_ours(self, asked: list[_Asked]) -> None:
        """IPv6 finds routes from addresses that are not ours; IPv4 does not."""
        new = {
            source
            for _, source in asked
            if len(source[0]) == 16 and source not in self._ours
        }
        sources = list(new)
        questions = [
            Question(address, scope_id=ifindex if address[:2] == b"\xfe\x80" else 0)
            for address, ifindex in sources
        ]
        for source, route in zip(sources, self._table.ask(questions), strict=True):
            self._ours[source] = route is None or route.local


def leaves_by(route: Route, ifindex: int) -> bool:
    """Whether the route exists and uses this interface (0: any)."""
    return route.ifindex != 0 and ifindex in {0, route.ifindex}
