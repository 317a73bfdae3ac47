"""What taking messages together costs: exchanges of keys, and how many at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tunnel._fastpath.x25519 import LANES
from tunnel.constants import MAC_SIZE, SECOND
from tunnel.protocol import together
from tunnel.protocol.admission import Limits
from tunnel.protocol.inbox import Received
from tunnel.protocol.messages import Initiation, unpack
from tunnel.protocol.path import PathEvent
from tunnel.protocol.together import Pair, Results

from .scripted import Scripted, alone, corrupted
from .world import Host, World


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each exchange had."""
    counts: list[int] = []
    real = together.exchange

    def spy(pairs: list[Pair]) -> Results:
        if pairs:
            counts.append(len(pairs))
        return real(pairs)

    monkeypatch.setattr(together, "exchange", spy)
    return counts


def crowd(count: int) -> tuple[World, Host, list[Scripted]]:
    world, host, first = alone()
    return world, host, [first, *(Scripted(world, host) for _ in range(count - 1))]


def deliver(host: Host, far: list[Scripted], make: Callable[[Scripted], bytes]) -> None:
    messages = [Received(make(each), each.endpoint, None) for each in far]
    host.node.receive_many(messages, host.world.now, host.world.wall, queued=0)
    host.drain()


@pytest.mark.parametrize("count", [1, 2])
def test_few_handshakes_need_two_exchanges(count: int, asked: list[int]) -> None:
    """ss, e, ee and se fit into what ss alone costs."""
    _world, host, far = crowd(count)
    messages = {each: each.initiation() for each in far}
    asked.clear()
    deliver(host, far, messages.__getitem__)
    assert asked == [count, 4 * count]
    assert host.kinds() == ["response"] * count


def test_many_handshakes_need_no_more_lanes_than_alone(asked: list[int]) -> None:
    world, host, far = crowd(LANES)
    messages = {each: each.initiation() for each in far}
    asked.clear()
    deliver(host, far, messages.__getitem__)
    assert asked == [LANES, LANES, 3 * LANES]
    world.now += SECOND
    messages = {each: each.initiation() for each in far}
    asked.clear()
    deliver(host, far, messages.__getitem__)
    assert asked == [LANES, 3 * LANES]  # ss is known
    assert host.kinds() == ["response"] * 2 * LANES


def test_who_is_refused_costs_one_exchange(asked: list[int]) -> None:
    """A stranger, a replay, a forged field; what is not admitted costs none."""
    world, host, far = crowd(3)
    replay = far[0].initiation()
    deliver(host, far, lambda each: replay if each is far[0] else each.initiation())
    world.now += SECOND
    stranger = Scripted(world, world.host())
    stranger.host, stranger.jar = host, far[0].jar
    forged = unpack(far[1].initiation())
    assert isinstance(forged, Initiation)
    messages = [
        stranger.initiation(),
        replay,
        far[1].macs(forged._replace(encrypted_static=bytes(48)).pack()),
        far[2].initiation()[:-MAC_SIZE] + b"\1" * MAC_SIZE,  # mac2 is not looked at
        corrupted(far[2].initiation(), 8 * 120),  # mac1
    ]
    asked.clear()
    host.kinds()
    arrived = [Received(data, far[0].endpoint, None) for data in messages]
    host.node.receive_many(arrived, world.now, world.wall, queued=0)
    host.drain()
    assert asked == [4, 3]
    assert host.kinds() == ["response"]


def test_a_peer_is_answered_once_in_a_batch(asked: list[int]) -> None:
    _world, host, far = crowd(1)
    deliver(host, far, Scripted.initiation)
    host.world.now += SECOND
    messages = [far[0].initiation() for _ in range(20)]
    asked.clear()
    deliver(host, far * 20, lambda _: messages.pop(0))
    assert asked == [20, 3]


def test_r18_initiations_that_are_due_together_are_computed_together(
    asked: list[int],
) -> None:
    _world, host, far = crowd(20)
    events = [(each.peer, int(PathEvent.NEEDS_SESSION)) for each in far]
    host.node.path_events(events, host.world.now, host.world.wall)
    host.drain()
    assert host.kinds() == ["initiation"] * 20
    assert asked == [60]  # e, es, ss
    asked.clear()
    host.world.lose = lambda packet: True
    host.world.run(5.5)
    assert host.kinds() == ["initiation"] * 20
    assert asked == [40]  # e, es
    for each in far:
        assert each.peer.handshake._prepared is None


def test_prepared_initiations_are_authentic() -> None:
    world, host, far = crowd(5)
    events = [(each.peer, int(PathEvent.NEEDS_SESSION)) for each in far]
    host.node.path_events(events, world.now, world.wall)
    calls = [datagram.data for datagram in host.node.to_send()]
    deliver(host, far, lambda each: each.response(calls[far.index(each)]))
    assert host.node.counters["response.received"] == 5
    ephemerals = {Initiation(*unpack(call)).ephemeral for call in calls}  # type: ignore[misc]
    assert len(ephemerals) == 5


def test_what_was_prepared_for_nothing_is_forgotten() -> None:
    """The endpoint is denied: nobody is called, and no key is kept."""
    world, host, far = crowd(3)
    host.node.set_limits(Limits(max_connections=1))
    far[0].confirmed()
    events = [(each.peer, int(PathEvent.NEEDS_SESSION)) for each in far[1:]]
    host.node.path_events(events, world.now, world.wall)
    assert host.node.counters["initiation.max_connections"] == 2
    assert all(each.peer.handshake._prepared is None for each in far)
