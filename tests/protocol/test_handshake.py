"""Handshake messages: what is refused, and that it changes nothing."""

from __future__ import annotations

import random

import pytest

from tunnel._fastpath.x25519 import exchange
from tunnel.constants import HANDSHAKE_TOS, MILLISECOND, SECOND
from tunnel.protocol import together
from tunnel.protocol.events import HandshakeComplete
from tunnel.protocol.messages import Initiation, Response, unpack
from tunnel.protocol.together import Pair, Results

from .scripted import alone, corrupted, snapshot
from .world import World, kind_of

# The points of order 1, 2, 4 and 8 and their non-canonical forms (Linux
# tools/testing/selftests/wireguard/netns.sh)
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def test_two_ends_exchange_data() -> None:
    world = World()
    a, b = world.pair()
    a.say(b, b"one")
    world.run(1)
    b.say(a, b"two")
    world.run(1)
    assert (b.heard(a), a.heard(b)) == ([b"one"], [b"two"])
    assert a.kinds() == ["initiation", "data"]
    assert b.kinds() == ["response", "data"]
    assert a.peer(b).last_handshake_wall > 0
    assert HandshakeComplete(a.peer(b)) in a.events
    assert HandshakeComplete(b.peer(a)) in b.events


def test_handshake_messages_carry_their_dscp() -> None:
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(1)
    marks = {packet.kind: packet.tos for packet in a.sent + b.sent}
    assert marks == {"initiation": HANDSHAKE_TOS, "response": HANDSHAKE_TOS, "data": 0}


# --- R2, R15, R16: what strangers and noise cannot do


def test_r2_garbage_is_answered_by_nothing(seed: int) -> None:
    rng = random.Random(seed)
    _world, host, far = alone(seed)
    far.confirmed()
    host.kinds()
    before = snapshot(far)
    for _ in range(500):
        data = rng.randbytes(rng.choice([0, 3, 16, 31, 32, 64, 92, 148, 1500]))
        if data and rng.random() < 0.8:
            data = bytes([rng.randrange(1, 4), 0, 0, 0]) + data[4:]
        host.hear(data, (rng.randbytes(4), 1, 0))
    assert host.kinds() == []
    assert snapshot(far) == before


def test_r2_a_stranger_with_a_good_mac1_gets_nothing() -> None:
    world, host, far = alone()
    host.node.remove_peer(far.peer.public_key)
    for _ in range(20):
        far.send(far.initiation())
        world.run(1)
    assert host.kinds() == []
    assert host.node.indices == 0
    assert host.node.next_deadline() is None
    assert host.node.counters["handshake.unknown_peer"] == 20


def test_r15_every_flipped_bit_of_an_initiation_leaves_the_peer_alone() -> None:
    world, host, far = alone()
    far.peer.initiate(world.now, world.wall)
    host.drain()
    good = far.initiation()
    before = snapshot(far)
    host.kinds()
    covered = 8 * (len(good) - 32)
    for bit in [*range(0, covered, 7), *range(covered, 8 * len(good) - 128)]:
        far.send(corrupted(good, bit))
        # and with a right mac1 over the wrong content
        if bit < covered:
            far.send(far.macs(far.unmac(corrupted(good, bit)))) if bit >= 64 else None
    assert host.kinds() == []
    assert snapshot(far) == before
    far.send(good)
    assert host.kinds() == ["response"]


def test_r15_every_flipped_bit_of_a_response_leaves_the_handshake_pending() -> None:
    _world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    good = far.response(host.last("initiation"))
    before = snapshot(far)
    host.kinds()
    for bit in range(96, 8 * (len(good) - 32)):
        far.send(far.macs(far.unmac(corrupted(good, bit))))
    for cut in range(1, len(good)):
        far.send(good[:-cut])
    assert host.kinds() == []
    assert snapshot(far) == before
    far.send(good)
    assert host.kinds() == ["data"]


def test_r15_psk_mismatch_fails_cleanly_and_is_retried() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    far.send(far.response(host.last("initiation"), psk=b"p" * 32))
    assert host.kinds() == ["initiation"]
    assert host.node.counters["handshake.undecryptable"] == 1
    world.run(5.1)
    assert host.kinds() == ["initiation"]


def test_r16_a_replayed_response_does_nothing() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    response = far.response(host.last("initiation"))
    far.send(response)
    host.kinds()
    before = snapshot(far)
    world.now += 1
    far.send(response)
    assert host.kinds() == []
    assert snapshot(far) == before


def test_r16_a_response_to_an_older_initiation_is_refused() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    late = far.response(host.last("initiation"))
    world.run(5.5)
    host.kinds()
    far.send(late)
    assert host.kinds() == []
    assert host.node.counters["handshake.unknown_index"] == 1
    world.run(5.5)
    far.answer()
    assert host.kinds()[-1] == "data"


def test_r15_response_after_a_long_round_trip_is_accepted() -> None:
    """Nothing clears a pending handshake before it is retransmitted."""
    world = World(delay=2400 * MILLISECOND)
    a, b = world.pair()
    a.say(b)
    world.run(20)
    assert b.heard(a) == [b"hello"]
    assert a.kinds().count("initiation") == 1


# --- R6, R7, R8


@pytest.mark.parametrize("key", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_r7_peer_of_low_order_never_emits(key: bytes) -> None:
    world = World()
    host = world.host()
    path = host.new_path()
    path.set_endpoint((bytes(4), 9, 0))
    peer = host.node.add_peer(key, path, keepalive=1)
    assert peer is not None
    path.token = peer
    peer.set_keepalive(2, world.now, True)
    path.send(b"anything")
    host.drain()
    world.run(30)
    path.send(b"anything")
    host.drain()
    world.run(30)
    assert host.kinds() == []
    assert host.node.counters["initiation.low_order"] > 0
    assert host.node.indices == 0


@pytest.mark.parametrize("key", LOW_ORDER, ids=range(len(LOW_ORDER)))
def test_r6_ephemeral_of_low_order_is_refused(key: bytes) -> None:
    _world, host, far = alone()
    message = unpack(far.initiation())
    assert isinstance(message, Initiation)
    far.send(far.macs(message._replace(ephemeral=key).pack()))
    far.path.send(b"waiting")
    host.drain()
    response = unpack(far.response(host.last("initiation")))
    assert isinstance(response, Response)
    far.send(far.macs(response._replace(ephemeral=key).pack()))
    assert host.kinds() == ["initiation"]
    assert host.node.counters["handshake.low_order"] == 2


def test_r6_static_static_is_checked_and_computed_at_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, host, _far = alone()
    asked: list[bytes] = []

    def spy(pairs: list[Pair]) -> Results:
        asked.extend(public for _, public in pairs if public is not None)
        return exchange(pairs)

    monkeypatch.setattr(together, "exchange", spy)
    other = world.host()
    host.add(other)
    assert asked == []
    host.peer(other).initiate(world.now, world.wall)
    assert asked == [other.public, other.public]  # es with the ephemeral, and ss
    world.now += 10 * SECOND
    host.peer(other).initiate(world.now, world.wall)
    assert len(asked) == 3  # ss is kept


def test_r8_without_a_private_key_nothing_happens() -> None:
    world, host, far = alone()
    message = far.initiation()
    host.node.set_private_key(None, world.now)
    assert host.node.public_key is None
    far.send(message)
    far.path.send(b"waiting")
    host.drain()
    world.run(30)
    assert host.kinds() == []
    assert host.node.counters["handshake.not_ready"] == 1


def test_kinds_of_datagrams_are_told_apart() -> None:
    assert kind_of(b"\4" + bytes(31)) == "keepalive"
    assert kind_of(b"\4" + bytes(47)) == "data"
