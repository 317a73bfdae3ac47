"""Windows: the interface is configured with `netsh`.

Everything is set for the running system only (`store=active`), because the interface
does not outlive the process. There is no policy routing: a default route is a route
like any other, and fwmark and table mean nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Final

from tunnel.netconfig import diff
from tunnel.netconfig.base import (
    Address,
    Argv,
    Command,
    Item,
    Prefix,
    WantedState,
    prefix_text,
    text,
)

__all__ = ["commands"]

_GONE: Final = ("Element not found",)


def commands(observed: WantedState | None, wanted: WantedState) -> list[Command]:
    """See `diff.commands`."""
    return diff.commands(_Windows(), observed, wanted)


class _Windows:
    removes_subnet = False
    adds_behind = False
    flushes_routes = False
    one_length = frozenset({4, 16})

    def mtu(self, state: WantedState, before: int) -> list[Command]:
        return [
            Command(
                _mtu(family, state.name, state.mtu),
                _mtu(family, state.name, before) if before else None,
                f"set the {family} MTU to {state.mtu}",
            )
            for family in _families(state)
        ]

    def set_up(self, name: str, up: bool) -> Command:
        states = ("enabled", "disabled") if up else ("disabled", "enabled")
        do, undo = (
            ("netsh", "interface", "set", "interface", f"name={name}", f"admin={state}")
            for state in states
        )
        return Command(do, undo, f"set the interface {'up' if up else 'down'}")

    def address(self, name: str, address: Address, *, first: bool) -> Item:
        what = text(address[0])
        if len(address[0]) == 16:
            there = (f"interface={name}", f"address={what}/{address[1]}")
            gone = (f"interface={name}", f"address={what}")
            verb: Argv = ("add",)
        else:
            mask = IPv4Network((0, address[1])).netmask
            # the first one also ends asking a DHCP server, which "add" does not
            verb = ("set",) if first else ("add",)
            source = ("source=static",) if first else ()
            there = (f"name={name}", *source, f"address={what}", f"mask={mask}")
            gone = (f"name={name}", f"address={what}")
        netsh = _netsh(address[0])
        return Item(
            (*netsh, *verb, "address", *there, "store=active"),
            (*netsh, "delete", "address", *gone, "store=active"),
            f"address {prefix_text(address)}",
            gone=_GONE,
        )

    def route(self, state: WantedState, prefix: Prefix) -> list[Item]:
        return [self.detour(state.name, prefix)]

    def detour(self, name: str, prefix: Prefix) -> Item:
        what = prefix_text(prefix)
        hop = "0.0.0.0" if len(prefix[0]) == 4 else "::"  # noqa: S104 (on the link)
        where = (f"prefix={what}", f"interface={name}", f"nexthop={hop}")
        netsh = _netsh(prefix[0])
        return Item(
            (*netsh, "add", "route", *where, "metric=0", "store=active"),
            (*netsh, "delete", "route", *where, "store=active"),
            f"route {what}",
            gone=_GONE,
        )

    def dns(self, before: WantedState, after: WantedState) -> list[Command]:
        """The order of servers matters, so the list is taken down and built anew."""
        name = after.name
        found: list[Command] = []
        for size in (4, 16):
            old = [s for s in before.dns if len(s) == size]
            new = [s for s in after.dns if len(s) == size]
            if old != new:
                for item in reversed([_server(name, s, i) for i, s in enumerate(old)]):
                    found += item.removing()
                found += [_server(name, s, i).adding() for i, s in enumerate(new)]
        return found


def _netsh(packed: bytes) -> Argv:
    return "netsh", "interface", "ipv4" if len(packed) == 4 else "ipv6"


def _families(state: WantedState) -> list[str]:
    return ["ipv4", "ipv6"] if state.has_ipv6 else ["ipv4"]


def _mtu(family: str, name: str, mtu: int) -> Argv:
    where = ("set", "subinterface", f"interface={name}")
    return "netsh", "interface", family, *where, f"mtu={mtu}", "store=active"


def _server(name: str, server: bytes, position: int) -> Item:
    what = f"address={text(server)}"
    netsh = _netsh(server)
    place = (f"index={position + 1}", "validate=no")
    return Item(
        (*netsh, "add", "dnsservers", f"name={name}", what, *place),
        (*netsh, "delete", "dnsservers", f"name={name}", what, "validate=no"),
        f"DNS server {text(server)}",
    )
