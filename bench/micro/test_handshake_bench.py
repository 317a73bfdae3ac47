"""A whole handshake, and the responder's half of it, with the real packet path behind.

Time is virtual (an argument), so the protocol's limits on how often a peer may start
do not stand in the way; no socket is involved.
"""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tunnel._fastpath.pump import PathEvent, Pump
from tunnel._fastpath.x25519 import PrivateKey, exchange, kernels
from tunnel.constants import SECOND
from tunnel.protocol import noise
from tunnel.protocol.cookie import mac1_key
from tunnel.protocol.inbox import Received
from tunnel.protocol.messages import Initiation
from tunnel.protocol.node import Node
from tunnel.protocol.primitives import mac
from tunnel.protocol.tai64n import Clock
from tunnel.protocol.together import Pair
from tunnel.protocol.types import Endpoint, Timing

WALL = 1_700_000_000 * SECOND
CLIENTS = 64
FAR = Endpoint(bytes([192, 0, 2, 1]), 51820)


class Side:
    """One end: a Node and a pump that carries nothing."""

    def __init__(self) -> None:
        self.tun, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pump = Pump(inner.fileno())
        inner.close()
        self.node = Node(Timing(), random.Random(1), os.urandom)
        self.node.set_private_key(os.urandom(32), SECOND)
        self.node.up(SECOND)

    @property
    def public(self) -> bytes:
        assert self.node.public_key is not None
        return self.node.public_key

    def know(self, other: Side) -> None:
        path = self.pump.add_peer(None)
        path.set_endpoint(FAR)
        self.node.add_peer(other.public, path)

    def take(self) -> bytes:
        (datagram,) = self.node.to_send()
        while self.node.next_event() is not None:
            pass
        self.pump.drain()
        return datagram.data

    def close(self) -> None:
        self.pump.stop()
        self.tun.close()


class Ends:
    """An initiator and a responder; each handshake is a rekey of the last session."""

    def __init__(self) -> None:
        self.initiator, self.responder = Side(), Side()
        self.initiator.know(self.responder)
        self.responder.know(self.initiator)
        self.now = 10 * SECOND

    def initiation(self) -> bytes:
        self.now += 130 * SECOND  # old enough for a rekey
        node = self.initiator.node
        peer = node.peers[self.responder.public]
        bits = PathEvent.NEEDS_SESSION | PathEvent.REKEY
        node.path_event(peer, bits, self.now, WALL + self.now)
        return self.initiator.take()

    def answer(self, initiation: bytes) -> bytes:
        node = self.responder.node
        node.receive(initiation, FAR, None, self.now, WALL + self.now, queued=0)
        return self.responder.take()

    def finish(self, response: bytes) -> None:
        node = self.initiator.node
        node.receive(response, FAR, None, self.now, WALL + self.now, queued=0)
        while node.next_event() is not None:
            pass
        self.initiator.pump.drain()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.initiator.close()
    made.responder.close()


def test_whole_handshake(benchmark: BenchmarkFixture, ends: Ends) -> None:
    benchmark.group = "handshake"
    benchmark(lambda: ends.finish(ends.answer(ends.initiation())))
    assert ends.initiator.node.peers[ends.responder.public].last_handshake_wall > 0


def test_responder(benchmark: BenchmarkFixture, ends: Ends) -> None:
    """What a server pays for each client that connects."""
    benchmark.group = "handshake"
    benchmark.pedantic(
        ends.answer, setup=lambda: ((ends.initiation(),), {}), rounds=300, iterations=1
    )


class Server(Side):
    """Knows CLIENTS clients, each of which has called once."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = []
        key = mac1_key(self.public)
        for index in range(CLIENTS):
            client, us = noise.Identity(os.urandom(32)), noise.Remote(self.public)
            path = self.pump.add_peer(None)
            self.node.add_peer(client.public, path)
            fields, _ = noise.create_initiation(
                client, us, Clock().stamp(WALL), os.urandom(32)
            )
            body = Initiation(index, *fields).pack()
            message = body + mac(key, body) + bytes(16)
            self.calls.append(Received(message, FAR, None))

    def answer_all(self, at_once: int) -> None:
        for start in range(0, CLIENTS, at_once):
            some = self.calls[start : start + at_once]
            self.node.receive_many(some, SECOND, WALL, queued=0)
        assert len(self.node.to_send()) == CLIENTS
        while self.node.next_event() is not None:
            pass


@pytest.mark.parametrize("at_once", [1, 8, 32])
def test_clients_that_call_for_the_first_time(
    benchmark: BenchmarkFixture, at_once: int
) -> None:
    benchmark.group = f"{CLIENTS} first handshakes"
    benchmark.extra_info["calls"] = CLIENTS
    servers: list[Server] = []

    def fresh() -> tuple[tuple[Server, int], dict[str, object]]:
        servers.append(Server())
        return (servers[-1], at_once), {}

    benchmark.pedantic(Server.answer_all, setup=fresh, rounds=5, iterations=1)
    for server in servers:
        server.close()


@pytest.mark.parametrize("kernel", kernels())
def test_x25519(benchmark: BenchmarkFixture, kernel: str) -> None:
    """Thirty-two exchanges at once, one by one in the library."""
    benchmark.group = "X25519"
    benchmark.extra_info["calls"] = 32
    point = PrivateKey(os.urandom(32)).public
    pairs: list[Pair] = [(PrivateKey(os.urandom(32)), point) for _ in range(32)]
    results = benchmark(lambda: exchange(pairs, kernel=kernel))
    assert None not in results
