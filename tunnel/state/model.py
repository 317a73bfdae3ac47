"""What a tunnel is configured to be, in one canonical and immutable form.

The same types describe what is wanted and what is running, so that comparing the two
is a comparison of values. Only configuration lives here: a roamed endpoint, counters
and handshake times are status, not state. No I/O and no clock in this package.

Everything is packed: addresses are `bytes` of 4 or 16 in network order, keys are 32
raw bytes. Sharing equal tuples between states keeps ten thousand peers cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from tunnel.digest import compare_digest

__all__ = [
    "Address",
    "DeviceState",
    "Endpoint",
    "InterfaceState",
    "PeerState",
    "Prefix",
    "Secret",
    "canonical_prefixes",
    "clamp",
    "mask",
    "prefix_owners",
    "secret_or_none",
    "short_key",
    "unmapped",
    "without_peer",
]

Endpoint = tuple[bytes, int, int]  # packed address, port, scope id
Prefix = tuple[bytes, int]  # packed address with the host bits zero, prefix length
Address = tuple[bytes, int]  # packed address of the interface, prefix length

KEY_SIZE: Final = 32
_ZERO_KEY: Final = bytes(KEY_SIZE)
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Secret:
    """32 bytes that are never printed; equality takes constant time."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) != KEY_SIZE:
            raise ValueError("a key has 32 bytes")
        self._value = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves; keep them out of logs, errors and plans."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not Secret:  # a third of the time of isinstance
            return NotImplemented
        return self is other or compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(…)"


def secret_or_none(value: bytes | None) -> Secret | None:
    """A key as configured; all zero bytes mean "none" (R68)."""
    if value is None or compare_digest(value, _ZERO_KEY):
        return None
    return Secret(value)


def clamp(private_key: bytes) -> bytes:
    """The key as Curve25519 uses it, which is also how it reads back (R68)."""
    if len(private_key) != KEY_SIZE:
        raise ValueError("a key has 32 bytes")
    last = private_key[31] & 0x7F | 0x40
    return bytes([private_key[0] & 0xF8, *private_key[1:31], last])


def short_key(public_key: bytes) -> str:
    """A public key as it appears in logs: `AbCd…WxYz`."""
    from base64 import b64encode

    text = b64encode(public_key).decode()
    return f"{text[:4]}…{text[39:43]}"


def unmapped(address: bytes) -> bytes:
    """Where an endpoint is: IPv4 in the clothes of IPv6 (::ffff:192.0.2.1) is IPv4, as
    which its packets leave and come."""
    if len(address) == 16 and address.startswith(_MAPPED):
        return address[12:]
    return address


def mask(address: bytes, cidr: int) -> Prefix:
    """The prefix that `address` lies in; `ValueError` when `cidr` does not fit."""
    bits = len(address) * 8
    if bits not in (32, 128) or not 0 <= cidr <= bits:
        raise ValueError("not a prefix")
    if cidr == bits:
        return address, cidr
    shift = bits - cidr
    number = int.from_bytes(address, "big") >> shift << shift
    return number.to_bytes(len(address), "big"), cidr


def prefix_sort_key(prefix: Prefix) -> tuple[int, bytes, int]:
    """IPv4 before IPv6, then by address, then by length."""
    return len(prefix[0]), prefix[0], prefix[1]


def canonical_prefixes(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """Unique and in the one order in which states keep them."""
    return tuple(sorted(set(prefixes), key=prefix_sort_key))


@dataclass(frozen=True, slots=True, eq=False)
class PeerState:
    """One peer as configured.

    `endpoint` is the configured one (None: wait to be contacted), `keepalive` is in
    seconds with 0 for off. `allowed_ips` is in `canonical_prefixes` order. A peer that
    is not `enabled` keeps its place in the configuration and owns nothing on the wire.
    """

    public_key: bytes
    name: str = ""
    preshared_key: Secret | None = None
    endpoint: Endpoint | None = None
    allowed_ips: tuple[Prefix, ...] = ()
    keepalive: int = 0
    enabled: bool = True

    def __eq__(self, other: object) -> bool:
        """By value. Written out: a plan asks ten thousand times, and the generated
        one makes two tuples each time."""
        if not isinstance(other, PeerState):
            return NotImplemented
        return (
            self.public_key == other.public_key
            and self.allowed_ips == other.allowed_ips
            and self.endpoint == other.endpoint
            and self.keepalive == other.keepalive
            and self.name == other.name
            and self.enabled == other.enabled
            and self.preshared_key == other.preshared_key
        )

    def __hash__(self) -> int:
        return hash((self.public_key, self.allowed_ips, self.endpoint))


@dataclass(frozen=True, slots=True)
class InterfaceState:
    """The network interface: `kind` is `tun` or `loopback` (in memory).

    With `auto_configure` the addresses, routes and DNS servers are put in place by this
    program; without it they are somebody else's business. The MTU is always put there.
    `workers` that carry its packets: 0 is as many as suit the machine.
    """

    kind: str = "tun"
    name: str = ""
    mtu: int = 1420
    addresses: tuple[Address, ...] = ()
    routes: tuple[Prefix, ...] = ()
    dns: tuple[bytes, ...] = ()
    auto_configure: bool = False
    workers: int = 0


_NO_PEERS: Final[Mapping[bytes, PeerState]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class DeviceState:
    """A whole tunnel. `listen_port` 0 lets the system choose.

    `peers` is keyed by public key, in configuration order, and must not be changed
    once it is part of a state. `settings` are named values beside them (management,
    limits, access lists): hashable, compared by value, handed through to whoever
    understands them. Pairs are in order of their names.
    """

    private_key: Secret | None = None
    listen_port: int = 0
    fwmark: int = 0
    interface: InterfaceState = field(default_factory=InterfaceState)
    peers: Mapping[bytes, PeerState] = field(default_factory=lambda: _NO_PEERS)
    log_level: str = "info"
    settings: tuple[tuple[str, object], ...] = ()

    def with_peers(self, peers: Mapping[bytes, PeerState]) -> DeviceState:
        """The same with other peers, for a fifth of what `replace` takes."""
        return DeviceState(
            self.private_key, self.listen_port, self.fwmark, self.interface, peers,
            self.log_level, self.settings,
        )  # fmt: skip


def prefix_owners(peers: Mapping[bytes, PeerState]) -> dict[Prefix, bytes]:
    """Which enabled peer owns each prefix (exact prefixes, not longest match)."""
    return {
        prefix: key
        for key, peer in peers.items()
        if peer.enabled
        for prefix in peer.allowed_ips
    }


def without_peer(state: DeviceState, public_key: bytes | None) -> DeviceState:
    """The state without that peer: our own key as a peer is ignored (R69)."""
    if public_key is None or public_key not in state.peers:
        return state
    peers = dict(state.peers)
    del peers[public_key]
    return replace(state, peers=peers)
