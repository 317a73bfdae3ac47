"""Receiver indices, timestamps, and when an initiation is taken."""

from __future__ import annotations

import random

import pytest

from tunnel.constants import MILLISECOND, SECOND, TAI64N_STEP
from tunnel.protocol.index import IndexTable
from tunnel.protocol.messages import Response, unpack
from tunnel.protocol.tai64n import Clock, label, later, whiten

from .scripted import alone, snapshot
from .world import World

# --- R9, R10


def test_r9_response_does_not_hit_a_transport_index() -> None:
    world, host, far = alone()
    far.confirmed()
    current = far.peer.slots.current
    assert current is not None
    far.path.send(b"x")
    host.drain()
    world.run(16)  # unanswered: an initiation
    response = unpack(far.response(host.last("initiation")))
    assert isinstance(response, Response)
    aimed = response._replace(receiver=current.keypair.local_index)
    far.send(far.macs(aimed.pack()))
    assert host.node.counters["handshake.unknown_index"] == 1
    assert far.peer.slots.current is current


def test_r9_r10_index_table_kinds_and_collisions() -> None:
    draws = [
        b"\1\0\0\0",
        b"\1\0\0\0",
        b"\2\0\0\0",
        b"\2\0\0\0",
        b"\1\0\0\0",
        b"\3\0\0\0",
    ]
    table: IndexTable[str] = IndexTable(lambda size: draws.pop(0))
    assert table.new_handshake("a") == 1
    assert table.new_handshake("b") == 2  # 1 is taken
    assert table.new_keypair("c") == 3  # so are 2 and 1
    table.promote(1)
    assert (table.handshake(1), table.keypair(1)) == (None, "a")
    assert (table.handshake(2), table.keypair(2)) == ("b", None)
    assert [table.any_kind(i) for i in (1, 2, 3, 4)] == ["a", "b", "c", None]
    table.remove(1)
    table.remove(1)
    assert len(table) == 2


def test_r10_indices_are_random_and_freed() -> None:
    world = World()
    a, b = world.pair()
    seen = set()
    for _ in range(30):
        a.say(b)
        world.run(130)
        current = a.peer(b).slots.current
        assert current is not None
        seen.add(current.keypair.local_index)
        for host in (a, b):
            assert len(host.keypairs) <= 3
            assert host.node.indices <= 4
    assert len(seen) == 30
    steps = {y - x for x, y in zip(sorted(seen), sorted(seen)[1:], strict=False)}
    assert len(steps) > 20
    for host, other in ((a, b), (b, a)):
        host.node.remove_peer(other.public)
        assert host.node.indices == 0
        assert host.keypairs == {}


# --- R11 - R14


def test_r11_timestamps_are_coarse_tai64n() -> None:
    assert label(0).hex() == "400000000000000a00000000"
    wall = 1_600_000_000 * SECOND + 999_999_999
    assert whiten(wall) % SECOND % TAI64N_STEP == 0
    assert 0 <= wall - whiten(wall) < TAI64N_STEP
    assert label(whiten(wall)).hex() == "400000005f5e100a3b000000"
    assert whiten(-5) == 0


def test_r14_stamps_increase_when_the_clock_steps_back(seed: int) -> None:
    rng = random.Random(seed)
    clock = Clock()
    last = b""
    for _ in range(2000):
        stamp = clock.stamp(1_600_000_000 * SECOND + rng.randrange(100 * SECOND))
        assert stamp > last
        assert int.from_bytes(stamp[8:], "big") % TAI64N_STEP == 0
        assert int.from_bytes(stamp[8:], "big") < SECOND
        last = stamp
    assert later(whiten(SECOND - 1)) == SECOND


def test_r14_handshakes_survive_a_wall_clock_that_steps_back() -> None:
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(1)
    world.wall_step = -3600 * SECOND
    for _ in range(3):
        a.say(b)
        world.run(130)
    assert len(b.heard(a)) == 4
    assert a.kinds().count("initiation") >= 3
    assert b.node.counters["handshake.stale_timestamp"] == 0


@pytest.mark.parametrize("delta", [-SECOND, -1, 0])
def test_r12_an_initiation_must_be_newer(delta: int) -> None:
    world, host, far = alone()
    stamp = 1_600_000_000 * SECOND
    far.send(far.initiation(label(stamp)))
    host.kinds()
    world.now += SECOND
    before = snapshot(far)
    far.send(far.initiation(label(stamp + delta)))
    assert host.kinds() == []
    assert snapshot(far) == before
    assert host.node.counters["handshake.stale_timestamp"] == 1
    far.send(far.initiation(label(stamp + 1)))
    assert host.kinds() == ["response"]


def test_r12_the_latest_timestamp_outlives_down_up_and_erasing() -> None:
    world, host, far = alone()
    replay = far.initiation()
    far.send(replay)
    host.node.down(world.now)
    host.node.up(world.now)
    far.send(replay)
    world.run(600)
    far.send(replay)
    host.node.set_private_key(host.private, world.now)
    far.send(replay)
    assert host.kinds() == ["response"]
    assert host.node.counters["handshake.stale_timestamp"] == 3


def test_r12_the_timestamp_is_not_a_time() -> None:
    """Any newer value will do, far in the future or with impossible nanoseconds."""
    world, host, far = alone()
    for stamp in (bytes(11) + b"\1", label(0), b"\x7f" * 12, b"\xff" * 12):
        far.send(far.initiation(stamp))
        world.now += SECOND
    assert host.kinds() == ["response"] * 4


def test_r13_flood_gate_of_20_ms() -> None:
    world, host, far = alone()
    for wait, answered in ((0, True), (19, False), (0, False), (1, True), (20, True)):
        world.now += wait * MILLISECOND
        far.send(far.initiation())
        assert host.kinds() == ["response"] * answered
    assert host.node.counters["handshake.flood"] == 2
