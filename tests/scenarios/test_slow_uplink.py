"""All peers share a send buffer: a flood to one must not keep the others waiting."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lab.echo import ping
from lab.network import Namespace
from lab.process import wait_until

from .test_uplinks import inside, office

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]

# 100 Mbit/s behind a queue of 1,000 packets, which is a system's usual one
SLOW = ("tbf", "rate", "100mbit", "burst", "100kb", "limit", "20mb")
QUEUE = ("pfifo", "limit", "1000")


@contextmanager
def flood(host: Namespace, to: str) -> Iterator[None]:
    """Some 400 Mbit/s of datagrams nobody waits for."""
    over = threading.Event()
    sender = host.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send() -> None:
        while not over.wait(0.001):
            for _ in range(40):
                sender.sendto(bytes(1300), (to, 9))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        sender.close()


def dropped_in_the_queue(host: Namespace) -> bool:
    """Whether the slow interface's queue is full."""
    told = host.run("tc", "-s", "qdisc", "show", "dev", "eth1").stdout
    return "dropped 0," not in told.partition("pfifo")[2]


def test_a_flood_through_a_slow_uplink_leaves_other_peers_alone() -> None:
    with office("-4") as found:
        host = found.server.host
        host.ip("route", "add", f"{found.client}/32", "via", found.gateway)
        assert ping(host, inside(found.first), count=3).lost == 0
        host.run("tc", "qdisc", "add", "dev", "eth1", "root", "handle", "1:", *SLOW)
        host.run("tc", "qdisc", "add", "dev", "eth1", "parent", "1:1", *QUEUE)
        with flood(host, inside(found.first)):
            wait_until(
                "a queue that is full", lambda: dropped_in_the_queue(host), timeout=20
            )
            pings = ping(host, inside(found.second), count=40, interval=0.05)
        assert pings.received >= 36, pings
        assert found.server.drops().get("drop.tx_socket", 0) == 0
