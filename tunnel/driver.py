"""Drives the protocol: hands the node what the packet path and the clock have for it,
and sends what it wants sent. Runs in the control thread.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tunnel._fastpath.pump import Handshake, Pump
from tunnel.constants import HANDSHAKE_QUEUE
from tunnel.errors import DeviceError
from tunnel.loop import ControlLoop, Timer
from tunnel.protocol.node import Node
from tunnel.protocol.peer import Peer
from tunnel.protocol.types import Datagram
from tunnel.state.model import short_key

__all__ = ["Driver"]

log = logging.getLogger("tunnel.device")

_HANDSHAKES_AT_ONCE = 32  # then timers, path events and clients get their turn
_SUSPENDED = 500_000_000  # BOOTTIME ran ahead of MONOTONIC by more than noise
_PAUSE = _SUSPENDED // 10  # between two looks at the clocks: they do not fit
_LOOKS = 4  # at both clocks, then what they say is taken as it is


class Driver:
    """Of one node and one pump; `send` takes the node's own datagrams."""

    def __init__(
        self,
        loop: ControlLoop,
        pump: Pump,
        node: Node,
        send: Callable[[Datagram], None],
    ) -> None:
        self._loop = loop
        self._pump = pump
        self._node = node
        self._send = send
        self._timer: Timer | None = None
        self._backlog: deque[Handshake] = deque()  # at most HANDSHAKE_QUEUE (R49)
        self._continues = False  # with the backlog, in the loop's next round
        self._asleep = self._clocks()[1]

    def start(self) -> None:
        """The pump runs."""
        self._loop.add_reader(self._pump.event_fd, self._on_pump)

    def close(self) -> None:
        """Before the pump is stopped."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._pump.event_fd)
        # its owner is not kept by us: keys are wiped when nobody holds them
        self._send = lambda _: None

    def flush(self) -> None:
        """After every call into the node: send, report, set the alarm clock."""
        for datagram in self._node.to_send():
            self._send(datagram)
        while (event := self._node.next_event()) is not None:
            if log.isEnabledFor(logging.DEBUG):
                peer = event.peer
                who = peer.name or short_key(peer.public_key)
                log.debug("peer %s: %s", who, type(event).__name__)
        self._arm(self._node.next_deadline())

    # --- the packet path

    def _on_pump(self) -> None:
        """The packet path has something: sessions wanted, timers, handshakes."""
        backlog = self._backlog
        happened, handshakes = self._pump.drain(HANDSHAKE_QUEUE - len(backlog))
        if self._pump.failure:
            raise DeviceError(f"the packet path stopped: {self._pump.failure}")
        if happened:
            now, wall = self._now(), time.time_ns()
            peers = [(path.token, bits) for path, bits in happened]
            with self._one_wake_up():
                self._node.path_events(
                    [(peer, bits) for peer, bits in peers if isinstance(peer, Peer)],
                    now,
                    wall,
                )
        backlog.extend(handshakes)
        if backlog and not self._continues:
            self._work_off()
        self.flush()

    def _continue(self) -> None:
        self._continues = False
        self._on_pump()

    def _work_off(self) -> None:
        """Some of the waiting handshake messages; the rest in the next round (R49)."""
        backlog = self._backlog
        count = min(len(backlog), _HANDSHAKES_AT_ONCE)
        self._node.receive_many(
            [backlog.popleft() for _ in range(count)],
            self._now(),
            time.time_ns(),
            queued=len(backlog) + self._pump.handshakes_waiting,
        )
        self.flush()
        if backlog or self._pump.handshakes_waiting:
            self._continues = True
            self._loop.call_soon_threadsafe(self._continue)

    @contextmanager
    def _one_wake_up(self) -> Iterator[None]:
        """What many peers have for the packet path wakes it once, at the end."""
        self._pump.hold()
        try:
            yield
        finally:
            self._pump.release()

    # --- time

    def _arm(self, when: int | None) -> None:
        timer = self._timer
        if timer is not None:
            if timer.when == when:
                return
            timer.cancel()
        self._timer = (
            None if when is None else self._loop.call_at(when, self._on_deadline)
        )

    def _on_deadline(self) -> None:
        self._timer = None
        with self._one_wake_up():
            self._node.handle_deadline(self._now(), time.time_ns())
        self.flush()

    def _now(self) -> int:
        """The time; when the machine slept since the last call, keys are gone (R41)."""
        now, asleep = self._clocks()
        if asleep - self._asleep > _SUSPENDED:
            self._node.resumed(now)
        self._asleep = max(self._asleep, asleep)
        return now

    def _clocks(self) -> tuple[int, int]:
        """The time, and how long the machine has slept so far, or less: a pause of
        this thread between the clocks is missing in it. Then they are read again."""
        before = time.monotonic_ns()
        for _ in range(_LOOKS):
            now, after = self._loop.now(), time.monotonic_ns()
            if after - before < _PAUSE:
                break
            before = after
        return now, now - after
