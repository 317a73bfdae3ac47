"""Handshake messages that wait for the control thread are bounded, and none of those
that were taken in is forgotten (R49)."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tunnel import driver
from tunnel.constants import HANDSHAKE_QUEUE, HANDSHAKE_UNDER_LOAD
from tunnel.engine import Engine
from tunnel.protocol.cookie import mac1_key
from tunnel.protocol.primitives import mac

from .rig import Running

RING = 4096
QUEUE = 100


def nonsense(public: bytes) -> bytes:
    """An initiation in which nothing is right but its mac1."""
    body = (1).to_bytes(4, "little") + os.urandom(112)
    return body + mac(mac1_key(public), body) + bytes(16)


class Watched:
    """Keeps count of what the node is given and of what waits meanwhile."""

    def __init__(self, engine: Engine) -> None:
        self.received = self.most = 0
        self._device = engine.device
        self._receive = engine.device.node.receive_many

    def receive_many(
        self, messages: Sequence[Any], now: int, wall: int, *, queued: int
    ) -> None:
        self.received += len(messages)
        waiting = queued - self._device.pump.handshakes_waiting
        self.most = max(self.most, len(messages) + waiting)
        self._receive(messages, now, wall, queued=queued)


@pytest.mark.parametrize("count", [QUEUE - 1, 3 * QUEUE, RING + 700])
def test_r49_the_backlog_is_bounded_and_worked_off(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "HANDSHAKE_QUEUE", QUEUE)
    with Running(1) as a, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", a.port))
        message, pump = nonsense(a.public), a.engine.device.pump
        entered, held = threading.Event(), threading.Event()
        watched = a.call(Watched)
        monkeypatch.setattr(
            type(a.engine.device.node), "receive_many", watched_call(watched)
        )

        def hold() -> bool:
            entered.set()
            return held.wait(60)

        blocked = a.engine.submit(hold)
        assert entered.wait(10)  # from here on it takes nothing out of the ring
        for sent in range(1, count + 1):
            sock.send(message)
            if sent % 50 == 0 or sent == count:
                until(lambda sent=sent: pump.counters()["udp_received"] >= sent)
        held.set()
        assert blocked.result(10)
        until(lambda: watched.received == min(count, RING))
        assert 0 < watched.most <= QUEUE
        assert pump.counters()["drop.rx_handshake_full"] == max(0, count - RING)
        assert a.call(lambda e: e.device.pump.handshakes_waiting) == 0


def watched_call(watched: Watched) -> Any:
    def receive_many(_node: object, *args: Any, queued: int) -> None:
        watched.receive_many(*args, queued=queued)

    return receive_many


def until(holds: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.002)


def test_r46_under_load_is_an_eighth_of_the_queue() -> None:
    """And ten thousand peers that come back at once are less than that."""
    assert HANDSHAKE_UNDER_LOAD * 8 == HANDSHAKE_QUEUE
    assert HANDSHAKE_UNDER_LOAD > 10_000
