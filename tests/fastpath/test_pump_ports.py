"""Sockets that were exchanged and closed leave their port to the next one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest
from lab.held import open_descriptors

from tunnel._fastpath.pump import Pump

from .rig import Rig

WORKERS = pytest.mark.parametrize("workers", [1, 3])


@contextmanager
def flood(port: int) -> Iterator[None]:
    """Garbage without end, so that a batch is always under way."""
    ended = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            while not ended.is_set():
                s.sendto(b"\x04" + bytes(1300), ("127.0.0.1", port))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@WORKERS
@pytest.mark.parametrize("load", [True, False], ids=["under load", "asleep"])
def test_a_port_is_free_once_the_pump_has_settled(workers: int, load: bool) -> None:
    with Rig(workers=workers) as rig:
        port = rig.udp4.getsockname()[1]
        for _ in range(30):
            with flood(port) if load else closing(socket.socket()):
                with rig.pump.begin() as change:
                    change.set_sockets(-1, rig.udp6.fileno())
                rig.udp4.close()
                rig.settle()
                rig.udp4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                rig.udp4.bind(("127.0.0.1", port))
                with rig.pump.begin() as change:
                    change.set_sockets(rig.udp4.fileno(), rig.udp6.fileno())


def test_a_pump_that_was_not_started_settles_at_once() -> None:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with near, far, Rig.bound(socket.AF_INET, "127.0.0.1") as udp:
        pump = Pump(near.fileno())
        before = open_descriptors()
        with pump.begin() as change:
            change.set_sockets(udp.fileno(), -1)
        with pump.begin() as change:
            change.set_sockets(-1, -1)
        assert pump.settle()
        assert open_descriptors() == before
        pump.stop()
