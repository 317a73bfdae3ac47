"""Ports that stay through downs, ups and changes, however much comes in meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tunnel.constants import SECOND
from tunnel.engine import Engine
from tunnel.protocol.types import Timing

from .rig import Running, connect, free_port, packet, ping

CYCLES = 10
QUICK = Timing(rekey_timeout=SECOND // 5, rekey_jitter_max=SECOND // 100)


@contextmanager
def flood(one: Running, far: Running) -> Iterator[None]:
    """More than the far end's worker can do; nobody waits for what is lost."""
    ended = threading.Event()
    data = packet(one.n, far.n, 7)

    def send() -> None:
        while not ended.is_set():
            one.packets.send(data)

    def receive() -> None:
        while not ended.is_set():
            try:
                far.packets.recv(0.01)
            except TimeoutError:
                continue

    threads = [threading.Thread(target=job) for job in (send, receive)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def down_and_up(engine: Engine) -> int:
    engine.interface.set_up(False)
    engine.interface.set_up(True)
    assert engine.device.up, engine.device.waiting
    return engine.device.listen_port


@pytest.mark.parametrize("fixed", [True, False], ids=["a fixed port", "any port"])
def test_r75_up_under_load_uses_the_same_port(fixed: bool) -> None:
    with Running(1, timing=QUICK) as a, Running(2, timing=QUICK) as b:
        if fixed:
            b.change(listen_port=free_port())
        connect(a, b)
        ping(a, b)
        port = b.port
        for number in range(CYCLES):
            with flood(a, b):
                assert b.call(down_and_up) == port
            ping(b, a, 1000 + number, timeout=20)  # only b knows that it forgot


def test_r72_a_port_that_was_left_under_load_can_be_had_again() -> None:
    with Running(1) as a, Running(2) as b:
        first, second = free_port(), free_port()
        b.change(listen_port=first)
        connect(a, b)
        ping(a, b)
        for _ in range(CYCLES):
            with flood(a, b):
                for port in (second, first):
                    b.change(listen_port=port)
                    assert b.port == port


def test_r36_an_endpoint_that_is_told_later_starts_the_session() -> None:
    """What keeps a session alive waits for one; it does not wait for its interval."""
    with Running(1) as a, Running(2) as b:
        b.add(b.peer(a, endpoint=None))
        a.add(a.peer(b, endpoint=None, keepalive=60_000))
        assert b.handshakes() == 0
        a.add(a.peer(b, keepalive=60_000))
        deadline = time.monotonic() + 20
        while not b.handshakes():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_an_endpoint_that_changes_during_a_session_sends_nothing() -> None:
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        time.sleep(0.1)
        (before,) = a.call(lambda e: e.device.status().peers)
        elsewhere = (bytes([127, 0, 0, 2]), b.port, 0)
        a.add(a.peer(b, keepalive=0, endpoint=elsewhere))
        time.sleep(0.1)
        (after,) = a.call(lambda e: e.device.status().peers)
        assert after.endpoint == elsewhere
        assert after.tx_bytes == before.tx_bytes
