"""Nine rows, each of what its name says, with a figure that another engine published.

`extra_info` has the number of operations and of bytes that one call stands for, and the
other engine's `published` figure in `unit` (measured elsewhere and, for the loopback
and the look-up, of something else: 67 GB/s is a copy in memory, 737 ns a walk along a
list). Everything here is called from Python; what the packet path does in C is timed
without Python by `bench/ciphers` and `bench_lookup`.
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tunnel._fastpath.aead import open_batch, seal_batch
from tunnel._fastpath.allowedips import AllowedIPs
from tunnel.engine import Engine
from tunnel.protocol.messages import DataHeader, unpack
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret, clamp

GROUP = "rows"
KEY = bytes(range(32))
PACKET_BYTES = 1420
BATCH = 64
PEERS = 100
PREFIXES = 1000
LOCALHOST = bytes([127, 0, 0, 1])


@pytest.fixture
def row(benchmark: BenchmarkFixture) -> BenchmarkFixture:
    benchmark.group = GROUP
    return benchmark


def note(
    row: BenchmarkFixture, unit: str, published: float, *, calls: int = 1, size: int = 0
) -> None:
    """`size` bytes for each of the `calls` that one timed call makes."""
    row.extra_info.update(unit=unit, published=published, calls=calls, size=size)


def test_key_generation(row: BenchmarkFixture) -> None:
    """A private key, and the public key that belongs to it (X25519)."""
    note(row, "ns", 210)
    public = row(lambda: PrivateKey(os.urandom(32)).public)
    assert len(public) == 32


def test_seal(row: BenchmarkFixture) -> None:
    note(row, "MB/s", 554, calls=BATCH, size=PACKET_BYTES)
    packets, counters = [bytes(PACKET_BYTES)] * BATCH, list(range(BATCH))
    sealed = row(seal_batch, KEY, packets, counters)
    assert len(sealed[0]) == PACKET_BYTES + 16


def test_open(row: BenchmarkFixture) -> None:
    note(row, "MB/s", 849, calls=BATCH, size=PACKET_BYTES)
    packets, counters = [bytes(PACKET_BYTES)] * BATCH, list(range(BATCH))
    opened = row(open_batch, KEY, seal_batch(KEY, packets, counters), counters)
    assert opened == packets


def test_encode(row: BenchmarkFixture) -> None:
    """A data message of its parts: header, and what was sealed."""
    note(row, "MB/s", 1330, size=PACKET_BYTES)
    sealed = bytes(PACKET_BYTES + 16)
    message = row(lambda: DataHeader(7, 1 << 40).pack() + sealed)
    assert unpack(message) == DataHeader(7, 1 << 40)


def test_decode(row: BenchmarkFixture) -> None:
    """The parts of a data message, checked: type, reserved bytes, length."""
    note(row, "MB/s", 1290, size=PACKET_BYTES)
    message = DataHeader(7, 1 << 40).pack() + bytes(PACKET_BYTES + 16)

    def decode() -> tuple[object, bytes]:
        return unpack(message), message[16:]

    header, sealed = row(decode)
    assert header == DataHeader(7, 1 << 40)
    assert len(sealed) == PACKET_BYTES + 16


# --- engines


def inner(number: int) -> bytes:
    return bytes([10, 0, number >> 8, number & 255])


def loopback(number: int) -> InterfaceState:
    return InterfaceState(
        kind="loopback", name=f"memory{number}", addresses=((inner(number), 16),)
    )


@dataclass(slots=True)
class End:
    """An engine with one peer, the other end, and its control loop in a thread."""

    number: int
    secret: Secret
    engine: Engine

    @property
    def public(self) -> bytes:
        return PrivateKey(self.secret.reveal()).public

    @property
    def state(self) -> DeviceState:
        return DeviceState(private_key=self.secret, interface=loopback(self.number))

    def meet(self, other: End) -> None:
        port = other.engine.submit(lambda: other.engine.device.listen_port).result(5)
        peer = PeerState(
            other.public,
            endpoint=(LOCALHOST, port, 0),
            allowed_ips=((inner(other.number), 32),),
        )
        state = replace(self.state, peers={other.public: peer})
        engine = self.engine
        engine.submit(lambda: engine.apply(engine.plan(state))).result(5)


@contextmanager
def running(number: int) -> Iterator[End]:
    engine = Engine(loopback(number))
    end = End(number, Secret(clamp(os.urandom(32))), engine)

    def run() -> None:
        engine.start(end.state)
        engine.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield end
    finally:
        engine.stop()
        thread.join(10)
        engine.close()


def packet(source: int, target: int) -> bytes:
    fields = (0x45, 0, PACKET_BYTES, 7, 0, 64, socket.IPPROTO_UDP, 0)
    head = struct.pack(">BBHHHBBH", *fields) + inner(source) + inner(target)
    return head + bytes(PACKET_BYTES - len(head))


def test_loopback_dataplane(row: BenchmarkFixture) -> None:
    """Through a tunnel: two engines, encrypted, over real UDP sockets of this host."""
    note(row, "MB/s", 67_000, calls=BATCH, size=PACKET_BYTES)
    with ExitStack() as stack:
        near, far = (stack.enter_context(running(n)) for n in (1, 2))
        near.meet(far)
        far.meet(near)
        data = packet(1, 2)

        def burst() -> int:
            for _ in range(BATCH):
                near.engine.packets.send(data, timeout=5)
            return sum(far.engine.packets.recv(timeout=5) == data for _ in range(BATCH))

        assert row(burst) == BATCH


@contextmanager
def server() -> Iterator[tuple[Engine, DeviceState]]:
    """An engine with PEERS peers, controlled by this thread."""
    rng = random.Random(3)
    peers = {
        key: PeerState(key, allowed_ips=((inner(number), 32),))
        for number, key in enumerate((rng.randbytes(32) for _ in range(PEERS)), 1)
    }
    secret = Secret(clamp(os.urandom(32)))
    state = DeviceState(private_key=secret, interface=loopback(0), peers=peers)
    engine = Engine(state.interface)
    try:
        engine.start(state)
        yield engine, state
    finally:
        engine.close()


def test_device_snapshot(row: BenchmarkFixture) -> None:
    """All that can be known of a device with 100 peers, live values included."""
    note(row, "ns", 513)
    with server() as (engine, _):
        status = row(engine.device.status)
    assert len(status.peers) == PEERS


def test_peer_update(row: BenchmarkFixture) -> None:
    """One of 100 peers gets other allowed IPs: compared, planned, applied, in force."""
    note(row, "ns", 630)
    with server() as (engine, state):
        key, peer = next(iter(state.peers.items()))
        ways = [
            replace(state, peers={**state.peers, key: replace(peer, allowed_ips=ips)})
            for ips in (((inner(5000), 32),), ((inner(5001), 32),))
        ]

        def update() -> None:
            ways.reverse()
            engine.apply(engine.plan(ways[0]))

        row(update)
        assert engine.device.observe().peers[key] == ways[0].peers[key]


def test_route_lookup(row: BenchmarkFixture) -> None:
    """Addresses of 1,000 prefixes, each looked up once the one before is known."""
    rng = random.Random(4)
    table = AllowedIPs()
    with table.transaction():
        for value in range(1, PREFIXES + 1):
            table.insert(rng.randbytes(4), rng.randint(16, 32), value)
    addresses = rng.randbytes(4 * 4096)
    note(row, "ns", 737, calls=len(addresses) // 4)
    assert table.lookup_many(addresses) == [
        table.lookup(addresses[n : n + 4]) for n in range(0, len(addresses), 4)
    ]
    assert row(table.bench_lookup, addresses, 1, dependent=True) > 0
