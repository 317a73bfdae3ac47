"""Remembered source addresses: judged when learned and when routes change (R62, U13).

A peer is answered from the address that it last talked to, by the way that the routes
say. That address is wrong once it is no longer ours, or, of IPv4, when the route leaves
by another interface than the peer's packets come in on: then the kernel chooses one.
While there is no route at all it stays. WireGuard's own module has the same rules, and
looks at each packet that it sends.

The peer's path remembers the verdict, and nothing else does: rules may look at ports,
so that no two peers share an answer, and the table is asked about a peer again only
when it moved, came in by another way, or its source was cleared.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from tunnel.io.routes_linux import Question, Route, RouteMonitor, RouteTable
from tunnel.io.sockopt import is_link_local
from tunnel.learned import Learned
from tunnel.loop import Timer

if TYPE_CHECKING:
    from tunnel._fastpath.pump import Path
    from tunnel.device import Device
    from tunnel.protocol.peer import Peer

__all__ = ["StickySources"]

log = logging.getLogger("tunnel.sticky")

_DELAY: Final = 200_000_000  # from the first change on, for those that come with it
_AT_ONCE: Final = 200  # peers; then timers, path events and clients get their turn
_SHARE: Final = 20  # of the time, at most one 20th, however often something changes

_Source = tuple[bytes, int]
_Asked = tuple["Path", _Source]


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
        self._learned = Learned()
        self._learned_timer: Timer | None = None
        self._again = False  # routes changed while the peers were gone through
        self._not_before = 0
        self._spent = 0
        self._ours: dict[_Source, bool] = {}
        self._closed = False
        self._loop.add_reader(self._monitor.fileno(), self._on_change)
        device.pump.on_sources = self._on_sources

    def close(self) -> None:
        """Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._device.pump.on_sources = None
        for timer in (self._timer, self._learned_timer):
            if timer is not None:
                timer.cancel()
        self._waiting.clear()
        self._learned.clear()
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
        self._look_over([peer.path for peer in some])  # type: ignore[misc]
        now = self._loop.now()
        self._spent += now - started
        if self._waiting:
            self._loop.call_soon_threadsafe(self._go_on)
            return
        self._not_before = now + _SHARE * self._spent
        if self._again:
            self._again = False
            self._schedule()

    # --- sources just learned

    def _on_sources(self, paths: list[Path], at_once: bool) -> None:
        """`at_once`: an answer is about to leave."""
        if at_once:
            self._look_over(paths)
            return
        self._learned.add(paths)
        if self._learned_timer is None or self._learned.ready:
            self._look_at_learned()

    def _look_at_learned(self) -> None:
        """Some of them. Nothing more is told of those that wait for theirs, so that it
        is these looks that bound how often a worker wakes this thread."""
        if self._learned_timer is not None:
            self._learned_timer.cancel()
            self._learned_timer = None
        started = self._loop.now()
        if started >= self._not_before:
            self._look_over(self._learned.take(started, _AT_ONCE))
            now = self._loop.now()
            self._not_before = now + _SHARE * (now - started)
        when = self._learned.next_look(self._not_before)
        if when is not None:
            self._learned_timer = self._loop.call_at(when, self._look_at_learned)

    # --- the routing table

    def _look_over(self, paths: Iterable[Path]) -> None:
        found = [(path, *one) for path in paths for one in path.source_questions()]
        transport = self._device.transport
        if transport is None or transport.connected is not None:
            return
        mark, own_port = self._device.state.fwmark, transport.port
        asked: list[_Asked] = []
        questions: list[Question] = []
        asked_ipv6: list[_Asked] = []
        for path, (address, port, scope_id), source in found:
            if len(source[0]) != len(address):
                continue  # of an endpoint before this one, and not used
            if len(address) == 16:
                asked_ipv6.append((path, source))
                continue
            asked.append((path, source))
            questions.append(
                Question(address, source[0], scope_id, mark, own_port, port)
            )
        unreachable: list[_Asked] = []
        for one, route in zip(asked, self._table.ask(questions), strict=True):
            good = suits(route, one[1])
            if good is None and route is not None:
                unreachable.append(one)
            else:
                _judge(one, good)
        self._ask_for_ours(source for _, source in asked_ipv6 + unreachable)
        for one in asked_ipv6:
            _judge(one, self._ours.get(one[1]))
        for one in unreachable:  # it may be right when there is a route again
            _judge(one, None if self._ours.get(one[1], True) else False)

    def _ask_for_ours(self, sources: Iterable[_Source]) -> None:
        """IPv6 finds routes from addresses that are not ours, and those that are ours
        are good on every interface; but link-local ones are of one only. From an
        address that is not ours IPv4 finds none, and not every kernel says why."""
        new = list({source for source in sources if source not in self._ours})
        questions = [
            Question(address, scope_id=ifindex if is_link_local(address) else 0)
            for address, ifindex in new
        ]
        for source, route in zip(new, self._table.ask(questions), strict=True):
            if route is not None:
                self._ours[source] = route.local


def _judge(asked: _Asked, good: bool | None) -> None:
    """None: that is not to be said now, and nothing changes."""
    path, source = asked
    if good is not None and path.judge_source(source, good):
        log.debug("a source is %s", "good again" if good else "forgotten")


def suits(route: Route | None, source: _Source) -> bool | None:
    """Whether the route to the peer suits a source of IPv4. None: there is no route to
    tell by, as while a link is down. EINVAL is said of the source (U13)."""
    if route is None:
        return None
    if not route.ifindex:
        return False if route.error == errno.EINVAL else None
    return source[1] in {0, route.ifindex}
