"""Linux: the interface is configured with `ip`, DNS with `resolvectl`.

A default route is handled as wg-quick does it: it lives in a table of its own, which
everything uses that does not carry the tunnel's fwmark; more specific routes of the
main table stay in force. Unlike wg-quick's, both rules name the fwmark, so that each
tunnel has its own and takes away no other's. Where there is no resolvectl, DNS servers
are left alone.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_network
from typing import Final

from tunnel.errors import NetconfigError
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

__all__ = ["RULE_PRIORITY", "SYSTEM_TABLES", "commands", "listed", "listing"]

# Lower is asked first: the main table without its default route, then the tunnel's.
# What carries the fwmark comes to the whole main table behind both, and so to the same
# route as by way of the first rule.
RULE_PRIORITY: Final = 30_820
# Routing tables that everybody uses; a default route of ours would be everybody's.
SYSTEM_TABLES: Final = {253: "default", 254: "main", 255: "local"}

_RULE_EXISTS: Final = ("File exists",)  # left by a process that was killed

# What removing says when the kernel has done it before, along with something else;
# newer kernels have their own words for addresses, "ipv4: Address not found.".
_NO_ADDRESS: Final = ("Cannot assign requested address", "Address not found")
_NO_ROUTE: Final = ("No such process",)
_NO_RULE: Final = ("No such file or directory",)


def commands(observed: WantedState | None, wanted: WantedState) -> list[Command]:
    """See `diff.commands`. NetconfigError for a default route without a fwmark, or in
    one of the system's own tables."""
    return diff.commands(_Linux(), observed, wanted)


def listing(command: Command) -> Argv | None:
    """Of a command that adds a route: what lists the routes of its table that lead to
    its interface. None of any other."""
    match command.argv:
        case ("ip", family, "route", "add", _, "dev", name, *rest):
            table = rest[1] if rest[0] == "table" else "main"
            return "ip", family, "route", "show", "table", table, "dev", name
    return None


def listed(said: str) -> set[str]:
    """The prefixes in the answer to a `listing`, spelled as in commands."""
    found: set[str] = set()
    for line in said.splitlines():
        first = line.split(maxsplit=1)[0] if line.strip() else ""
        if first == "default":
            found |= {"0.0.0.0/0", "::/0"}
        with suppress(ValueError):  # a route of another kind
            found.add(str(ip_network(first)))
    return found


class _Linux:
    removes_subnet = True
    adds_behind = True
    flushes_routes = True
    one_length = frozenset({16})

    def mtu(self, state: WantedState, before: int) -> list[Command]:
        def argv(mtu: int) -> Argv:
            return "ip", "link", "set", "mtu", str(mtu), "dev", state.name

        undo = argv(before) if before else None
        return [Command(argv(state.mtu), undo, f"set the MTU to {state.mtu}")]

    def set_up(self, name: str, up: bool) -> Command:
        states = ("up", "down") if up else ("down", "up")
        do, undo = (("ip", "link", "set", state, "dev", name) for state in states)
        return Command(do, undo, f"set the interface {states[0]}")

    def address(self, name: str, address: Address, *, first: bool) -> Item:
        del first
        what = prefix_text(address)
        ip = ("ip", _family(address[0]), "address")
        # no duplicate address detection: there is nobody else on the link
        nodad = ("nodad",) if len(address[0]) == 16 else ()
        return Item(
            (*ip, "add", what, "dev", name, *nodad),
            (*ip, "delete", what, "dev", name),
            f"address {what}",
            gone=_NO_ADDRESS,
        )

    def route(self, state: WantedState, prefix: Prefix) -> list[Item]:
        if prefix[1] == 0:
            return _default_route(state, prefix)
        return [_route(prefix, "dev", state.name)]

    def detour(self, name: str, prefix: Prefix) -> Item:
        return _route(prefix, "dev", name, "metric", "1")

    def dns(self, before: WantedState, after: WantedState) -> list[Command]:
        name = after.name
        # "~." asks these servers for all names, "" takes the setting back
        found = [
            ("dns", _servers(before), _servers(after), "DNS servers"),
            ("domain", _domains(before), _domains(after), "DNS domains"),
        ]
        return [
            Command(
                ("resolvectl", verb, name, *new),
                ("resolvectl", verb, name, *old),
                f"set the {what}",
                optional=True,
            )
            for verb, old, new, what in found
            if old != new
        ]


def _route(prefix: Prefix, *where: str) -> Item:
    # "proto static" keeps a removal from hitting the kernel's own route
    what = prefix_text(prefix)
    ip = ("ip", _family(prefix[0]), "route")
    rest = (what, *where, "proto", "static")
    add, delete = (*ip, "add", *rest), (*ip, "delete", *rest)
    return Item(add, delete, f"route {what}", gone=_NO_ROUTE)


def _default_route(state: WantedState, prefix: Prefix) -> list[Item]:
    if not state.fwmark:
        raise NetconfigError(
            f"route {prefix_text(prefix)} needs a fwmark",
            hint="without one the tunnel's own datagrams would go into the tunnel; "
            "set fwmark (wg-quick uses 51820)",
        )
    number = state.table or state.fwmark
    if number in SYSTEM_TABLES:
        raise NetconfigError(
            f"route {prefix_text(prefix)} cannot live in table {number}, which is the "
            f"system's own ({SYSTEM_TABLES[number]})",
            hint="set another fwmark (wg-quick uses 51820)",
        )
    table = str(number)
    family = _family(prefix[0])
    items = [_route(prefix, "dev", state.name, "table", table)]
    if family == "-4":
        # lets strict reverse path filtering see the mark; harmless to leave behind
        setting = "net.ipv4.conf.all.src_valid_mark=1"
        items.append(
            Item(("sysctl", "-q", "-w", setting), None, setting, optional=True)
        )
    unmarked = ("not", "fwmark", str(state.fwmark), "table")
    rules = (
        (RULE_PRIORITY, (*unmarked, "main", "suppress_prefixlength", "0")),
        (RULE_PRIORITY + 1, (*unmarked, table)),
    )
    for priority, selector in rules:
        rest = ("priority", str(priority), *selector)
        items.append(
            Item(
                ("ip", family, "rule", "add", *rest),
                ("ip", family, "rule", "delete", *rest),
                f"rule {' '.join(selector)}",
                exists=_RULE_EXISTS,
                gone=_NO_RULE,
            )
        )
    return items


def _family(packed: bytes) -> str:
    return "-4" if len(packed) == 4 else "-6"


def _servers(state: WantedState) -> Argv:
    return tuple(text(server) for server in state.dns) or ("",)


def _domains(state: WantedState) -> Argv:
    return ("~.",) if state.dns else ("",)
