"""Messages taken together have the effect of the same messages one after the other."""

from __future__ import annotations

import random

import pytest

from tunnel.constants import HANDSHAKE_UNDER_LOAD, MILLISECOND, SECOND
from tunnel.protocol import noise, together
from tunnel.protocol.admission import Limits
from tunnel.protocol.inbox import Received
from tunnel.protocol.messages import CookieReply, Initiation, Response, unpack
from tunnel.protocol.node import Node
from tunnel.protocol.peer import Peer
from tunnel.protocol.types import Endpoint

from .scripted import Scripted, alone, corrupted
from .world import FixedJitter, Host, World

REASONS = ["undecryptable", "unknown_peer", "low_order", "malformed", "bad_mac1"]
REASONS += ["stale_timestamp", "unknown_index"]


class Streams:
    """A stream of random bytes for each size, so that the order in which keys and
    indices are drawn does not matter between them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.by_size: dict[int, random.Random] = {}

    def __call__(self, size: int) -> bytes:
        fresh = random.Random(self.seed + size)
        return self.by_size.setdefault(size, fresh).randbytes(size)


class Both:
    """Two hosts that are the same, and the same far ends for both."""

    def __init__(self, seed: int, peers: int) -> None:
        self.world = World(seed)
        self.world.lose = lambda packet: True
        self.rng = self.world.rng
        self.hosts = [self.world.host(), self.world.host()]
        private = self.rng.randbytes(32)
        for host in self.hosts:
            host.private = private
            timing = self.world.timing
            host.node = Node(timing, FixedJitter(), Streams(seed))
            host.node.set_private_key(private, self.world.now)
            host.node.up(self.world.now)
        self.far = [self.known(number) for number in range(peers)]
        self.stranger = Scripted(self.world, self.world.host())
        self.stranger.host = self.hosts[0]
        self.stranger.jar = self.far[0].jar
        self.old: list[bytes] = []

    def known(self, number: int) -> Scripted:
        first, second = self.hosts
        psk = self.rng.choice([None, self.rng.randbytes(32)])
        far = Scripted(self.world, first, psk=psk)
        far.endpoint = Endpoint(bytes([198, 51, 100, number]), 40_000)
        path = second.new_path()
        peer = second.node.add_peer(far.identity.public, path, preshared_key=psk)
        assert peer is not None
        path.token = peer
        for each in (far.path, path):
            each.set_endpoint(far.endpoint)
        return far

    def initiate(self, far: Scripted) -> None:
        for host in self.hosts:
            peer = host.node.peers[far.identity.public]
            peer.initiate(self.world.now, self.world.wall)
            host.node._local.deadlines.update(peer)

    # --- what arrives

    def message(self, calls: dict[Peer, bytes]) -> tuple[bytes, Endpoint]:
        """Of any kind; `calls` are initiations of the hosts that wait."""
        rng, far = self.rng, self.rng.choice(self.far)
        call = calls.get(far.peer)
        match rng.randrange(12):
            case 0 if self.old:
                data = rng.choice(self.old)
            case 1:
                data = self.stranger.initiation()
            case 2:
                data = far.macs(Initiation(5, *map(rng.randbytes, (32, 48, 28))).pack())
            case 3:
                data = far.macs(Response(6, 7, *map(rng.randbytes, (32, 16))).pack())
            case 4:
                data = CookieReply(rng.getrandbits(32), *map(bytes, (24, 32))).pack()
            case 5:
                message = unpack(far.initiation())
                assert isinstance(message, Initiation)
                data = far.macs(message._replace(ephemeral=bytes(32)).pack())
            case 6 | 7 if call is not None:
                data = far.response(call)
            case 8 if call is not None:
                data = far.response(call, psk=rng.randbytes(32))
            case 9:
                data = rng.randbytes(rng.choice([31, 92, 148]))
            case _:
                data = far.initiation(rng.choice([*[None] * 30, rng.randbytes(12)]))
        if rng.randrange(8) == 0:
            data = corrupted(data, rng.randrange(8 * len(data)))
        self.old.append(data)
        return data, rng.choice([far.endpoint, self.rng.choice(self.far).endpoint])

    # --- taking it in

    def one_by_one(self, arrived: list[Received], queued: int) -> None:
        node, world = self.hosts[0].node, self.world
        behind = queued + len(arrived)
        for data, endpoint, source in arrived:
            behind -= 1
            node.receive(data, endpoint, source, world.now, world.wall, queued=behind)

    def together(self, arrived: list[Received], queued: int) -> None:
        node, world, at = self.hosts[1].node, self.world, 0
        while at < len(arrived):
            some = arrived[at : at + self.rng.randrange(1, 40)]
            at += len(some)
            behind = queued + len(arrived) - at
            node.receive_many(some, world.now, world.wall, queued=behind)

    def states(self) -> list[object]:
        return [state(host) for host in self.hosts]


def state(host: Host) -> object:
    """All that a host has, and all that it gives out."""
    node = host.node
    owners = {peer.path: peer.public_key for peer in node.peers.values()}
    datagrams = [(*out[:4], out.path and owners[out.path]) for out in node.to_send()]
    events = []
    while (event := node.next_event()) is not None:
        events.append((type(event), event.peer.public_key))
    host.drain()
    sent = [(packet.data, packet.dst, packet.tos) for packet in host.sent]
    host.sent.clear()
    peers = [peer_state(peer) for peer in node.peers.values()]
    return datagrams, events, sent, dict(node.counters), node.indices, peers


def peer_state(peer: Peer) -> object:
    handshake, slots, path = peer.handshake, peer.slots, peer.path
    sessions = [
        session and vars(session.keypair)
        for session in (slots.previous, slots.current, slots.next)
    ]
    return (
        peer.public_key,
        sessions,
        (handshake.index, handshake.last_sent, handshake.attempts),
        (handshake._latest_timestamp, handshake._last_consumed),
        (peer.last_handshake_wall, peer.next_deadline()),
        (path.endpoint, path.source, path.last_sent, path.last_received),
        (path.rx_bytes, path.tx_bytes),
    )


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("limit", [0, 3])
def test_together_is_as_one_by_one(seed: int, loaded: bool, limit: int) -> None:
    both = Both(seed, peers=7)
    rng, world = both.rng, both.world
    for host in both.hosts:
        host.node.set_limits(Limits(max_connections=limit))
    wanted = ["response.sent", "response.received"]
    wanted += [f"handshake.{reason}" for reason in REASONS]
    wanted += ["handshake.cookie_demanded"] * loaded
    wanted += ["handshake.max_connections"] * (limit > 0)
    counters, rounds = both.hosts[1].node.counters, 0
    while rounds < 40 or not all(counters[name] for name in wanted):
        rounds += 1
        assert rounds < 1000, counters
        world.now += rng.choice([0, 5, 30, 6_000, 70_000]) * MILLISECOND
        for far in rng.sample(both.far, rng.randrange(4)):
            both.initiate(far)
        calls = waiting(both)
        arrived = [
            Received(data, endpoint, None)
            for data, endpoint in (
                both.message(calls) for _ in range(rng.randrange(1, 60))
            )
        ]
        queued = rng.choice([0, HANDSHAKE_UNDER_LOAD - 20]) if loaded else 0
        both.one_by_one(arrived, queued)
        both.together(arrived, queued)
        first, second = both.states()
        assert first == second


def waiting(both: Both) -> dict[Peer, bytes]:
    """The hosts' initiations that were not answered, by peer of the first host."""
    node, calls = both.hosts[0].node, {}
    for datagram in node._local.outbox:
        message = unpack(datagram.data)
        if isinstance(message, Initiation):
            peer = node._local.indices.handshake(message.sender)
            if peer is not None:
                calls[peer] = datagram.data
    return calls


def test_r13_the_second_of_a_peer_finds_what_the_first_left() -> None:
    world, host, far = alone()
    arrived = [Received(far.initiation(), far.endpoint, None) for _ in range(3)]
    host.node.receive_many(arrived, world.now, world.wall, queued=0)
    host.drain()
    assert host.kinds() == ["response"]
    assert host.node.counters["handshake.flood"] == 2
    assert far.peer.handshake._last_consumed == world.now


def test_r16_one_response_of_many_completes_an_initiation() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    call = host.last("initiation")
    wrong = far.response(call, psk=b"\1" * 32)
    arrived = [wrong, far.response(call), far.response(call)]
    messages = [Received(data, far.endpoint, None) for data in arrived]
    host.node.receive_many(messages, world.now, world.wall, queued=0)
    counters = host.node.counters
    assert counters["response.received"] == 1
    assert counters["handshake.undecryptable"] == 1
    assert counters["handshake.unknown_index"] == 1


def test_a_response_after_an_initiation_of_the_same_peer_is_not_expected() -> None:
    """The initiation before it ended the handshake that it answers."""
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    arrived = [far.initiation(), far.response(host.last("initiation"))]
    messages = [Received(data, far.endpoint, None) for data in arrived]
    host.node.receive_many(messages, world.now, world.wall, queued=0)
    assert host.node.counters["response.sent"] == 1
    assert host.node.counters["handshake.unknown_index"] == 1


def test_r46_cookies_are_demanded_of_those_with_enough_behind_them() -> None:
    world, host, far = alone()
    arrived = [Received(far.initiation(), far.endpoint, None) for _ in range(4)]
    queued = HANDSHAKE_UNDER_LOAD - 4
    host.node.receive_many(arrived, world.now, world.wall, queued=queued)
    assert host.node.counters["handshake.cookie_demanded"] == 0
    world.now += SECOND
    arrived = [Received(far.initiation(), far.endpoint, None) for _ in range(4)]
    host.node.receive_many(arrived, world.now, world.wall, queued=queued + 2)
    assert host.node.counters["handshake.cookie_demanded"] == 4  # the load stays


def test_a_completion_for_another_initiation_is_computed_again() -> None:
    """It is never used for one that it was not made for."""
    world, host, far = alone()
    identity = host.node._local.identity
    assert identity is not None
    far.path.send(b"waiting")
    host.drain()
    response = unpack(far.response(host.last("initiation")))
    assert isinstance(response, Response)
    handshake = far.peer.handshake
    early = together.run(handshake.completion_steps(identity, response))
    assert isinstance(early.result, noise.SessionKeys)
    handshake.create_initiation(identity, world.wall + SECOND)
    with pytest.raises(noise.HandshakeError, match="undecryptable"):
        handshake.complete(identity, response, early)
