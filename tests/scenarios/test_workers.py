"""Several workers over real TUN queues and sockets: what is lost, misrouted, reordered.

On a machine with few CPUs the workers only get in each other's way, which is what
these tests want.
"""

from __future__ import annotations

import random
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice

import pytest
from lab.echo import ping
from lab.process import wait_until
from lab.streams import StreamReport, Streams

from tunnel.io import tun_linux, udp
from tunnel.io.steering_linux import queue_of
from tunnel.state.model import PeerState

from .lanes import Star, packed, star, voluntary_switches

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]

SECONDS = 2.0
RATE = 60  # packets per second of each flow


def warm(star: Star) -> None:
    """Every pair has a session, so that what follows is not a matter of handshakes."""
    for client in star.clients:
        near, far = star.inside(star.hub)[0], star.inside(client)[0]
        wait_until(
            "the session",
            lambda c=client, f=far: ping(star.hub.host, f, count=1, wait=1).lost == 0,
            timeout=20,
        )
        assert ping(client.host, near, count=1).lost == 0


def total(streams: Streams) -> StreamReport:
    return StreamReport.merge(streams.finish())


def assert_all_in_order(seen: StreamReport) -> None:
    assert seen.received > 0
    assert (seen.lost, seen.duplicated, seen.misrouted, seen.reordered) == (0, 0, 0, 0)


@pytest.mark.parametrize("workers", [2, 3])
def test_many_flows_of_many_peers_both_ways(workers: int) -> None:
    with star(workers, clients=4) as found:
        hub = found.hub
        assert hub.engine.workers == workers
        assert len(hub.engine.tun.more_queues) == workers - 1
        warm(found)
        before = hub.counters()
        flows = found.streams(8)
        assert_all_in_order(total(Streams(flows, rate=RATE, seconds=SECONDS)))
        after = hub.counters()
        moved = after["tun_read"] - before["tun_read"]
        assert moved >= len(flows) // 2 * RATE * SECONDS
        # what comes in goes to its worker at once, and so do packets to single hosts
        handed = after["handed_over"] - before["handed_over"]
        expected = sum(
            queue_of(packed(address), workers) != path.worker
            for client in found.clients
            for path in [hub.engine.device.node.peers[client.public].path]
            for address in found.inside(client)
        )
        assert handed <= expected / (2 * len(found.clients)) * moved + 20
        assert hub.drops() == {}


@pytest.mark.parametrize("workers", [2, 3])
def test_reloads_at_the_same_time(workers: int, seed: int) -> None:
    """Peers come, go and take prefixes from each other; the traffic does not notice."""
    rng = random.Random(seed)
    with star(workers, clients=3) as found, ExitStack() as stack:
        warm(found)
        streams = Streams(found.streams(6), rate=RATE, seconds=3)
        stack.callback(streams.close)
        base = dict(found.hub.state.peers)
        spare = [PeerState(rng.randbytes(32)) for _ in range(20)]
        changes = 0
        while streams.running:
            peers = dict(base)
            numbers = iter(rng.sample(range(60), 60))  # each prefix has one owner
            for peer in rng.sample(spare, rng.randrange(len(spare))):
                prefixes = tuple(
                    (bytes([10, 99, n, 0]), 24) for n in islice(numbers, 3)
                )
                peers[peer.public_key] = replace(peer, allowed_ips=prefixes)
            owner = rng.choice(list(base))
            moved = (*base[owner].allowed_ips, (bytes([10, 78, 0, 0]), 16))
            peers[owner] = replace(base[owner], allowed_ips=moved)
            found.hub.change(peers=peers)
            changes += 1
        assert changes > 20
        assert_all_in_order(total(streams))


def test_the_listen_port_changes_under_load() -> None:
    """What was under way to the old port is lost, and nothing comes out of order."""
    with star(3, clients=3) as found, ExitStack() as stack:
        warm(found)
        streams = Streams(found.streams(6), rate=RATE, seconds=3)
        stack.callback(streams.close)
        for n in range(4):
            time.sleep(0.5)
            found.hub.change(listen_port=51900 + n)
        seen = total(streams)
        assert (seen.duplicated, seen.misrouted, seen.reordered) == (0, 0, 0)
        assert seen.lost < seen.sent // 50
        assert_all_in_order(total(Streams(found.streams(6), rate=RATE, seconds=0.5)))


@pytest.mark.parametrize("refused", ["queues", "sockets", "both"])
def test_without_steering_everything_is_handed_over(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system that refuses the programs: one queue, strays from socket to worker."""
    if refused != "sockets":
        monkeypatch.setattr(tun_linux, "steer_queues", lambda *_: False)
    if refused != "queues":
        monkeypatch.setattr(udp, "steer_sockets", lambda *_: False)
    with star(3, clients=3) as found:
        queues = len(found.hub.engine.tun.more_queues)
        assert queues == (2 if refused == "sockets" else 0)
        warm(found)
        assert_all_in_order(
            total(Streams(found.streams(6), rate=RATE, seconds=SECONDS))
        )
        assert found.hub.counters()["handed_over"] > 0
        assert found.hub.drops() == {}


def test_first_packets_wait_for_their_session_at_any_worker() -> None:
    """Flows begin before there is a session; the sender's order holds."""
    with star(3, clients=3) as found:
        # one way: two ends that begin at the same instant wait for a second attempt
        flows = [flow for flow in found.streams(4) if flow.near is found.hub.host]
        assert_all_in_order(total(Streams(flows, rate=20, seconds=1)))
        assert found.hub.drops() == {}


def test_idle_workers_sleep() -> None:
    before = {t.native_id for t in threading.enumerate()}
    with star(3, clients=2) as found:
        warm(found)
        names = ("tunnel-pump", "tunnel-helper")
        pumps = [
            t.native_id
            for t in threading.enumerate()
            if t.name.startswith(names) and t.native_id not in before
        ]
        assert len(pumps) == 2 * (3 + 3 + 1)
        for member in (found.hub, *found.clients):
            member.host.ip("link", "set", "wg0", "down")  # no timers, no neighbours
        threads = [number for number in pumps if number is not None]

        def asleep(seconds: float) -> bool:
            switches = voluntary_switches(threads)
            time.sleep(seconds)
            return voluntary_switches(threads) == switches

        # not at once: something may be under way still
        wait_until("workers that sleep", lambda: asleep(2), timeout=20)
