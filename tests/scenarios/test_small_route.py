"""F37: a route with MTU 1280 under a tunnel with MTU 1420, trains switched on.

A train of datagrams that are larger than the route's MTU is refused as a whole (U7).
They go out one by one then and in IP fragments, to this peer only.
"""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab.network import Namespace

from .lanes import Member, Star, star

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]

SMALL = 1280
BYTES = 8 << 20
PORT = 7300


def counted(host: Namespace, version: int) -> dict[str, int]:
    """Fragments that this host has made, and put together."""
    text = Path(f"/proc/{host.pid}/net/{'snmp6' if version == 6 else 'snmp'}")
    lines = [line.split() for line in text.read_text().splitlines()]
    if version == 6:
        found = {name.removeprefix("Ip6"): int(value) for name, value in lines}
    else:
        heads, values = (line[1:] for line in lines if line[0] == "Ip:")
        found = dict(zip(heads, map(int, values), strict=True))
    return {name: found[name] for name in ("FragCreates", "ReasmOKs", "ReasmFails")}


@dataclass
class Moved:
    """What a transfer changed at its sender and at its receiver."""

    sent: int  # datagrams
    sends: int  # calls that took them: fewer, where trains left
    fragments: int
    reassembled: int


def transfer(
    near: Member,
    far: Member,
    target: str,
    version: int = 4,
    amid: Callable[[], object] | None = None,
) -> Moved:
    """Random bytes over TCP through the tunnel, all of which must arrive; `amid` is
    called once the first of them have."""
    before, made = near.counters(), counted(near.host, version)
    whole = counted(far.host, version)
    sent, seen = os.urandom(BYTES), hashlib.sha256()
    with far.host.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.bind((target, PORT))
        listener.listen()
        client = near.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        writer = threading.Thread(target=send, args=(client, (target, PORT), sent))
        writer.start()
        listener.settimeout(20)
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(20)
            while data := connection.recv(1 << 16):
                seen.update(data)
                if amid is not None:
                    amid()
                    amid = None
        writer.join()
    assert seen.digest() == hashlib.sha256(sent).digest()
    after = near.counters()
    assert counted(far.host, version)["ReasmFails"] == whole["ReasmFails"]
    return Moved(
        after["udp_sent"] - before["udp_sent"],
        after["udp_sends"] - before["udp_sends"],
        counted(near.host, version)["FragCreates"] - made["FragCreates"],
        counted(far.host, version)["ReasmOKs"] - whole["ReasmOKs"],
    )


def send(client: socket.socket, to: tuple[str, int], data: bytes) -> None:
    with client:
        client.connect(to)
        client.sendall(data)


def handshakes(member: Member) -> int:
    counters = member.call(lambda engine: dict(engine.device.status().counters))
    return counters.get("response.sent", 0) + counters.get("response.received", 0)


def assert_trains(moved: Moved) -> None:
    assert moved.sends < moved.sent / 4
    assert moved.fragments == 0


def assert_fragments(moved: Moved) -> None:
    """Two for each full datagram, and hardly any train: of short ones, or refused."""
    full = BYTES // 1420
    assert moved.sent - moved.sends < full / 10
    assert moved.fragments >= 2 * 0.9 * full
    assert moved.reassembled >= 0.9 * full


@contextmanager
def office(version: int) -> Iterator[tuple[Star, str, str]]:
    """A hub with two clients, their inside addresses; `version` is that of outside."""
    with star(1, clients=2) as found:
        hub = found.hub
        if version == 6:
            clients = {
                client.public: found.peer(client, endpoint=endpoint(client.host))
                for client in found.clients
            }
            hub.change(peers=clients)
        wide, narrow = (found.inside(client)[0] for client in found.clients)
        for client, inside in zip(found.clients, (wide, narrow), strict=True):
            assert_trains(transfer(hub, client, inside, version))
        yield found, wide, narrow


def endpoint(host: Namespace) -> tuple[bytes, int, int]:
    return socket.inet_pton(socket.AF_INET6, host.ipv6), 51820, 0


@pytest.mark.parametrize("version", [4, 6])
def test_f37_a_smaller_route_costs_one_peer_its_trains(version: int) -> None:
    with office(version) as (found, wide, narrow):
        hub, (near, far) = found.hub, found.clients
        before = handshakes(hub)
        address = far.host.ipv6 if version == 6 else far.host.ipv4
        hub.host.ip(
            *(f"-{version}", "route", "add", address),
            *("dev", "eth0", "mtu", str(SMALL)),
        )
        assert_fragments(transfer(hub, far, narrow, version))
        assert_trains(transfer(hub, near, wide, version))
        assert_fragments(transfer(hub, far, narrow, version))  # and still
        assert_trains(transfer(far, hub, found.inside(hub)[0], version))
        assert handshakes(hub) == before
        assert hub.drops() == near.drops() == far.drops() == {}


def test_f37_the_link_shrinks_under_a_stream() -> None:
    """And packets inside that fit it leave in trains again."""
    with office(4) as (found, _, narrow):
        hub, (_, far) = found.hub, found.clients
        before = handshakes(hub)

        def shrink() -> None:
            hub.host.ip("link", "set", "eth0", "mtu", str(SMALL))

        assert transfer(hub, far, narrow, amid=shrink).reassembled > 0
        assert_fragments(transfer(hub, far, narrow))
        hub.host.ip("link", "set", "wg0", "mtu", "1180")
        assert_trains(transfer(hub, far, narrow))
        assert handshakes(hub) == before
        assert hub.drops() == far.drops() == {}
