"""What an interface should look like, and the words for getting there.

Data only: `diff.py` finds the commands between two states, a `System` (linux.py,
windows.py) spells them, `runner.py` executes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Protocol

from tunnel.errors import NetconfigError

__all__ = [
    "IPV6_MTU_MIN",
    "Address",
    "Argv",
    "Command",
    "Item",
    "Prefix",
    "System",
    "WantedState",
    "bits",
    "connected",
    "masked",
    "prefix_text",
    "text",
]

Address = tuple[bytes, int]  # packed address, prefix length
Prefix = tuple[bytes, int]  # the same with the host bits zero
Argv = tuple[str, ...]

IPV6_MTU_MIN: Final = 1280


@dataclass(frozen=True, slots=True)
class WantedState:
    """An interface as far as it is ours to configure.

    `mtu` 0 is whatever it is. `fwmark` is the mark of the tunnel's own datagrams and
    `table` (0: the same number) the routing table for a default route on systems with
    policy routing. Only an interface that is `up` has addresses, routes and DNS
    servers. Raises NetconfigError for a state that no system can be in.
    """

    name: str
    mtu: int = 0
    addresses: tuple[Address, ...] = ()
    routes: tuple[Prefix, ...] = ()
    up: bool = True
    dns: tuple[bytes, ...] = ()
    fwmark: int = 0
    table: int = 0

    def __post_init__(self) -> None:
        for address, cidr in (*self.addresses, *self.routes):
            if not 0 <= cidr <= bits(address):
                raise NetconfigError(f"/{cidr} does not fit {text(address)}")
        lengths = dict(self.addresses)
        for address, cidr in self.addresses:
            if lengths[address] != cidr:
                raise NetconfigError(f"address {text(address)} has two prefix lengths")
        for route in self.routes:
            if masked(route) != route:
                raise NetconfigError(f"route {prefix_text(route)} has host bits set")
        if not self.up and (self.addresses or self.routes or self.dns):
            raise NetconfigError(f"{self.name} is down: it can hold nothing")
        if self.has_ipv6 and 0 < self.mtu < IPV6_MTU_MIN:
            raise NetconfigError(
                f"MTU {self.mtu} of {self.name} is too small for IPv6",
                hint=f"use {IPV6_MTU_MIN} or more, or IPv4 addresses and routes only",
            )

    @property
    def has_ipv6(self) -> bool:
        return any(len(item[0]) == 16 for item in (*self.addresses, *self.routes))


@dataclass(frozen=True, slots=True)
class Command:
    """One program call. `undo` takes exactly its effect back (None: there is none, or
    it is not known what was before).

    `why` is for people. A failure whose message contains one of `already` (of the
    undo: `undone`), in whatever case, means that things are as wanted. An `optional`
    command may fail: the rest works without it. `after_undo` follows on the undo, to
    put back the order that it cannot restore by itself.
    """

    argv: Argv
    undo: Argv | None
    why: str
    already: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    optional: bool = False
    after_undo: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is there or not: how to add it and how to remove it.

    `exists` and `gone` are parts of the messages that adding it again, and removing it
    again, may end with; none where that is a failure.
    """

    add: Argv
    remove: Argv | None
    what: str
    exists: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    optional: bool = False

    def adding(self) -> Command:
        why = f"add {self.what}"
        return Command(
            self.add, self.remove, why, self.exists, self.gone, self.optional
        )

    def removing(self) -> list[Command]:
        if self.remove is None:
            return []
        why = f"remove {self.what}"
        return [
            Command(self.remove, self.add, why, self.gone, self.exists, self.optional)
        ]


class System(Protocol):
    """How one operating system spells it. All pure."""

    # Removing an IPv4 address takes the others of its subnet along.
    removes_subnet: bool
    # An address that is added comes behind the others, which are preferred to it.
    adds_behind: bool
    # Removing the last IPv4 address takes the interface's IPv4 routes along.
    flushes_routes: bool
    # Sizes (4, 16) of addresses that cannot be there with two prefix lengths at once.
    one_length: frozenset[int]

    def mtu(self, state: WantedState, before: int) -> list[Command]: ...
    def set_up(self, name: str, up: bool) -> Command: ...
    def address(self, name: str, address: Address, *, first: bool) -> Item:
        """`first`: the interface has no other address of that family then."""

    def route(self, state: WantedState, prefix: Prefix) -> list[Item]:
        """All that a route takes, in the order of adding; equal items are shared."""

    def detour(self, name: str, prefix: Prefix) -> Item:
        """A second route for a subnet while its addresses are exchanged."""

    def dns(self, before: WantedState, after: WantedState) -> list[Command]: ...


def connected(addresses: Iterable[Address]) -> set[Prefix]:
    """Subnets that are routed to the interface because of its addresses."""
    return {masked(address) for address in addresses}


def masked(address: Address) -> Prefix:
    packed, cidr = address
    shift = bits(packed) - cidr
    number = int.from_bytes(packed, "big") >> shift << shift
    return number.to_bytes(len(packed), "big"), cidr


def text(packed: bytes) -> str:
    return str(ip_address(packed))


def prefix_text(prefix: Prefix) -> str:
    return f"{text(prefix[0])}/{prefix[1]}"


def bits(packed: bytes) -> int:
    if len(packed) not in {4, 16}:
        raise NetconfigError("an address has 4 or 16 bytes")
    return len(packed) * 8
