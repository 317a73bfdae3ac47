"""A server that loses its routes for a moment answers as before (R62)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

import pytest
from lab.echo import ping
from lab.network import Namespace
from lab.process import wait_until

from .test_uplinks import SERVER_INSIDE, Office, inside, office

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]

OUTAGE = 1.0  # seconds: routes are looked at several times meanwhile


@contextmanager
def outage(host: Namespace, ip: str, what: str) -> Iterator[None]:
    net = "10.99.0.0/24" if ip == "-4" else "fd00:99::/64"
    route = [net, "dev", "eth0", *(["src", host.ipv4] if ip == "-4" else [])]
    if what == "link":
        host.ip("link", "set", "eth0", "down")
        yield
        host.ip("link", "set", "eth0", "up")
    else:
        host.ip(ip, "route", "del", *route)
        yield
        host.ip(ip, "route", "add", *route)


def keep_addresses(host: Namespace) -> None:
    """Of IPv6 too while a link is down."""
    file = Path("/proc/sys/net/ipv6/conf/eth0/keep_addr_on_down")
    host.call(lambda: file.write_text("1"))


@contextmanager
def packets(found: Office, busy: bool) -> Iterator[None]:
    """From the server to its clients and from them, if `busy`; ends after the block."""
    host = found.server.host
    ways = [(host, inside(client)) for client in (found.first, found.second)]
    ways += [(client.host, SERVER_INSIDE) for client in (found.first, found.second)]
    threads = [
        threading.Thread(
            target=lambda way=way: ping(*way, count=30, interval=0.05, wait=1)
        )
        for way in ways
        if busy
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "busy"])
@pytest.mark.parametrize("what", ["link", "route"])
@pytest.mark.parametrize("ip", ["-4", "-6"])
def test_r62_an_outage_costs_no_source(ip: str, what: str, busy: bool) -> None:
    with office(ip) as found:
        host = found.server.host
        keep_addresses(host)
        with packets(found, busy), outage(host, ip, what):
            sleep(OUTAGE)
        for client in (found.first, found.second):
            # before the clients' keepalives, 10 s after they last heard something
            wait_until(
                "the address that was asked",
                lambda c=client: found.source(c) == found.sticky("eth0"),
                timeout=5,
            )
            # these are the first packets since, if it was quiet
            assert ping(host, inside(client), count=3, wait=2).lost <= 1
            assert found.server_at(client) == found.known


def test_r72_a_source_that_was_refused_may_be_right_under_another_mark() -> None:
    with office("-4") as found:
        host = found.server.host
        to_client = f"{found.client}/32"
        host.ip("rule", "add", "fwmark", "5", "table", "5")
        host.ip("route", "add", to_client, "dev", "eth0", "table", "5")
        # what the server sends to the first client is lost, so that it stays there
        found.first.host.ip("link", "set", "eth1", "down")
        host.ip("route", "add", to_client, "dev", "eth1")
        wait_until(
            "the source to be forgotten",
            lambda: found.source(found.first) is None,
            timeout=10,
        )
        assert ping(found.first.host, SERVER_INSIDE, count=2, wait=1).received == 0
        found.server.change(fwmark=5)
        assert ping(found.first.host, SERVER_INSIDE, count=3, wait=2).lost <= 1
        assert found.source(found.first) == found.sticky("eth0")
        assert found.server_at(found.first) == found.known
