"""What fifty tunnels, opened and closed in one process, leave behind: nothing."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest
from lab.held import kernel_threads, open_descriptors
from lab.network import Lab

from tunnel.engine import Engine
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret

CYCLES = 50
WARM_UP = 3  # libraries that are loaded, caches that are filled
MEMORY = InterfaceState(kind="loopback", name="memory")
TUN = InterfaceState(kind="tun", name="wg0")


def held() -> dict[str, int]:
    """Descriptors and threads of this process, as the kernel counts them."""
    return {"descriptors": open_descriptors(), "threads": kernel_threads()}


def left_behind(before: dict[str, int]) -> dict[str, int]:
    """What is held now beyond `before`, after up to 5 s for threads that are just
    ending: nobody waits for those, neither now nor when `before` was counted."""
    deadline = time.monotonic() + 5
    while True:
        more = {
            what: n - before[what] for what, n in held().items() if n > before[what]
        }
        if not more or time.monotonic() > deadline:
            return more
        time.sleep(0.01)


def one_life(interface: InterfaceState) -> None:
    """Opens a tunnel that at once wants a session with a peer that is not there."""
    peer = PeerState(
        PrivateKey(os.urandom(32)).public,
        endpoint=(socket.inet_aton("127.0.0.1"), 9, 0),
        allowed_ips=((bytes(4), 0),),
        keepalive=1,
    )
    desired = DeviceState(
        private_key=Secret(os.urandom(32)),
        interface=interface,
        peers={peer.public_key: peer},
    )
    engine = Engine(interface)
    try:
        engine.start(desired)
        timer = threading.Timer(0.02, engine.stop)
        timer.start()
        engine.run()
        timer.join()
        assert engine.device.status().counters
    finally:
        engine.close()


def assert_no_leak(live: Callable[[], None]) -> None:
    for _ in range(WARM_UP):
        live()
    before = held()
    for _ in range(CYCLES):
        live()
    assert not left_behind(before)


def test_fifty_tunnels_in_memory_leak_nothing() -> None:
    assert_no_leak(lambda: one_life(MEMORY))


@pytest.mark.root
def test_fifty_tun_interfaces_leak_nothing(require_tun: None) -> None:
    with Lab("left") as lab:
        lab["left"].call(lambda: assert_no_leak(lambda: one_life(TUN)))
        assert not lab["left"].has_interface("wg0")


def test_a_leak_would_be_seen() -> None:
    """The twin of the tests above."""
    kept = []
    with pytest.raises(AssertionError):
        assert_no_leak(lambda: kept.append(socket.socket()))
    for each in kept:
        each.close()
