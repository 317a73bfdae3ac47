"""Cookie replies from anybody, and from the peer that demands a cookie (F35, R46)."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from tunnel.constants import MILLISECOND
from tunnel.protocol.cookie import CookieChecker
from tunnel.protocol.types import Timing

from .rig import Running, connect, ping

JUNK = 3000


def flood(port: int, until: threading.Event) -> None:
    """Cookie replies with random indices, `JUNK` at least."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        sent = 0
        while sent < JUNK or not until.is_set():
            for _ in range(20):
                sock.send(b"\3\0\0\0" + os.urandom(60))
            sent += 20
            until.wait(0.001)


def test_f35_a_flood_of_cookie_replies_leaves_a_handshake_with_a_cookie_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """None of it reaches the protocol; the one that is genuine does."""
    timing = Timing(rekey_timeout=300 * MILLISECOND)
    with Running(1, timing=timing) as a, Running(2, timing=timing) as b:
        loaded = b.engine.device.node._checker

        def under_load(self: CookieChecker, queued: int, now: int) -> bool:
            return self is loaded

        monkeypatch.setattr(CookieChecker, "under_load", under_load)
        done = threading.Event()
        thread = threading.Thread(target=flood, args=(a.port, done))
        thread.start()
        connect(a, b)
        ping(a, b)
        done.set()
        thread.join()
        counters = a.call(lambda e: e.device.status().counters)
        assert counters["cookie.received"] >= 1
        assert counters["drop.rx_index"] > 0
        assert counters.get("handshake.unknown_index", 0) == 0
        assert counters.get("handshake.undecryptable", 0) == 0
