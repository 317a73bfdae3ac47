"""A hundred clients of one server: handshakes, routing and source checks (R53).

All of them are engines in this process with interfaces in memory; their datagrams
take real UDP sockets on the loopback of a namespace.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pytest
from lab.network import Lab
from lab.process import wait_until

from tunnel.engine import Engine
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Prefix,
    Secret,
)
from tunnel.status import DeviceStatus

pytestmark = pytest.mark.root

CLIENTS = 100
PACKETS = 5  # of each client
SERVER = "10.88.255.254"
LOOPBACK = InterfaceState(kind="loopback", name="memory")


def packet(source: str, destination: str, mark: int, number: int) -> bytes:
    """IPv4 and UDP; the payload says who sent it and which one it is."""
    payload = struct.pack("!HH", mark, number)
    udp = struct.pack("!HHHH", 7000, 7000, 8 + len(payload), 0)
    fields = (0x45, 0, 28 + len(payload), 0, 0, 64, socket.IPPROTO_UDP, 0)
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    return struct.pack("!BBHHHBBH", *fields) + ends + udp + payload


def parsed(data: bytes) -> tuple[str, str, int, int]:
    """Source, destination, mark and number of a packet of ours."""
    mark, number = struct.unpack_from("!HH", data, 28)
    return socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), mark, number


def prefix(text: str) -> Prefix:
    address, _, length = text.partition("/")
    return socket.inet_aton(address), int(length or 32)


class Member:
    """A running engine in a thread of its own."""

    def __init__(self, key: bytes, peers: list[PeerState]) -> None:
        self._desired = DeviceState(
            private_key=Secret(key),
            interface=LOOPBACK,
            peers={peer.public_key: peer for peer in peers},
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.engine: Engine | None = None

    def _run(self) -> None:
        engine = Engine(LOOPBACK)
        try:
            engine.start(self._desired)
            self.engine = engine
            self._ready.set()
            engine.run()
        finally:
            engine.close()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.running.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    @property
    def running(self) -> Engine:
        assert self.engine is not None
        return self.engine

    def status(self) -> DeviceStatus:
        return self.running.submit(self.running.device.status).result(5)

    def send(self, data: bytes) -> None:
        self.running.packets.send(data, timeout=5)

    def received(self, wanted: int, patience: float = 15) -> list[bytes]:
        """`wanted` packets, or as many as come within `patience` seconds."""
        found: list[bytes] = []
        deadline = time.monotonic() + patience
        while len(found) < wanted:
            try:
                left = max(0.0, deadline - time.monotonic())
                found.append(self.running.packets.recv(timeout=left))
            except TimeoutError:
                break
        return found


@dataclass
class Hub:
    server: Member
    clients: list[Member]

    def dropped(self) -> int:
        return self.server.status().counters["drop.rx_source"]

    def assert_drops(self, before: int, count: int) -> None:
        """So many more than `before`, however long it takes, and none arrives."""
        wanted = before + count
        wait_until("the drops", lambda: self.dropped() >= wanted, timeout=15)
        assert self.server.received(1, patience=0.5) == []
        assert self.dropped() == wanted


def address_of(client: int) -> str:
    return f"10.88.0.{client}"


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Client 0 owns 10.88.0.0/16, each other one a single address within it."""
    owned = ["10.88.0.0/16"] + [f"{address_of(n)}/32" for n in range(1, CLIENTS)]
    with Lab("loop") as lab, ExitStack() as stack:
        host = lab["loop"]
        keys = [os.urandom(32) for _ in range(CLIENTS + 1)]
        publics = [PrivateKey(key).public for key in keys]
        # Threads are in the network of the thread that starts them.
        peers = [
            PeerState(public, allowed_ips=(prefix(text),))
            for public, text in zip(publics[1:], owned, strict=True)
        ]
        server = host.call(lambda: stack.enter_context(Member(keys[0], peers)))
        port = server.status().listen_port
        to_server = PeerState(
            publics[0],
            endpoint=(socket.inet_aton("127.0.0.1"), port, 0),
            allowed_ips=(prefix("10.88.0.0/16"),),
        )
        clients = [
            host.call(lambda key=key: stack.enter_context(Member(key, [to_server])))
            for key in keys[1:]
        ]
        yield Hub(server, clients)


def greet(hub: Hub) -> list[tuple[str, str, int, int]]:
    """Every client sends PACKETS packets; what the server got."""
    for number in range(PACKETS):
        for mark, client in enumerate(hub.clients):
            client.send(packet(address_of(mark), SERVER, mark, number))
    return [parsed(data) for data in hub.server.received(CLIENTS * PACKETS)]


def test_all_handshakes_complete_and_every_packet_arrives(hub: Hub) -> None:
    expected = sorted(
        (address_of(mark), SERVER, mark, number)
        for mark in range(CLIENTS)
        for number in range(PACKETS)
    )
    assert sorted(greet(hub)) == expected
    assert all(peer.last_handshake for peer in hub.server.status().peers)
    for client in hub.clients:
        assert client.status().peers[0].last_handshake


def test_answers_reach_their_client_and_nobody_else(hub: Hub) -> None:
    greet(hub)
    for mark in range(CLIENTS):
        hub.server.send(packet(SERVER, address_of(mark), mark, 0))
    hub.server.send(packet(SERVER, "10.88.77.7", 0, 1))  # only in client 0's /16
    for mark, client in enumerate(hub.clients):
        own = [(SERVER, address_of(mark), mark, 0)]
        if mark == 0:
            own.append((SERVER, "10.88.77.7", 0, 1))
        assert [parsed(each) for each in client.received(len(own))] == own
    for client in hub.clients:
        assert client.received(1, patience=0.005) == []


def test_r53_another_peer_s_address_is_dropped_and_counted(hub: Hub) -> None:
    greet(hub)
    before = hub.dropped()
    for mark, client in enumerate(hub.clients):
        other = (mark + 1) % CLIENTS or 1  # client 0 has no address of its own
        client.send(packet(address_of(other), SERVER, mark, 0))
    hub.assert_drops(before, CLIENTS)


@pytest.mark.parametrize(
    ("client", "source", "passes"),
    [
        (0, "10.88.77.7", True),  # the /16 alone owns it
        (0, "10.88.0.5", False),  # inside the /16, but the /32 is longer
        (5, "10.88.0.5", True),
        (5, "10.88.77.7", False),
        (5, "10.88.0.6", False),
        (5, "192.0.2.1", False),  # nobody's
    ],
)
def test_r53_the_longest_prefix_of_all_peers_decides(
    hub: Hub, client: int, source: str, passes: bool
) -> None:
    greet(hub)
    before = hub.dropped()
    hub.clients[client].send(packet(source, SERVER, client, 9))
    if not passes:
        hub.assert_drops(before, 1)
        return
    found = [parsed(data) for data in hub.server.received(1)]
    assert found == [(source, SERVER, client, 9)]
    assert hub.dropped() == before
