"""A server with two ways to its clients: answers follow its routes (R62, U13)."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from lab.echo import ping
from lab.network import Lab, Namespace
from lab.process import wait_until
from lab.traffic import Ping

from tunnel.state.model import PeerState

from .lanes import PORT, Member, packed

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]

SERVER_INSIDE = "10.77.1.1"
Source = tuple[bytes, int]


class Office:
    """Two clients that know the server by its second address of `eth0`. The server and
    the first one are joined by `eth1` as well."""

    def __init__(self, server: Member, first: Member, second: Member, ip: str) -> None:
        self.server, self.first, self.second = server, first, second
        self.family = socket.AF_INET if ip == "-4" else socket.AF_INET6
        self.ip = ip
        v4 = ip == "-4"
        self.known = "10.99.0.11" if v4 else "fd00:99::11"
        self.other = "10.98.0.1" if v4 else "fd00:98::1"  # the server's, of eth1
        self.gateway = "10.98.0.2" if v4 else "fd00:98::2"
        self.client = first.host.ipv4 if v4 else first.host.ipv6
        self.host_bits = "32" if v4 else "128"
        self.first_knows = self.known

    def connect(self) -> None:
        server = self.server
        subnet = ((packed("10.77.0.0"), 16),)
        clients = (self.first, self.second)
        server.change(
            peers={
                client.public: PeerState(
                    client.public, allowed_ips=((packed(inside(client)), 32),)
                )
                for client in clients
            }
        )
        for member in (server, *clients):
            if member is not server:
                text = self.first_knows if member is self.first else self.known
                known = (socket.inet_pton(self.family, text), PORT, 0)
                to_server = PeerState(server.public, endpoint=known, allowed_ips=subnet)
                member.change(peers={server.public: to_server})
            member.host.ip("address", "add", f"{inside(member)}/16", "dev", "wg0")
            member.host.ip("link", "set", "wg0", "up")
        for client in clients:
            wait_until(
                "the session",
                lambda c=client: ping(c.host, SERVER_INSIDE, count=1, wait=1).lost == 0,
                timeout=20,
            )

    def source(self, client: Member) -> Source | None:
        """Whence the server answers."""
        return self.server.call(
            lambda engine: engine.device.node.peers[client.public].path.source
        )

    def server_at(self, client: Member) -> str:
        """Where the client sees the server."""
        endpoint = client.call(
            lambda engine: engine.device.live_endpoint(self.server.public)
        )
        assert endpoint is not None
        return socket.inet_ntop(self.family, endpoint[0])

    def sticky(self, interface: str) -> Source:
        address = socket.inet_pton(self.family, self.known)
        host = self.server.host
        return address, host.call(lambda: socket.if_nametoindex(interface))


def inside(member: Member) -> str:
    return f"10.77.{member.host.number}.1"


def second_link(server: Namespace, client: Namespace) -> None:
    near = ["eth1", "index", "201", "type", "veth"]
    far = ["name", "eth1", "index", "202", "netns", str(client.pid)]
    server.ip("link", "add", *near, "peer", *far)
    for host in (server, client):
        host.ip("address", "add", f"10.98.0.{host.number}/24", "dev", "eth1")
        host.ip(
            *("address", "add", f"fd00:98::{host.number}/64", "dev", "eth1", "nodad")
        )
        host.ip("link", "set", "eth1", "up")
    server.ip("address", "add", "10.99.0.11/24", "dev", "eth0")
    server.ip("address", "add", "fd00:99::11/64", "dev", "eth0", "nodad")


def sent_through(host: Namespace, interface: str) -> int:
    """Packets so far."""
    lines = host.call(lambda: Path("/proc/thread-self/net/dev").read_text())
    (found,) = (line for line in lines.splitlines() if f"{interface}:" in line)
    return int(found.split(":")[1].split()[9])


def no_prejudice(host: Namespace) -> None:
    """Takes packets of IPv4 by any way, and says its addresses only where they are."""

    def write() -> None:
        conf = Path("/proc/sys/net/ipv4/conf")
        for name in ("all", "default", "eth0", "eth1"):
            (conf / name / "rp_filter").write_text("0")
        (conf / "all/arp_ignore").write_text("1")
        (conf / "all/arp_announce").write_text("2")

    host.call(write)


ELSEWHERE = "10.50.0.1", "fd00:50::1"  # the first client's, on none of its links


def by_two_ways(server: Namespace, client: Namespace) -> None:
    """The client comes from ELSEWHERE by `eth1`; to there the routes say `eth0`."""
    for host in (server, client):
        no_prejudice(host)
    for n, (ip, bits) in enumerate((("-4", 32), ("-6", 128))):
        address, gateway = f"{ELSEWHERE[n]}/{bits}", (client.ipv4, client.ipv6)[n]
        # or it is tentative for a moment, and no source of the route
        client.ip("address", "add", address, "dev", "lo", *(["nodad"] * n))
        there = f"{('10.98.0.1', 'fd00:98::1')[n]}/{bits}"
        client.ip(ip, "route", "add", there, "dev", "eth1", "src", ELSEWHERE[n])
        server.ip(ip, "route", "add", address, "via", gateway, "dev", "eth0")


@contextmanager
def office(ip: str, *, two_ways: bool = False) -> Iterator[Office]:
    with Lab("server", "first", "second") as lab, ExitStack() as stack:
        second_link(lab["server"], lab["first"])
        if two_ways:
            by_two_ways(lab["server"], lab["first"])
        members = []
        for n, host in enumerate(lab):
            members.append(Member(host, 1, bytes([n + 1]) * 32))
            stack.callback(members[-1].close)
        found = Office(members[0], members[1], members[2], ip)
        if two_ways:
            found.first_knows = found.other
        found.connect()
        yield found


class Pings:
    """Echoes from a client while the block runs."""

    def __init__(self, client: Member, count: int) -> None:
        self.seen: Ping | None = None
        self._thread = threading.Thread(target=self._run, args=(client, count))
        self._thread.start()

    def _run(self, client: Member, count: int) -> None:
        self.seen = ping(client.host, SERVER_INSIDE, count=count, interval=0.02)

    def finish(self) -> Ping:
        self._thread.join(60)
        assert self.seen is not None
        return self.seen


def test_r62_answers_follow_the_route() -> None:
    """Although packets of the peer keep coming in on the old way meanwhile."""
    ip = "-4"
    with office(ip) as found:
        host = found.server.host
        for client in (found.first, found.second):
            assert found.server_at(client) == found.known
            assert found.source(client) == found.sticky("eth0")
        pings = Pings(found.first, 200)
        target = f"{found.client}/{found.host_bits}"
        host.ip(ip, "route", "add", target, "via", found.gateway, "dev", "eth1")
        wait_until(
            "answers by the other way",
            lambda: found.server_at(found.first) == found.other,
            timeout=10,
        )
        assert pings.finish().lost <= 2
        other = socket.inet_pton(found.family, found.other)
        assert found.source(found.first) == (other, found.sticky("eth1")[1])
        # nothing has changed for the other one
        assert found.source(found.second) == found.sticky("eth0")
        assert ping(found.second.host, SERVER_INSIDE, count=3).lost == 0
        assert found.server_at(found.second) == found.known


def test_r62_of_ipv6_only_the_way_follows_the_route() -> None:
    """An address of ours is good on every interface, as for the kernel's module."""
    with office("-6") as found:
        host = found.server.host
        assert found.source(found.first) == found.sticky("eth0")
        pings = Pings(found.first, 200)
        target = [f"{found.client}/128", "via", found.gateway, "dev", "eth1"]
        before = sent_through(host, "eth1")
        host.ip("-6", "route", "add", *target)
        assert pings.finish().lost <= 2
        assert sent_through(host, "eth1") - before > 50
        assert found.source(found.first) == found.sticky("eth0")
        assert found.server_at(found.first) == found.known


@pytest.mark.parametrize("ip", ["-4", "-6"])
def test_r62_packets_that_come_in_by_another_way_than_answers_leave(ip: str) -> None:
    """From the first handshake on, with no change of a route. Of IPv4 the route chooses
    the source, too."""
    with office(ip, two_ways=True) as found:
        assert ping(found.first.host, SERVER_INSIDE, count=3).lost == 0
        sent = found.first.call(
            lambda engine: engine.device.node.counters["initiation.sent"]
        )
        assert sent == 1
        answered_by = found.server.host.ipv4 if ip == "-4" else found.other
        assert found.server_at(found.first) == answered_by
        source = found.source(found.first)
        assert source is not None
        assert source[0] == socket.inet_pton(found.family, answered_by)
        assert found.source(found.second) == found.sticky("eth0")


def test_r62_packets_that_begin_to_come_in_by_another_way() -> None:
    """Data of a peer that stays where it is; no route of the server changes."""
    with office("-4") as found:
        for member in (found.server, found.first):
            no_prejudice(member.host)
        assert found.source(found.first) == found.sticky("eth0")
        pings = Pings(found.first, 200)
        detour = [f"{found.known}/32", "via", found.other, "dev", "eth1"]
        found.first.host.ip("route", "add", *detour, "src", found.client)
        wait_until(
            "answers from the address of their route",
            lambda: found.server_at(found.first) == found.server.host.ipv4,
            timeout=10,
        )
        assert pings.finish().lost <= 2
        assert found.source(found.second) == found.sticky("eth0")


@pytest.mark.parametrize("ip", ["-4", "-6"])
def test_r62_an_address_that_is_no_longer_ours(ip: str) -> None:
    """It is forgotten without a packet to anybody."""
    with office(ip) as found:
        sent = found.server.counters()["udp_sent"]
        bits = "24" if ip == "-4" else "64"
        host = found.server.host
        host.ip(ip, "address", "del", f"{found.known}/{bits}", "dev", "eth0")
        for client in (found.first, found.second):
            wait_until(
                "the source to be forgotten",
                lambda c=client: found.source(c) is None,
                timeout=10,
            )
        assert found.server.counters()["udp_sent"] == sent
        # the server's own packets tell the clients where it is now
        for client in (found.first, found.second):
            assert ping(host, inside(client), count=3).lost == 0
            assert found.server_at(client) != found.known


def test_r62_a_source_is_remembered_again_when_the_route_is_back() -> None:
    with office("-4") as found:
        host = found.server.host
        route = [f"{found.client}/32", "dev", "eth1"]
        # what the server sends to the first client is lost, so that it stays there
        found.first.host.ip("link", "set", "eth1", "down")
        host.ip("link", "set", "eth1", "up")
        host.ip("route", "add", *route)
        wait_until(
            "the source to be forgotten",
            lambda: found.source(found.first) is None,
            timeout=10,
        )
        assert ping(found.first.host, SERVER_INSIDE, count=3, wait=1).received == 0
        assert found.source(found.first) is None  # refused, not learned anew
        host.ip("route", "del", *route)
        wait_until(
            "the route to be found good",
            lambda: found.source(found.first) == found.sticky("eth0"),
            timeout=10,
        )
        assert ping(found.server.host, inside(found.first), count=3).lost == 0
        assert found.server_at(found.first) == found.known
        assert found.source(found.second) == found.sticky("eth0")
