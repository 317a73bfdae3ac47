"""The persistent keepalive (R36)."""

from __future__ import annotations

import itertools

import pytest

from .scripted import alone
from .world import World, times


def test_r36_switched_on_sends_at_once_and_then_at_the_interval() -> None:
    world = World()
    a, b = world.pair()
    a.peer(b).set_keepalive(20, world.now, True)
    a.drain()
    world.run(61)
    kinds = [p.kind for p in a.sent]
    assert kinds == ["initiation", "keepalive", "keepalive", "keepalive", "keepalive"]
    at = times(a.sent, "keepalive")
    assert at == [0.02, 20.02, 40.02, 60.02]


def test_r36_not_while_there_is_traffic_either_way() -> None:
    world = World()
    a, b = world.pair()
    a.peer(b).set_keepalive(20, world.now, True)
    a.drain()
    world.run(1)
    a.kinds()
    for n in range(15):
        (a if n % 2 else b).say(b if n % 2 else a)
        world.run(7)
    assert "keepalive" not in a.kinds()


def test_r36_off_is_off_and_down_is_quiet() -> None:
    world, host, far = alone()
    far.confirmed()
    far.peer.set_keepalive(5, world.now, True)
    host.drain()
    assert host.kinds() == ["response", "keepalive"]
    far.peer.set_keepalive(5, world.now, True)
    host.drain()
    assert host.kinds() == []
    far.peer.set_keepalive(0, world.now, True)
    world.run(60)
    assert host.kinds() == []
    host.node.down(world.now)
    far.peer.set_keepalive(5, world.now, False)
    host.drain()
    world.run(60)
    assert host.kinds() == []
    host.node.up(world.now)
    host.drain()
    assert host.kinds() == ["initiation"]


def test_r36_r37_data_that_waits_goes_instead() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    far.peer.set_keepalive(25, world.now, True)
    host.drain()
    far.answer()
    assert host.kinds() == ["initiation", "data"]


@pytest.mark.parametrize("seconds", [-1, 65_536])
def test_r36_range(seconds: int) -> None:
    world, _host, far = alone()
    with pytest.raises(ValueError, match="keepalive"):
        far.peer.set_keepalive(seconds, world.now, True)


def test_r36_keeps_a_dead_peer_s_handshakes_going() -> None:
    world, host, far = alone()
    far.peer.set_keepalive(25, world.now, True)
    host.drain()
    world.run(300)
    at = times(host.sent, "initiation")
    assert at[:20] == [5.0 * n for n in range(20)]
    assert max(b - a for a, b in itertools.pairwise(at)) <= 25


def test_r36_peer_added_with_keepalive_while_up() -> None:
    world = World()
    a, b = world.host(), world.host()
    b.add(a)
    a.add(b, keepalive=10)
    world.run(1)
    assert a.kinds() == ["initiation", "keepalive"]
    world.run(10)
    assert a.kinds() == ["keepalive"]


def test_r36_without_an_endpoint_nothing_is_sent() -> None:
    world = World()
    a, b = world.host(), world.host()
    peer = a.add(b, endpoint=False)
    peer.set_keepalive(5, world.now, True)
    a.drain()
    world.run(30)
    assert a.kinds() == []
    a.path(b).set_endpoint(b.endpoint)
    b.add(a)
    world.run(6)
    assert a.kinds() == ["initiation", "keepalive"]
