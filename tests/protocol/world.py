"""Hosts with a Node each, virtual time, and a wire that may lose or delay."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from itertools import count

from tunnel.constants import MILLISECOND, SECOND
from tunnel.protocol.events import Event
from tunnel.protocol.node import Node
from tunnel.protocol.path import PathEvent
from tunnel.protocol.peer import Peer
from tunnel.protocol.types import Endpoint, Source, Timing

from .simple_path import PathEndpoint, SimpleKeypair, SimplePath

KINDS = {1: "initiation", 2: "response", 3: "cookie", 4: "data"}
START = 1_000 * SECOND
WALL = 1_700_000_000 * SECOND  # of START


def kind_of(data: bytes) -> str:
    return "keepalive" if data[0] == 4 and len(data) == 32 else KINDS[data[0]]


def times(sent: list[Packet], kind: str) -> list[float]:
    """When packets of that kind went out, in seconds from the start."""
    return [(p.at - START) / SECOND for p in sent if p.kind == kind]


class FixedJitter:
    """A generator whose every draw is the same."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def randrange(self, stop: int, /) -> int:
        return min(self.value, stop - 1)


class Packet:
    """A datagram on its way."""

    def __init__(self, at: int, data: bytes, src: Endpoint, dst: Endpoint, tos: int):
        self.at = at
        self.data = data
        self.src = src
        self.dst = dst
        self.tos = tos

    @property
    def kind(self) -> str:
        return kind_of(self.data)


class Host:
    """A Node, its packet path, and what went out of it."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.endpoint = Endpoint(bytes([192, 0, 2, number]), 51820 + number)
        self.private = world.rng.randbytes(32)
        self.queued = 0
        self.sent: list[Packet] = []
        self.events: list[Event] = []
        self.keypairs: dict[int, tuple[SimplePath, SimpleKeypair]] = {}
        self._posted: list[tuple[SimplePath, PathEvent]] = []
        self.restart()

    def restart(self) -> None:
        """The process is a new one: nothing but the key is left."""
        self.keypairs.clear()
        self._posted.clear()
        self.node = Node(self.world.timing, self.world.jitter, self.world.rng.randbytes)
        self.node.set_private_key(self.private, self.world.now)
        self.node.up(self.world.now)

    @property
    def public(self) -> bytes:
        assert self.node.public_key is not None
        return self.node.public_key

    def new_path(self) -> SimplePath:
        return SimplePath(
            self.world.timing,
            lambda: self.world.now,
            lambda data, to: self.transmit(data, to, 0),
            lambda path, event: self._posted.append((path, event)),
            self.keypairs,
        )

    def add(
        self,
        other: Host,
        *,
        psk: bytes | None = None,
        keepalive: int = 0,
        endpoint: bool = True,
    ) -> Peer:
        path = self.new_path()
        if endpoint:
            path.set_endpoint(other.endpoint)
        peer = self.node.add_peer(
            other.public, path, preshared_key=psk, keepalive=keepalive
        )
        assert peer is not None
        path.token = peer
        self.drain()
        return peer

    def peer(self, other: Host) -> Peer:
        return self.node.peers[other.public]

    def path(self, other: Host) -> SimplePath:
        path = self.peer(other).path
        assert isinstance(path, SimplePath)
        return path

    # --- packets

    def say(self, other: Host, payload: bytes = b"hello") -> None:
        self.path(other).send(payload)
        self.drain()

    def heard(self, other: Host) -> list[bytes]:
        path = self.path(other)
        heard, path.delivered = path.delivered, []
        return heard

    def transmit(self, data: bytes, to: PathEndpoint, tos: int) -> None:
        packet = Packet(self.world.now, data, self.endpoint, Endpoint(*to), tos)
        self.sent.append(packet)
        self.world.carry(packet)

    def hear(
        self, data: bytes, src: PathEndpoint, source: Source | None = None
    ) -> None:
        """A datagram from the socket."""
        if data[:1] == b"\x04":
            found = self.keypairs.get(int.from_bytes(data[4:8], "little"))
            if found is not None:
                found[0].receive(found[1], data, src, source)
        else:
            self.node.receive(
                data,
                src,
                source,
                self.world.now,
                self.world.wall,
                queued=self.queued,
            )
        self.drain()

    def drain(self) -> None:
        """What a driver does after every call."""
        while True:
            for datagram in self.node.to_send():
                self.transmit(datagram.data, datagram.endpoint, datagram.tos)
            while (event := self.node.next_event()) is not None:
                self.events.append(event)
            if not self._posted:
                return
            path, bits = self._posted.pop(0)
            assert isinstance(path.token, Peer)
            self.node.path_event(path.token, bits, self.world.now, self.world.wall)

    def kinds(self) -> list[str]:
        """What was sent since the last call."""
        kinds = [packet.kind for packet in self.sent]
        self.sent.clear()
        return kinds

    def last(self, kind: str) -> bytes:
        return next(p.data for p in reversed(self.sent) if p.kind == kind)


class World:
    """Runs hosts in virtual time. `lose(packet)` says whether the wire drops it."""

    def __init__(
        self,
        seed: int = 0,
        *,
        timing: Timing | None = None,
        jitter: int | None = 0,
        delay: int = 10 * MILLISECOND,
    ) -> None:
        self.rng = random.Random(seed)
        self.timing = timing or Timing(slack_parts=0)  # exact, to be compared
        self.jitter = self.rng if jitter is None else FixedJitter(jitter)
        self.now = START
        self.wall_step = 0
        self.delay: Callable[[], int] = lambda: delay
        self.lose: Callable[[Packet], bool] = lambda packet: False
        self.hosts: dict[Endpoint, Host] = {}
        self._flying: list[tuple[int, int, Packet]] = []
        self._order = count()

    @property
    def wall(self) -> int:
        return WALL + self.now - START + self.wall_step

    def host(self) -> Host:
        host = Host(self, len(self.hosts) + 1)
        self.hosts[host.endpoint] = host
        return host

    def pair(self, *, psk: bytes | None = None) -> tuple[Host, Host]:
        """Two hosts that know each other."""
        a, b = self.host(), self.host()
        a.add(b, psk=psk)
        b.add(a, psk=psk)
        return a, b

    def carry(self, packet: Packet) -> None:
        if not self.lose(packet):
            entry = (self.now + self.delay(), next(self._order), packet)
            heapq.heappush(self._flying, entry)

    def run(self, seconds: float) -> None:
        """Lets time pass."""
        end = self.now + round(seconds * SECOND)
        while (at := self._next()) is not None and at <= end:
            self.now = max(self.now, at)
            self._step()
        self.now = end

    def _next(self) -> int | None:
        times = [self._flying[0][0]] if self._flying else []
        for host in self.hosts.values():
            deadline = host.node.next_deadline()
            if deadline is not None:
                times.append(deadline)
        return min(times, default=None)

    def _step(self) -> None:
        while self._flying and self._flying[0][0] <= self.now:
            packet = heapq.heappop(self._flying)[2]
            receiver = self.hosts.get(packet.dst)
            if receiver is not None:
                receiver.hear(packet.data, packet.src)
        for host in self.hosts.values():
            deadline = host.node.next_deadline()
            if deadline is not None and deadline <= self.now:
                host.node.handle_deadline(self.now, self.wall)
                host.drain()
