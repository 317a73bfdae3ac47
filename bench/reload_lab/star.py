"""A hub and nine real peers in namespaces: eight that no change names, and one.

The peers are always ours, the hub is the engine that is tried. The changed peer also
has the addresses of all the others, so that a packet which is routed to it by mistake
arrives, with a mark that is not its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lab.echo import ping
from lab.engines import Engine, EngineKind, Identity, PeerConfig, engine_kind
from lab.network import Lab, Namespace
from lab.process import wait_until
from lab.streams import Stream
from lab.uapi import PeerStatus, status

from reload_lab.script import hexadecimal

__all__ = ["PORT", "UNTOUCHED", "Member", "Star", "star"]

PORT = 51820
UNTOUCHED = 8
HUB_INSIDE = "10.78.0.254"
HUB_NODE = 100


@dataclass(slots=True)
class Member:
    """One of the nine; `number` counts from 1, the last one is the changed peer."""

    number: int
    host: Namespace
    engine: Engine
    identity: Identity

    @property
    def inside(self) -> str:
        return f"10.78.0.{self.number}"

    @property
    def own(self) -> tuple[str, ...]:
        return (f"{self.inside}/32",)

    @property
    def endpoints(self) -> tuple[str, str]:
        """Two that lead to it: by IPv4 and by IPv6."""
        return f"{self.host.ipv4}:{PORT}", f"[{self.host.ipv6}]:{PORT}"

    def hub_peer(self) -> PeerConfig:
        """The section that the hub has for it."""
        return PeerConfig(self.identity.public_key, self.own, self.endpoints[0])


@dataclass(slots=True)
class Star:
    """Everything but the hub's engine, which may also be a program of ours."""

    host: Namespace
    identity: Identity
    members: list[Member]

    @property
    def untouched(self) -> list[Member]:
        return self.members[:-1]

    @property
    def changed(self) -> Member:
        return self.members[-1]

    def peers(self) -> list[PeerConfig]:
        return [member.hub_peer() for member in self.members]

    def streams(self) -> list[Stream]:
        """Both ways for every peer: all the untouched ones, then the changed one."""
        return [
            stream
            for member in self.members
            for stream in (
                Stream(
                    self.host, HUB_INSIDE, member.host, member.inside, member.number
                ),
                Stream(member.host, member.inside, self.host, HUB_INSIDE, HUB_NODE),
            )
        ]

    def address_hub(self, interface: str = "wg0") -> None:
        ip = self.host.ip
        ip("address", "add", f"{HUB_INSIDE}/16", "dev", interface)
        ip("link", "set", interface, "mtu", "1420", "up")

    def connect(self) -> None:
        """Every session made, by a packet from the hub and one back."""
        for member in self.members:
            wait_until(
                f"peer {member.number} answers",
                lambda there=member.inside: (
                    ping(self.host, there, count=2, interval=0.01, wait=1).lost == 0
                ),
                timeout=20,
            )

    def peer_handshakes(self) -> list[int]:
        """When each member saw its last handshake with the hub, Unix ns."""
        return [member.engine.peer().handshake_ns for member in self.members]


@contextmanager
def star(peer_kind: str = "ours") -> Iterator[Star]:
    """The members are configured and wait for the hub; the first host is the hub's."""
    names = ["hub", *(f"p{n}" for n in range(1, UNTOUCHED + 2))]
    with Lab(*names) as lab:
        hub, *hosts = lab
        identity = Identity.new()
        kind = engine_kind(peer_kind)
        members = [
            _member(number, host, kind, identity.public_key)
            for number, host in enumerate(hosts, 1)
        ]
        for member in members[:-1]:
            extra = members[-1].host
            extra.ip("address", "add", f"{member.inside}/32", "dev", "lo")
        yield Star(hub, identity, members)


def _member(number: int, host: Namespace, kind: EngineKind, hub: str) -> Member:
    member = Member(number, host, Engine(kind, host), Identity.new())
    peer = PeerConfig(hub, [f"{HUB_INSIDE}/32"])
    member.engine.setconf(member.identity, [peer], listen_port=PORT)
    member.engine.addresses(f"{member.inside}/32")
    host.ip("route", "add", f"{HUB_INSIDE}/32", "dev", "wg0")
    return member


@contextmanager
def hub_engine(around: Star, kind: EngineKind) -> Iterator[Engine]:
    """The hub as a separate process that speaks UAPI, every session made."""
    engine = Engine(kind, around.host)
    try:
        engine.setconf(around.identity, around.peers(), listen_port=PORT)
        around.address_hub()
        around.connect()
        yield engine
    finally:
        engine.kill()


def known(engine: Engine, members: Sequence[Member]) -> list[PeerStatus]:
    """The hub's status of the members, in their order."""
    peers = {peer.public_key: peer for peer in status(engine.socket_path).peers}
    return [peers[hexadecimal(member.identity.public_key)] for member in members]
