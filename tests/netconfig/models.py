"""Interfaces that exist only in the tests: they obey `ip` and `netsh` command lines.

They have the habits of the real ones that make the order of commands matter, such as
Linux dropping the whole subnet with its first address.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from tunnel.netconfig.base import Argv, connected, prefix_text
from tunnel.netconfig.programs import Result
from tunnel.netconfig.runner import Runner


class Refused(Exception):
    """The program would print this and fail."""


class Model:
    """What both systems have; `fail_at` makes one call (counted from 1) fail."""

    def __init__(self, mtu: int = 1500) -> None:
        self.up = False
        self.mtu = mtu
        self.addresses: list[tuple[str, bool]] = []  # "10.0.0.1/24", secondary
        self.routes: set[tuple[str, ...]] = set()
        self.rules: set[tuple[str, ...]] = set()
        self.dns: tuple[str, ...] = ()
        self.calls: list[Argv] = []
        self.fail_at = 0

    def __call__(self, argv: Argv) -> Result:
        self.calls.append(argv)
        if len(self.calls) == self.fail_at:
            return Result(1, "made to fail")
        try:
            self.obey(argv)
        except Refused as error:
            return Result(2, str(error))
        return Result(0)

    def obey(self, argv: Argv) -> None:
        raise NotImplementedError

    def snapshot(self) -> object:
        shown = frozenset(a for a, _ in self.addresses)
        mine, rules = frozenset(self.routes), frozenset(self.rules)
        return self.up, self.mtu, shown, mine, rules, self.dns

    def runner(self) -> Runner:
        return Runner(self)

    def local(self) -> set[str]:
        """Addresses that answer, without their prefix lengths."""
        return {a.split("/")[0] for a, _ in self.addresses}

    def reached(self) -> set[str]:
        """Prefixes that have a route, the interface's own included."""
        return {route[0] for route in self.routes} | self.own_subnets()

    def own_subnets(self) -> set[str]:
        packed = []
        for address, secondary in self.addresses:
            if not secondary:
                interface = ip_interface(address)
                packed.append((interface.packed, interface.network.prefixlen))
        return {prefix_text(prefix) for prefix in connected(packed)}


class LinuxModel(Model):
    """Routes are (prefix, metric, table). A `newer` kernel has other messages."""

    newer = True
    batches = 0
    gives_up = ""
    hangs_after = -1  # so many lines of a batch; once
    others: frozenset[str] = frozenset()  # prefixes that lead to another interface

    def feed(self, argv: Argv, text: str) -> Result:
        """`ip` with many commands; the line of which it is said to give up is the one
        with `gives_up` in it, the one before which it hangs is at `hangs_after`."""
        self.batches += 1
        assert argv[2:] in (("-force", "-batch", "-"), ("-batch", "-"))
        heard = []
        for number, line in enumerate(text.splitlines(), 1):
            if number - 1 == self.hangs_after:
                self.hangs_after = -1
                return Result(None, "no answer")
            if self.gives_up and self.gives_up in line:
                return Result(255, "".join([*heard, f"Error: {self.gives_up}\n"]))
            result = self((*argv[:2], *line.split()))
            if not result.ok:
                heard.append(f"{result.stderr}\nCommand failed -:{number}\n")
                if "-force" not in argv:
                    break
        return Result(1 if heard else 0, "".join(heard))

    def __call__(self, argv: Argv) -> Result:
        if argv[2:4] == ("route", "show"):
            return Result(0, self.shown(argv))
        return super().__call__(argv)

    def shown(self, argv: Argv) -> str:
        """As `ip route show` does it, of one table and family."""
        assert (argv[4], argv[6:]) == ("table", ("dev", "wg0"))
        table = "" if argv[5] == "main" else argv[5]
        mine = [
            prefix
            for prefix, _, found in self.routes
            if found == table and (":" in prefix) == (argv[1] == "-6")
        ]
        words = {"0.0.0.0/0": "default", "::/0": "default"}
        short = [words.get(p, p.removesuffix("/32").removesuffix("/128")) for p in mine]
        return "".join(f"{word} proto static scope link \n" for word in short)

    def obey(self, argv: Argv) -> None:
        match argv:
            case ("ip", "link", "set", "mtu", mtu, "dev", "wg0"):
                self.set_mtu(int(mtu))
            case ("ip", "link", "set", "up", "dev", "wg0"):
                self.up = True
            case ("ip", "link", "set", "down", "dev", "wg0"):
                self.up = False
                self.routes = {r for r in self.routes if ":" in r[0]}
                self.drop_ipv6()
            case ("ip", family, "address", verb, address, "dev", "wg0", *rest):
                assert family == ("-6" if ":" in address else "-4")
                assert rest in ([], ["nodad"])
                self.add(address) if verb == "add" else self.delete(address)
            case ("ip", "-4" | "-6", "route", verb, prefix, "dev", "wg0", *rest):
                assert rest[-2:] == ["proto", "static"]
                options = dict(zip(rest[::2], rest[1::2], strict=True))
                route = (prefix, options.get("metric", ""), options.get("table", ""))
                self.route(verb, route)
            case ("ip", "-4" | "-6", "rule", verb, "priority", *rest):
                self.rule(verb, (argv[1], *rest))
            case ("resolvectl", verb, "wg0", *values):
                others = tuple(v for v in self.dns if not v.startswith(verb))
                self.dns = tuple(
                    sorted({*others, *(f"{verb} {v}" for v in values if v)})
                )
            case ("sysctl", "-q", "-w", "net.ipv4.conf.all.src_valid_mark=1"):
                pass
            case _:
                raise AssertionError(f"no such command: {argv}")

    def set_mtu(self, mtu: int) -> None:
        self.mtu = mtu
        if mtu < 1280:
            self.drop_ipv6()

    def drop_ipv6(self) -> None:
        self.addresses = [a for a in self.addresses if ":" not in a[0]]
        self.routes = {r for r in self.routes if ":" not in r[0]}

    def add(self, address: str) -> None:
        if ":" in address:
            if self.mtu < 1280:
                raise Refused("RTNETLINK answers: Invalid argument")
            if ip_interface(address).ip in {
                ip_interface(a).ip for a, _ in self.addresses
            }:
                raise Refused(self.said("Error: ipv6: address already assigned."))
            self.addresses.append((address, False))
            return
        if address in {a for a, _ in self.addresses}:
            raise Refused(self.said("Error: ipv4: Address already assigned."))
        secondary = ip_interface(address).network in self.ipv4_subnets()
        self.addresses.append((address, secondary))

    def delete(self, address: str) -> None:
        found = [a for a in self.addresses if a[0] == address]
        if not found:
            six = ":" in address
            words = "ipv6: address" if six else "ipv4: Address"
            raise Refused(self.said(f"Error: {words} not found."))
        network = ip_interface(address).network
        if ":" in address or found[0][1]:
            self.addresses.remove(found[0])
        else:
            self.addresses = [
                a for a in self.addresses if ip_interface(a[0]).network != network
            ]
        if ":" not in address and not self.ipv4_subnets():
            self.routes = {r for r in self.routes if ":" in r[0]}

    def said(self, newer: str) -> str:
        if self.newer:
            return newer
        older = (
            "File exists" if "already" in newer else "Cannot assign requested address"
        )
        return f"RTNETLINK answers: {older}"

    def down_and_up(self) -> None:
        """What somebody does by hand, and what it costs."""
        self.obey(("ip", "link", "set", "down", "dev", "wg0"))
        self.obey(("ip", "link", "set", "up", "dev", "wg0"))

    def ipv4_subnets(self) -> set[object]:
        return {ip_interface(a).network for a, _ in self.addresses if ":" not in a}

    def route(self, verb: str, route: tuple[str, ...]) -> None:
        prefix, metric, table = route
        if verb == "delete":
            if route not in self.routes:
                raise Refused("RTNETLINK answers: No such process")
            self.routes.remove(route)
            return
        assert ip_network(prefix)
        if not self.up:
            raise Refused("Error: Device for nexthop is not up.")
        if ":" in prefix and self.mtu < 1280:
            raise Refused("RTNETLINK answers: Invalid argument")
        own = not metric and not table and prefix in self.own_subnets()
        if prefix in self.others or route in self.routes or (own and ":" not in prefix):
            raise Refused("RTNETLINK answers: File exists")
        self.routes.add(route)

    def rule(self, verb: str, rule: tuple[str, ...]) -> None:
        if verb == "add":
            if rule in self.rules:
                raise Refused("RTNETLINK answers: File exists")
            self.rules.add(rule)
        elif rule not in self.rules:
            raise Refused("RTNETLINK answers: No such file or directory")
        else:
            self.rules.remove(rule)


class TogetherModel(LinuxModel):
    """Is given many commands at once."""

    def runner(self) -> Runner:
        return Runner(self, self.feed)


class WindowsModel(Model):
    """Routes are (prefix,); an address has one prefix length."""

    def obey(self, argv: Argv) -> None:
        words = dict(word.split("=", 1) for word in argv if "=" in word)
        assert words.pop("name", None) == "wg0" or words["interface"] == "wg0"
        match [word for word in argv if "=" not in word]:
            case ["netsh", "interface", "set", "interface"]:
                self.up = words["admin"] == "enabled"
            case ["netsh", "interface", "ipv4" | "ipv6", "set", "subinterface"]:
                self.mtu = int(words["mtu"])
            case ["netsh", "interface", family, verb, "address"]:
                self.address(family, verb, words)
            case ["netsh", "interface", _, verb, "route"]:
                self.route(verb, words["prefix"])
            case ["netsh", "interface", family, verb, "dnsservers"]:
                self.server(family, verb, words)
            case _:
                raise AssertionError(f"no such command: {argv}")

    def address(self, family: str, verb: str, words: dict[str, str]) -> None:
        address = words["address"]
        bare = address.split("/")[0]
        assert (ip_address(bare).version == 6) == (family == "ipv6")
        there = [a for a in self.addresses if a[0].split("/")[0] == bare]
        if verb == "delete":
            if not there:
                raise Refused("Element not found.")
            self.addresses.remove(there[0])
            return
        if there:
            raise Refused("The object already exists.")
        if family == "ipv4":
            address = str(ip_interface(f"{address}/{words['mask']}"))
        if verb == "set":
            assert words["source"] == "static"
            self.addresses = [a for a in self.addresses if ":" in a[0]]
        self.addresses.append((address, False))

    def route(self, verb: str, prefix: str) -> None:
        assert ip_network(prefix)
        if verb == "delete":
            if (prefix,) not in self.routes:
                raise Refused("Element not found.")
            self.routes.remove((prefix,))
        elif prefix in self.reached():
            raise Refused("The object already exists.")
        else:
            self.routes.add((prefix,))

    def server(self, family: str, verb: str, words: dict[str, str]) -> None:
        ours = ":" if family == "ipv6" else "."
        same = [d for d in self.dns if ours in d]
        others = [d for d in self.dns if ours not in d]
        if verb == "delete":
            same.remove(words["address"])
        else:
            same.insert(int(words["index"]) - 1, words["address"])
        self.dns = (*others, *same) if ours == ":" else (*same, *others)
