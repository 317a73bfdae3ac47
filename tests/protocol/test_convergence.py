"""From two handshakes to one session: crossing, loss, restarts, other keys."""

from __future__ import annotations

import pytest

from tunnel.constants import HANDSHAKE_UNDER_LOAD, MILLISECOND
from tunnel.protocol.events import EndpointMoved

from .scripted import alone
from .world import World

# --- R17, R21, R23, R24


def test_r17_a_response_holds_back_our_own_initiation() -> None:
    world, host, far = alone()
    far.handshake()
    host.kinds()
    far.path.send(b"waiting")
    host.drain()
    assert host.kinds() == []
    world.run(4.9)
    far.path.send(b"waiting")
    host.drain()
    assert host.kinds() == []
    world.run(0.1)
    far.path.send(b"waiting")
    host.drain()
    assert host.kinds() == ["initiation"]


def test_r21_the_responder_waits_for_the_first_data() -> None:
    world, host, far = alone()
    keypair = far.handshake()
    host.kinds()
    far.path.send(b"waiting")
    host.drain()
    assert host.kinds() == []
    assert far.path.sending is None
    far.send(keypair.seal(b""))
    assert host.kinds() == ["data"]
    assert far.peer.last_handshake_wall == world.wall


def test_r21_the_initiator_confirms_with_a_keepalive_if_it_has_no_data() -> None:
    world, host, far = alone()
    far.peer.initiate(world.now, world.wall)
    host.drain()
    far.answer()
    assert host.kinds() == ["initiation", "keepalive"]


def test_r21_an_initiation_does_not_end_the_session_in_use() -> None:
    world, host, far = alone()
    first = far.confirmed()
    host.kinds()
    world.run(1)
    second = far.handshake()
    host.kinds()
    far.path.send(b"on the old one")
    host.drain()
    sent = host.last("data")
    assert int.from_bytes(sent[4:8], "little") == first.local_index
    far.send(first.seal(b"late"))
    assert far.path.delivered == [b"late"]
    far.send(second.seal(b"new"))
    far.path.send(b"on the new one")
    host.drain()
    assert int.from_bytes(host.last("data")[4:8], "little") == second.local_index
    # a late packet of the old session does not switch back
    far.send(first.seal(b"later"))
    far.path.send(b"still on the new one")
    host.drain()
    assert int.from_bytes(host.last("data")[4:8], "little") == second.local_index
    assert far.path.delivered == [b"late", b"new", b"later"]


def test_r23_nothing_of_the_handshake_is_left_after_it() -> None:
    world, host, far = alone()
    far.peer.initiate(world.now, world.wall)
    host.drain()
    index = far.peer.handshake.index
    far.answer()
    assert far.peer.handshake._initiated is None
    assert far.peer.handshake.index is None
    current = far.peer.slots.current
    assert current is not None
    assert current.keypair.local_index == index  # the entry changed its kind
    assert host.node.indices == 1


@pytest.mark.parametrize("delay", [0, 1, 30, 400, 2000])
def test_r24_simultaneous_initiations_converge(delay: int, seed: int) -> None:
    world = World(seed, jitter=None, delay=delay * MILLISECOND)
    a, b = world.pair()
    a.say(b, b"from a")
    b.say(a, b"from b")
    world.run(30)
    assert a.heard(b) == [b"from b"]
    assert b.heard(a) == [b"from a"]
    for n in range(3):
        a.say(b, b"a%d" % n)
        b.say(a, b"b%d" % n)
        world.run(8)
    assert len(a.heard(b)) == len(b.heard(a)) == 3


def test_r24_crossing_initiations_do_not_hang_without_more_data() -> None:
    """Both retransmissions come while R17 forbids them; one packet each is waiting."""
    world = World(jitter=0, delay=300 * MILLISECOND)
    a, b = world.pair()
    a.say(b, b"from a")
    b.say(a, b"from b")
    world.delay = lambda: world.rng.randrange(1, 30) * MILLISECOND
    world.run(60)
    assert a.heard(b) == [b"from b"]
    assert b.heard(a) == [b"from a"]


# --- roaming, restarts, loss, PSK


def test_r54_a_handshake_moves_the_endpoint() -> None:
    _world, host, far = alone()
    host.hear(far.initiation(), (b"\xcb\0\x71\5", 999, 0), (bytes(4), 3))
    assert far.path.endpoint == (b"\xcb\0\x71\5", 999, 0)
    assert host.sent[-1].dst == far.path.endpoint
    assert far.path.source == (bytes(4), 3)
    assert EndpointMoved(far.peer) in host.events


def test_r62_the_answer_leaves_from_the_address_that_was_asked() -> None:
    world, host, far = alone()
    asked = (bytes([10, 0, 0, 1]), 4)
    message = far.initiation()
    host.node.receive(message, far.endpoint, asked, world.now, world.wall, queued=0)
    (response,) = host.node.to_send()
    assert response.endpoint == far.endpoint
    assert response.source == asked
    assert response.path is far.path  # who is to forget it if it is refused


def test_r58_bytes_of_handshakes_are_counted_and_those_of_cookies_are_not() -> None:
    world = World()
    a, b = world.pair()
    b.queued = HANDSHAKE_UNDER_LOAD
    a.say(b)
    world.run(1)
    assert (b.path(a).rx_bytes, b.path(a).tx_bytes) == (0, 0)
    assert (a.path(b).rx_bytes, a.path(b).tx_bytes) == (0, 148)
    b.queued = 0
    world.run(5)
    data = 32 + len(b"hello")
    assert (a.path(b).rx_bytes, a.path(b).tx_bytes) == (92, 2 * 148 + data)
    assert (b.path(a).rx_bytes, b.path(a).tx_bytes) == (148 + data, 92)


@pytest.mark.parametrize("which", [0, 1])
def test_restart_of_either_side(which: int) -> None:
    world = World()
    hosts = a, b = world.pair()
    a.say(b)
    world.run(1)
    b.say(a)
    world.run(30)
    gone, stays = hosts[which], hosts[1 - which]
    gone.restart()
    gone.add(stays)
    world.run(60)
    gone.say(stays, b"back")
    world.run(1)
    assert stays.heard(gone)[-1] == b"back"
    stays.say(gone, b"welcome")
    world.run(1)
    assert gone.heard(stays)[-1] == b"welcome"


def test_restart_is_noticed_by_the_side_that_stays() -> None:
    """It sends into the void, hears nothing for 15 s, and starts anew."""
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(30)
    b.restart()
    b.add(a)
    a.say(b, b"lost")
    world.run(16)
    a.say(b, b"heard")
    world.run(1)
    assert b.heard(a) == [b"heard"]


def test_lossy_wire_still_connects(seed: int) -> None:
    world = World(seed, jitter=None)
    a, b = world.pair()
    world.lose = lambda packet: world.rng.random() < 0.4
    for n in range(40):
        a.say(b, b"%d" % n)
        world.run(3)
    world.lose = lambda packet: False
    a.say(b, b"last")
    world.run(20)
    heard = b.heard(a)
    assert heard[-1] == b"last"
    assert len(heard) > 5


def test_r70_psk_change_is_for_the_next_handshake() -> None:
    world = World()
    a, b = world.pair(psk=b"1" * 32)
    a.say(b)
    world.run(1)
    for host, other in ((a, b), (b, a)):
        host.peer(other).set_preshared_key(b"2" * 32)
    a.say(b)
    world.run(1)
    assert len(b.heard(a)) == 2
    assert a.kinds().count("initiation") == 1
    world.run(130)
    a.say(b)
    world.run(1)
    assert len(b.heard(a)) == 1
    assert a.kinds().count("initiation") == 1


def test_r70_psk_change_on_one_side_stops_the_next_handshake() -> None:
    world = World()
    a, b = world.pair()
    b.peer(a).set_preshared_key(b"2" * 32)
    a.say(b)
    world.run(7)
    assert b.heard(a) == []
    assert a.node.counters["handshake.undecryptable"] == 2
    b.peer(a).set_preshared_key(None)
    world.run(5)
    assert b.heard(a) == [b"hello"]


def test_r70_zero_psk_is_none() -> None:
    world = World()
    a, b = world.pair(psk=bytes(32))
    b.peer(a).set_preshared_key(None)
    a.say(b)
    world.run(1)
    assert b.heard(a) == [b"hello"]


def test_replays_of_every_handshake_message_are_harmless() -> None:
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(1)
    messages = [*a.sent, *b.sent]
    assert {packet.kind for packet in messages} == {"initiation", "response", "data"}
    indices = a.node.indices, b.node.indices
    for _ in range(3):
        world.run(1)
        a.kinds(), b.kinds()
        for packet in messages:
            target = world.hosts[packet.dst]
            target.hear(packet.data, packet.src)
        assert a.kinds() == b.kinds() == []
    assert (a.node.indices, b.node.indices) == indices
    a.say(b, b"still")
    world.run(1)
    assert b.heard(a) == [b"hello", b"still"]
