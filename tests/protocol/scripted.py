"""The far end of one host, doing what a test says: real messages, no rules, no timers.

Everything that a peer or an attacker with a peer's key can send is made here.
"""

from __future__ import annotations

from tunnel.constants import MAC_SIZE
from tunnel.protocol import noise
from tunnel.protocol.cookie import CookieJar
from tunnel.protocol.messages import Initiation, Response, unpack
from tunnel.protocol.peer import Peer
from tunnel.protocol.tai64n import Clock
from tunnel.protocol.types import Endpoint, Timing

from .simple_path import SimpleKeypair
from .world import Host, World


def corrupted(data: bytes, bit: int) -> bytes:
    """One bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class Scripted:
    """Knows the host under test, and is known to it as `peer`."""

    def __init__(self, world: World, host: Host, *, psk: bytes | None = None) -> None:
        self.world = world
        self.host = host
        self.identity = noise.Identity(world.rng.randbytes(32))
        self.endpoint = Endpoint(bytes([198, 51, 100, 7]), 40_000)
        self.psk = psk
        self._clock = Clock()
        self._initiated: noise.Initiated | None = None
        self.keypairs: dict[int, SimpleKeypair] = {}  # by the host's index
        path = host.new_path()
        path.set_endpoint(self.endpoint)
        peer = host.node.add_peer(self.identity.public, path, preshared_key=psk)
        assert peer is not None
        self.peer: Peer = peer
        self.path = path
        path.token = peer
        self.jar = CookieJar(host.public)

    @property
    def remote(self) -> noise.Remote:
        return noise.Remote(self.host.public)

    def macs(self, message: bytes) -> bytes:
        return self.jar.add_macs(message, self.world.now, Timing())

    def unmac(self, data: bytes) -> bytes:
        return data[: -2 * MAC_SIZE]

    # --- making messages

    def index(self) -> int:
        return self.world.rng.getrandbits(32)

    def initiation(self, timestamp: bytes | None = None) -> bytes:
        fields, self._initiated = noise.create_initiation(
            self.identity,
            self.remote,
            timestamp or self._clock.stamp(self.world.wall),
            self.world.rng.randbytes(32),
        )
        return self.macs(Initiation(self.index(), *fields).pack())

    def response(self, initiation: bytes, *, psk: bytes | None = None) -> bytes:
        """The answer to an initiation of the host."""
        message = unpack(initiation)
        assert isinstance(message, Initiation)
        consumed = noise.consume_initiation(
            self.identity,
            noise.InitiationFields(*message[1:]),
            lambda key: self.remote if key == self.host.public else None,
        )
        fields, keys = noise.create_response(
            consumed, psk or self.psk, self.world.rng.randbytes(32)
        )
        index = self.index()
        self._keep(index, message.sender, keys)
        return self.macs(Response(index, message.sender, *fields).pack())

    def finish(self, response: bytes) -> SimpleKeypair:
        """Takes the host's response to our initiation."""
        message = unpack(response)
        assert isinstance(message, Response)
        assert self._initiated is not None
        keys = noise.consume_response(
            self.identity,
            self._initiated,
            noise.ResponseFields(*message[2:]),
            self.psk,
        )
        return self._keep(message.receiver, message.sender, keys)

    def _keep(self, local: int, host: int, keys: noise.SessionKeys) -> SimpleKeypair:
        self.keypairs[host] = SimpleKeypair(
            local, host, keys.send, keys.receive, self.world.now, True, False
        )
        return self.keypairs[host]

    def current_index(self) -> int:
        """Of the session that the host sends with."""
        current = self.peer.slots.current
        assert current is not None
        return current.keypair.local_index

    # --- sending them

    def send(self, data: bytes) -> None:
        self.host.hear(data, self.endpoint)

    def send_data(self, host_index: int, payload: bytes = b"data") -> None:
        self.send(self.keypairs[host_index].seal(payload))

    def handshake(self) -> SimpleKeypair:
        """We initiate, the host responds; data is still to come."""
        self.send(self.initiation())
        return self.finish(self.host.last("response"))

    def confirmed(self) -> SimpleKeypair:
        """We initiate and confirm: the host may send."""
        keypair = self.handshake()
        self.send(keypair.seal(b""))
        return keypair

    def answer(self) -> None:
        """Responds to the host's last initiation."""
        self.send(self.response(self.host.last("initiation")))


def alone(seed: int = 0) -> tuple[World, Host, Scripted]:
    """A host, and a far end that does what the test says."""
    world = World(seed)
    host = world.host()
    return world, host, Scripted(world, host)


def snapshot(far: Scripted) -> object:
    """Everything of the peer that a refused message must leave alone."""
    peer, path, node = far.peer, far.path, far.host.node
    return (
        peer.handshake.index,
        peer.handshake.last_sent,
        peer.handshake.attempts,
        [peer.slots.previous, peer.slots.current, peer.slots.next],
        peer.last_handshake_wall,
        peer.next_deadline(),
        path.endpoint,
        path.source,
        path.last_received,
        path.last_sent,
        path.rx_bytes,
        path.tx_bytes,
        node.indices,
        node.next_deadline(),
    )
