"""Tunnels between this engine and others, each as the initiator and as the responder.

The left end knows the endpoint of the right one, so it starts the handshake.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab.echo import ping
from lab.engines import EngineKind
from lab.pair import Exchange, Pair, tunnel_pair
from lab.process import wait_until
from lab.traffic import iperf3

from .excuses import excused

pytestmark = [pytest.mark.root, pytest.mark.interop]

MTU = 1420
HEADERS = {4: 28, 6: 48}  # IP and ICMP (or UDP)

ALWAYS = [("ours", "wireguard-go"), ("wireguard-go", "ours"), ("ours", "ours")]
OTHERS = ["wireguard-go-newest", "gotatun", "boringtun"]
IF_PRESENT = [(a, b) for o in OTHERS for a, b in (("ours", o), (o, "ours"))]

Engines = Callable[[str], EngineKind]


def name_of(ends: tuple[str, str]) -> str:
    return "-to-".join(ends)


def assert_packets_of_all_sizes_pass(pair: Pair) -> None:
    for near, far in ((pair.left, pair.right), (pair.right, pair.left)):
        for version in (4, 6):
            for size in (0, 1, 15, 16, 17, MTU - HEADERS[version]):
                # one at a time: for the last of several `ping` hardly waits
                for _ in range(3):
                    found = ping(near.host, far.inside(version), count=1, size=size)
                    assert found.lost == 0, f"IPv{version}, {size} bytes"


def assert_nothing_is_lost(pair: Pair, inside: int, size: int) -> None:
    ways = ((pair.left, pair.right), (pair.right, pair.left))
    before = [excused(*way) for way in ways]
    flows = Exchange(pair, inside=inside, rate=1000, count=1000, size=size)
    for way, counted, (sent, seen) in zip(ways, before, flows.finish(), strict=True):
        assert seen is not None
        assert (sent, seen.duplicated, seen.misrouted) == (1000, 0, 0)
        assert sent - seen.received <= excused(*way) - counted


def assert_streams_pass(pair: Pair, inside: int, *, reverse: bool) -> None:
    left, right = pair.left, pair.right
    way = (right, left) if reverse else (left, right)
    address = right.inside(inside)
    tcp = iperf3(left.host, right.host, address, reverse=reverse)
    assert tcp.bits_per_second > 10e6
    for size in (16, MTU - HEADERS[inside]):
        rate = 1000 * 8 * size
        before = excused(*way)
        udp = iperf3(
            left.host,
            right.host,
            address,
            udp_bits_per_second=rate,
            length=size,
            seconds=1,
            reverse=reverse,
        )
        assert udp.packets > 800
        assert udp.lost <= excused(*way) - before


@pytest.mark.parametrize("preshared", [False, True], ids=["no-psk", "psk"])
@pytest.mark.parametrize("outside", [4, 6], ids=["over-ipv4", "over-ipv6"])
@pytest.mark.parametrize("ends", ALWAYS, ids=name_of)
def test_f60_traffic_passes(
    engine: Engines, ends: tuple[str, str], outside: int, preshared: bool
) -> None:
    """Both roles, both address families outside and inside, with and without PSK."""
    left, right = map(engine, ends)
    with tunnel_pair(left, right, outside=outside, preshared=preshared) as pair:
        assert_packets_of_all_sizes_pass(pair)
        assert_nothing_is_lost(pair, inside=4, size=MTU - HEADERS[4])
        assert_nothing_is_lost(pair, inside=6, size=48)
        assert_streams_pass(pair, 6 if preshared else 4, reverse=outside == 6)


@pytest.mark.parametrize("ends", IF_PRESENT, ids=name_of)
def test_f60_traffic_passes_with_engines_that_are_here(
    engine: Engines, ends: tuple[str, str]
) -> None:
    left, right = map(engine, ends)
    with tunnel_pair(left, right, preshared=True) as pair:
        assert_packets_of_all_sizes_pass(pair)
        assert_nothing_is_lost(pair, inside=4, size=64)
        assert_streams_pass(pair, 6, reverse=False)


@pytest.mark.parametrize("ends", ALWAYS, ids=name_of)
def test_r58_bytes_are_counted_as_the_kernel_counts_them(
    engine: Engines, ends: tuple[str, str]
) -> None:
    """Ten pings: the handshake, 10 x 128 bytes, and perhaps one keepalive."""
    left, right = map(engine, ends)
    with tunnel_pair(left, right) as pair:
        assert ping(pair.left.host, pair.right.ipv4, count=10, interval=0.01).lost == 0
        # counted once it is sent, which may be after it has come
        wait_until(
            "the last answer's count",
            lambda: pair.right.engine.peer().tx_bytes >= 1372,
            timeout=10,
        )
        near, far = pair.left.engine.peer(), pair.right.engine.peer()
        assert near.rx_bytes == far.tx_bytes == 1372
        assert near.tx_bytes == far.rx_bytes
        assert near.tx_bytes in (1428, 1460)


def test_a_wrong_preshared_key_lets_nothing_pass(engine: Engines) -> None:
    """The twin of the tests above: they can fail."""
    ours, theirs = engine("ours"), engine("wireguard-go")
    with tunnel_pair(ours, theirs, preshared=True) as pair:
        pair.right.peers = [
            type(peer)(peer.public_key, peer.allowed_ips) for peer in pair.right.peers
        ]
        pair.right.engine.setconf(
            pair.right.identity, pair.right.peers, listen_port=51820
        )
        found = ping(pair.left.host, pair.right.ipv4, count=3, wait=1)
        assert found.lost == 3
        assert pair.left.engine.peer().handshake_ns == 0
