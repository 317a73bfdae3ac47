"""Access lists and the number of connections: who may make a handshake with us."""

from __future__ import annotations

import ipaddress
import random
from typing import cast

import pytest

from tunnel.constants import MILLISECOND, REJECT_AFTER_TIME, SECOND
from tunnel.protocol import node as nodes
from tunnel.protocol import noise
from tunnel.protocol.admission import Admission, Limits
from tunnel.protocol.peer import Peer
from tunnel.protocol.prefixes import Prefix, PrefixSet
from tunnel.protocol.primitives import HandshakeError

from .scripted import Scripted, alone, snapshot
from .world import World


def prefixes(*texts: str) -> PrefixSet:
    networks = map(ipaddress.ip_network, texts)
    return PrefixSet((n.network_address.packed, n.prefixlen) for n in networks)


HERE = prefixes("198.51.100.0/24")  # where the scripted end is


# --- the set


def slow(known: list[Prefix], address: bytes) -> bool:
    asked = ipaddress.ip_address(address)
    networks = [ipaddress.ip_network(prefix) for prefix in known]
    return any(asked in n for n in networks if n.version == asked.version)


def test_a_prefix_set_is_a_list_that_is_searched(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        known: list[Prefix] = []
        for _ in range(rng.randrange(12)):
            size = rng.choice([4, 16])
            length = rng.randrange(8 * size + 1)
            shift = 8 * size - length
            network = rng.getrandbits(12) << 8 * size - 12 >> shift << shift
            known.append((network.to_bytes(size, "big"), length))
        quick = PrefixSet(known)
        for _ in range(60):
            size = rng.choice([4, 16])
            number = rng.getrandbits(12) << 8 * size - 12 | rng.getrandbits(20)
            address = number.to_bytes(size, "big")
            assert quick.holds(address) == slow(known, address)


def test_a_prefix_set_is_the_tuple_of_its_prefixes() -> None:
    plain = ((bytes([10, 0, 0, 0]), 8), (bytes(16), 0))
    assert PrefixSet(plain) == plain
    assert hash(PrefixSet(plain)) == hash(plain)
    made = PrefixSet(plain)
    assert PrefixSet.of(made) is made
    assert PrefixSet.of(plain) == plain
    assert PrefixSet(plain).holds(b"\x20" * 16)
    assert not PrefixSet(plain).holds(b"\x20" * 4)
    assert not PrefixSet().holds(bytes(4))


# --- access


@pytest.mark.parametrize(
    ("limits", "admitted"),
    [
        (Limits(), True),
        (Limits(allow=HERE), True),
        (Limits(allow=prefixes("198.51.100.7/32", "2001:db8::/32")), True),
        (Limits(allow=prefixes("198.51.100.8/32")), False),
        (Limits(allow=prefixes("::/0")), False),
        (Limits(deny=HERE), False),
        (Limits(deny=prefixes("198.51.100.8/32")), True),
        (Limits(blocklist=HERE), False),
        (Limits(allow=prefixes("198.51.100.7/32"), deny=HERE), False),
        (Limits(allow=HERE, blocklist=prefixes("0.0.0.0/0")), False),
    ],
)
def test_access_is_by_outer_address_and_deny_wins(
    limits: Limits, admitted: bool
) -> None:
    _world, host, far = alone()
    host.node.set_limits(limits)
    before = snapshot(far)
    far.send(far.initiation())
    assert host.kinds() == ["response"] * admitted
    assert host.node.counters["handshake.access_denied"] == (not admitted)
    assert (snapshot(far) == before) is not admitted


def test_a_denied_address_costs_no_cryptography(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not even mac1, which the packet path has checked already."""
    _world, host, far = alone()
    host.node.set_limits(Limits(deny=HERE))
    data = far.initiation()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("computed something")

    monkeypatch.setattr(noise, "consume_initiation_steps", forbidden)
    monkeypatch.setattr(nodes.CookieChecker, "check", forbidden)
    for _ in range(5):
        far.send(data)
    assert host.kinds() == []
    assert host.node.counters["handshake.access_denied"] == 5


def test_a_session_lives_on_until_its_next_handshake_is_refused() -> None:
    world, host, far = alone()
    keypair = far.confirmed()
    host.node.set_limits(Limits(deny=HERE))
    world.run(100)
    far.send(keypair.seal(b"still here"))
    assert far.path.delivered == [b"still here"]
    far.path.send(b"and back")
    host.drain()
    assert host.kinds()[-1] == "data"
    far.send(far.initiation())
    assert host.node.counters["handshake.access_denied"] == 1
    world.run(100)
    host.kinds()
    far.path.send(b"too late")  # nor do we call it
    host.drain()
    assert host.kinds() == []
    assert host.node.counters["initiation.access_denied"] >= 1


def test_neither_response_nor_cookie_is_taken_from_a_denied_address() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    host.node.set_limits(Limits(deny=HERE))
    far.answer()
    assert far.peer.slots.current is None
    assert host.node.counters["handshake.access_denied"] == 1
    host.node.set_limits(Limits())
    world.run(6)  # the next initiation
    far.answer()
    assert far.peer.slots.current is not None


# --- the number of connections


def crowd(count: int, most: int) -> tuple[World, list[Scripted]]:
    world = World()
    host = world.host()
    host.node.set_limits(Limits(max_connections=most))
    return world, [Scripted(world, host) for _ in range(count)]


def test_a_further_peer_is_refused_in_silence() -> None:
    world, far = crowd(3, 2)
    host = far[0].host
    far[0].confirmed()
    far[1].confirmed()
    host.kinds()
    before = snapshot(far[2])
    far[2].send(far[2].initiation())
    assert host.kinds() == []
    assert snapshot(far[2]) == before
    assert host.node.counters["handshake.max_connections"] == 1
    assert host.node.connections(world.now) == 2


def test_we_call_no_further_peer_either() -> None:
    _world, far = crowd(2, 1)
    host = far[0].host
    far[0].confirmed()
    host.kinds()
    far[1].path.send(b"waiting")
    host.drain()
    assert host.kinds() == []
    assert host.node.counters["initiation.max_connections"] == 1


def test_a_response_that_comes_when_the_last_place_is_taken() -> None:
    _world, far = crowd(2, 1)
    host = far[0].host
    far[1].path.send(b"waiting")
    host.drain()
    far[0].confirmed()
    response = far[1].response(host.last("initiation"))
    far[1].send(response)
    assert far[1].peer.slots.current is None
    assert host.node.counters["handshake.max_connections"] == 1


def test_lowering_ends_no_session_and_those_may_be_renewed() -> None:
    world, far = crowd(3, 0)
    host = far[0].host
    for one in far:
        one.confirmed()
    host.node.set_limits(Limits(max_connections=1))
    assert host.node.connections(world.now) == 3
    world.run(60)
    for one in far:
        keypair = one.confirmed()
        one.send(keypair.seal(b"here"))
        assert one.path.delivered[-1:] == [b"here"]
    assert host.node.counters["handshake.max_connections"] == 0


def test_a_place_is_free_when_a_session_has_expired() -> None:
    world, far = crowd(2, 1)
    host = far[0].host
    far[0].confirmed()
    world.run(179.9)
    far[1].send(far[1].initiation())
    assert host.node.counters["handshake.max_connections"] == 1
    world.run(0.2)
    far[1].confirmed()
    assert far[1].peer.slots.current is not None
    far[0].send(far[0].initiation())  # now it is the one too many
    assert host.node.counters["handshake.max_connections"] == 2


def test_a_place_is_free_when_a_peer_is_removed_or_all_is_down() -> None:
    world, far = crowd(3, 1)
    host = far[0].host
    far[0].confirmed()
    host.node.remove_peer(far[0].identity.public, world.now)
    assert host.node.connections(world.now) == 0
    far[1].confirmed()
    assert host.node.connections(world.now) == 1
    host.node.down(world.now)
    host.node.up(world.now)
    far[2].confirmed()
    assert far[2].peer.slots.current is not None


class SlowAdmission:
    """Every session for ever, looked at each time."""

    def __init__(self) -> None:
        self.sessions: dict[object, int] = {}

    def refuses(self, peer: object, most: int, now: int) -> bool:
        live = [p for p, at in self.sessions.items() if now - at < REJECT_AFTER_TIME]
        return bool(most) and peer not in live and len(live) >= most


def test_connections_against_their_twin(seed: int) -> None:
    rng = random.Random(seed)
    quick, twin, now = Admission(REJECT_AFTER_TIME), SlowAdmission(), 0
    peers = cast("list[Peer]", [object() for _ in range(12)])
    for _ in range(4000):
        now += rng.choice([0, 1, 500, 9_000, 30_000]) * MILLISECOND
        peer = rng.choice(peers)
        match rng.randrange(4):
            case 0:
                quick.limits = Limits(max_connections=rng.randrange(8))
            case 1:
                quick.ended(peer)
                twin.sessions.pop(peer, None)
            case _:
                try:
                    quick.check_room(peer, now)
                except HandshakeError:
                    assert twin.refuses(peer, quick.limits.max_connections, now)
                else:
                    assert not twin.refuses(peer, quick.limits.max_connections, now)
                    quick.began(peer, now)
                    twin.sessions[peer] = now


# --- rekey limits


@pytest.mark.parametrize(
    ("limit", "age", "initiates"),
    [(30, 29, False), (30, 30, True), (300, 119, False), (300, 120, True)],
)
def test_r25_a_lower_age_renews_sessions_that_are_there(
    limit: int, age: int, initiates: bool
) -> None:
    """Changed when the session exists; never beyond the protocol's 120 s."""
    world, host, far = alone()
    far.path.send(b"first")
    host.drain()
    far.answer()
    world.run(1)
    far.send_data(far.current_index())
    world.run(age - 1)
    host.kinds()
    host.node.set_limits(Limits(rekey_after_time=limit * SECOND))
    host.node.path_event(far.peer, 2, world.now, world.wall)  # REKEY
    host.drain()
    assert host.kinds() == ["initiation"] * initiates


@pytest.mark.parametrize(("sent", "initiates"), [(1024, False), (1025, True)])
def test_r25_a_lower_number_of_messages_renews_on_either_side(
    sent: int, initiates: bool
) -> None:
    world, host, far = alone()
    far.confirmed()
    world.run(20)
    host.kinds()
    current = far.path.sending
    assert current is not None
    assert not current.initiator
    current.send_counter = sent
    host.node.path_event(far.peer, 2, world.now, world.wall)
    host.drain()
    assert host.kinds() == []  # without a limit of ours
    host.node.set_limits(Limits(rekey_after_messages=1024))
    host.node.path_event(far.peer, 2, world.now, world.wall)
    host.drain()
    assert host.kinds() == ["initiation"] * initiates
