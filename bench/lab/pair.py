"""Two hosts with a tunnel between them: what most tests and benchmarks stand on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.engines import Engine, EngineKind, Identity, PeerConfig, new_preshared_key
from lab.network import Lab, Namespace
from lab.process import wait_until
from lab.traffic import FlowReport, Receiver, Sender

__all__ = ["PORT", "End", "Exchange", "Pair", "tunnel_pair"]

PORT = 51820
INSIDE_CIDR = {4: 24, 6: 64}


@dataclass(slots=True)
class End:
    """One end: its host, its engine, and its addresses inside the tunnel."""

    host: Namespace
    engine: Engine
    identity: Identity
    peers: list[PeerConfig]
    mtu: int

    @property
    def ipv4(self) -> str:
        return f"10.77.0.{self.host.number}"

    @property
    def ipv6(self) -> str:
        return f"fd00:77::{self.host.number:x}"

    def inside(self, version: int) -> str:
        return self.ipv6 if version == 6 else self.ipv4

    def configure(self) -> None:
        """Keys and peers, then addresses: what must follow each start of an engine."""
        self.engine.setconf(self.identity, self.peers, listen_port=PORT)
        self.engine.addresses(f"{self.ipv4}/24", f"{self.ipv6}/64", mtu=self.mtu)
        # an engine hears a moment later that the interface is up, and binds then; what
        # the other end sends before that is lost, and the next attempt 5 s away
        wait_until("the port", self._bound, timeout=10, interval=0.005)

    def _bound(self) -> bool:
        """On either family: some engines have one socket for both."""
        tables = ("/proc/net/udp", "/proc/net/udp6")
        return f":{PORT:04X} " in self.host.run("cat", *tables).stdout


@dataclass(slots=True)
class Pair:
    """`left` knows the endpoint of `right` and so is the initiator."""

    left: End
    right: End


@contextmanager
def tunnel_pair(
    left: EngineKind,
    right: EngineKind,
    *,
    outside: int = 4,
    preshared: bool = False,
    mtu: int = 1420,
) -> Iterator[Pair]:
    """A configured tunnel over IPv4 or IPv6 (`outside`); no packet was sent yet."""
    with Lab("left", "right") as lab:
        ends = [
            End(host, Engine(kind, host), Identity.new(), [], mtu)
            for host, kind in zip(lab, (left, right), strict=True)
        ]
        secret = new_preshared_key() if preshared else None
        address = ends[1].host.ipv4 if outside == 4 else f"[{ends[1].host.ipv6}]"
        endpoints = [f"{address}:{PORT}", None]
        for end, other, endpoint in zip(ends, reversed(ends), endpoints, strict=True):
            inside = [f"{other.ipv4}/32", f"{other.ipv6}/128"]
            peer = PeerConfig(other.identity.public_key, inside, endpoint, secret)
            end.peers.append(peer)
            end.configure()
        yield Pair(*ends)


class Exchange:
    """Marked flows in both directions of a pair, from now until `finish`."""

    def __init__(
        self,
        pair: Pair,
        *,
        count: int,
        inside: int = 4,
        rate: int = 500,
        size: int = 64,
    ) -> None:
        ways = [(pair.left, pair.right), (pair.right, pair.left)]
        self._receivers = [Receiver(end.host) for end in (pair.right, pair.left)]
        self._senders = [
            Sender(
                near.host,
                source=near.inside(inside),
                to=far.inside(inside),
                rate=rate,
                count=count,
                size=size,
            )
            for near, far in ways
        ]

    @property
    def running(self) -> bool:
        return any(sender.running for sender in self._senders)

    def finish(self, *, early: bool = False) -> list[tuple[int, FlowReport | None]]:
        """Packets sent and what arrived of them: left to right, then right to left."""
        sent = [sender.finish(early=early) for sender in self._senders]
        seen = [receiver.finish().get(1) for receiver in self._receivers]
        return list(zip(sent, seen, strict=True))
