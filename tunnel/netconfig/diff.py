"""The commands that turn one state of an interface into another.

The order is the same for all systems, so that the new is there before the old goes:

    MTU, if there will be IPv6 (which needs 1280) -> up -> routes that must go first ->
    new addresses -> new routes -> old routes -> old addresses -> routes that had to
    wait -> DNS -> MTU, if there will be no IPv6 -> down

Every command has its exact opposite: undone backwards, they give the state before,
from wherever one stopped. Addresses that come back by it get their place again:
those that were behind them are added anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tunnel.netconfig.base import (
    Address,
    Command,
    Item,
    Prefix,
    System,
    WantedState,
    connected,
    masked,
)

__all__ = ["commands", "settled"]


def commands(
    system: System, observed: WantedState | None, wanted: WantedState
) -> list[Command]:
    """The difference only; empty when nothing differs.

    `observed` None is an interface that is down and bare, with an unknown MTU.
    """
    before = observed or WantedState(wanted.name, up=False)
    if before.name != wanted.name:
        raise ValueError("commands do not rename an interface")
    mtu = []
    if wanted.mtu not in {0, before.mtu}:
        mtu = system.mtu(wanted, before.mtu)
    found = list(mtu) if wanted.has_ipv6 else []
    if wanted.up and not before.up:
        found.append(system.set_up(wanted.name, True))
    found += _addresses_and_routes(system, before, wanted)
    if before.dns != wanted.dns:
        found += system.dns(before, wanted)
    found += [] if wanted.has_ipv6 else mtu
    if before.up and not wanted.up:
        found.append(system.set_up(wanted.name, False))
    return found


def settled(before: WantedState, wanted: WantedState) -> tuple[Address, ...]:
    """The wanted addresses in the order in which the system has them afterwards."""
    found = _kept_and_new(before, wanted)
    subnets = _shared_subnets(_gone(before, wanted), wanted.addresses)
    last = [a for a in found if masked(a) in subnets]  # see `_addresses`
    return (*(a for a in found if a not in last), *last)


def _kept_and_new(before: WantedState, wanted: WantedState) -> list[Address]:
    return list(
        dict.fromkeys(
            [*(a for a in before.addresses if a in wanted.addresses), *wanted.addresses]
        )
    )


def _gone(before: WantedState, wanted: WantedState) -> list[Address]:
    return [a for a in dict.fromkeys(before.addresses) if a not in wanted.addresses]


def _addresses_and_routes(
    system: System, before: WantedState, wanted: WantedState
) -> list[Command]:
    old, new = _routes(system, before), _routes(system, wanted)
    covered_before = connected(before.addresses)
    covered_after = connected(wanted.addresses)
    flushed = system.flushes_routes and (
        _has_ipv4(before.addresses) != _has_ipv4(wanted.addresses)
    )

    def early(prefix: Prefix) -> bool:
        """Must be gone before addresses change: the system makes its own then, or
        throws the route away (or would, when the change is undone)."""
        return prefix in covered_after or (flushed and len(prefix[0]) == 4)

    def late(prefix: Prefix) -> bool:
        """Cannot be added before addresses have changed."""
        return prefix in covered_before or (flushed and len(prefix[0]) == 4)

    first_out = [i for i, p in old.items() if early(p) and (i not in new or late(p))]
    last_in = [i for i, p in new.items() if late(p) and (i not in old or early(p))]
    into = [i for i, p in new.items() if i not in old and not late(p)]
    out = [i for i, p in old.items() if i not in new and not early(p)]
    addresses_in, addresses_out = _addresses(system, before, wanted)
    return [
        *_removing(first_out),
        *addresses_in,
        *(item.adding() for item in into),
        *_removing(out),
        *addresses_out,
        *(item.adding() for item in last_in),
    ]


def _routes(system: System, state: WantedState) -> dict[Item, Prefix]:
    """Items of the routes that the interface's addresses do not bring along."""
    covered = connected(state.addresses)
    return {
        item: prefix
        for prefix in dict.fromkeys(state.routes)
        if prefix not in covered
        for item in system.route(state, prefix)
    }


def _addresses(
    system: System, before: WantedState, wanted: WantedState
) -> tuple[list[Command], list[Command]]:
    """What is to be done before and after the change of routes."""
    gone = _gone(before, wanted)
    new = [a for a in dict.fromkeys(wanted.addresses) if a not in before.addresses]
    subnets = _shared_subnets(gone, wanted.addresses) if system.removes_subnet else []
    exchanged = [a for a in _kept_and_new(before, wanted) if masked(a) in subnets]

    def item(address: Address) -> Item:
        others = [a for a in before.addresses if len(a[0]) == len(address[0])]
        return system.address(wanted.name, address, first=not others)

    # same address, other length: the only case in which the old one goes first
    relength = [a for a in gone if len(a[0]) in system.one_length and a[0] in dict(new)]
    # An address whose subnet loses another would go with that. Until it can be put
    # back it stays as a host address, and its subnet is reached by a detour.
    hosts = [(a, 32) for a, _ in exchanged]
    bridge = [item(a) for a in hosts if a not in gone]
    bridge += [system.detour(wanted.name, subnet) for subnet in subnets]
    # last first: the first one of a subnet would take the next ones along
    leaving = [
        a
        for a in before.addresses
        if a in exchanged or (a in gone and a not in relength and a not in hosts)
    ]
    placed = set() if system.adds_behind else {4, 16}

    def taking(addresses: list[Address]) -> list[Command]:
        """Removes them. The first removal is undone last: then comes what puts all
        addresses of that size in order."""
        found: list[Command] = []
        for address in reversed(addresses):
            size = len(address[0])
            again = _behind(before, size, gone, leaving) if size not in placed else []
            placed.add(size)
            order = [c for a in again for c in _renewing(item(a))]
            found += [
                replace(command, after_undo=tuple(order))
                for command in item(address).removing()
            ]
        return found

    return [
        *taking(relength),
        *_adding(system, before, wanted.name, [a for a in new if a not in exchanged]),
        *(i.adding() for i in bridge),
    ], [
        *taking(leaving),
        *(item(a).adding() for a in exchanged),
        *_removing([item(a) for a in hosts if a in gone] + bridge),
    ]


def _behind(
    before: WantedState, size: int, gone: Sequence[Address], leaving: Sequence[Address]
) -> list[Address]:
    """The addresses behind the first one that goes; none if those that leave, which
    come back in their order, are all that there is from there on."""
    same = [a for a in dict.fromkeys(before.addresses) if len(a[0]) == size]
    first = next(i for i, a in enumerate(same) if a in gone or a in leaving)
    return [] if all(a in leaving for a in same[first:]) else same[first + 1 :]


def _renewing(item: Item) -> list[Command]:
    return [*item.removing(), item.adding()]


def _adding(
    system: System, before: WantedState, name: str, new: Iterable[Address]
) -> list[Command]:
    sizes = {len(packed) for packed, _ in before.addresses}
    found = []
    for address in new:
        first = len(address[0]) not in sizes
        sizes.add(len(address[0]))
        found.append(system.address(name, address, first=first).adding())
    return found


def _shared_subnets(gone: Sequence[Address], stay: Iterable[Address]) -> list[Prefix]:
    """IPv4 subnets in which some addresses go and others are wanted."""
    staying = {masked(a) for a in stay if len(a[0]) == 4}
    return [s for s in dict.fromkeys(masked(a) for a in gone) if s in staying]


def _removing(items: Sequence[Item]) -> list[Command]:
    return [command for item in reversed(items) for command in item.removing()]


def _has_ipv4(addresses: Iterable[Address]) -> bool:
    return any(len(packed) == 4 for packed, _ in addresses)
