"""The Linux commands, executed on a real TUN interface in a namespace of its own."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_network

import pytest

from tunnel.errors import NetconfigError
from tunnel.netconfig import linux
from tunnel.netconfig.base import Argv, WantedState, connected, prefix_text, text
from tunnel.netconfig.interface import Interface
from tunnel.netconfig.programs import Result, execute
from tunnel.netconfig.runner import Runner

from .states import address, packed, prefix, random_state

_numbers = itertools.count()
TUNTAP = ["tuntap", "add", "dev", "wg0", "mode", "tun"]
BARE = WantedState("wg0", mtu=1500, up=False)


class Namespace:
    """Executes in a network namespace that has one bare TUN interface, wg0."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.fail_at = 0
        self.fed: list[str] = []

    def __call__(self, argv: Argv) -> Result:
        self.calls += 1
        if self.calls == self.fail_at:
            return Result(1, "made to fail")
        if argv[0] == "resolvectl":  # it would talk to the real system's resolver
            return Result(1, "no resolver here")  # asked again: every call counts
        return execute(("ip", "netns", "exec", self.name, *argv))

    def feed(self, argv: Argv, text: str) -> Result:
        self.fed.append(text)
        lines = text.splitlines()
        position = self.fail_at - self.calls - 1
        if 0 <= position < len(lines):
            lines[position] = "link set up dev made-to-fail"
        self.calls += len(lines)
        text = "".join(line + "\n" for line in lines)
        return execute(("ip", "netns", "exec", self.name, *argv), text)

    def ip(self, *arguments: str) -> list[dict[str, object]]:
        done = subprocess.run(
            ["ip", "-n", self.name, "-j", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        return json.loads(done.stdout or "[]")  # type: ignore[no-any-return]

    def snapshot(self) -> tuple[object, ...]:
        """up, MTU, addresses, routes (prefix, table, protocol), rules."""
        link = self.ip("address", "show", "dev", "wg0")[0]
        flags, infos = link["flags"], link["addr_info"]
        assert isinstance(flags, list)
        assert isinstance(infos, list)
        addresses = {
            f"{info['local']}/{info['prefixlen']}"
            for info in infos
            if info.get("scope") != "link"
        }
        routes = {
            (_full(str(r["dst"]), family), str(r.get("table", "")), str(r["protocol"]))
            for family in ("-4", "-6")
            for r in self.ip(family, "route", "show", "table", "all", "dev", "wg0")
            if r.get("type") in {None, "unicast"} and "fe80" not in str(r["dst"])
        }
        rules = {
            json.dumps({"family": family, **rule}, sort_keys=True)
            for family in ("-4", "-6")
            for rule in self.ip(family, "rule", "show")
        }
        return "UP" in flags, link["mtu"], addresses, routes, rules


def _full(destination: str, family: str) -> str:
    if destination == "default":
        return "0.0.0.0/0" if family == "-4" else "::/0"
    return str(ip_network(destination))


@pytest.fixture
def namespace(
    require_tun: None, require_program: Callable[..., str], test_prefix: str
) -> Iterator[Namespace]:
    require_program("ip", "apt install iproute2")
    name = f"{test_prefix}n{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, *TUNTAP], check=True)
        yield Namespace(name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def interface_of(namespace: Namespace) -> Interface:
    runner = Runner(namespace, namespace.feed)
    return Interface(BARE, runner=runner, planner=linux.commands)


def check(namespace: Namespace, wanted: WantedState) -> None:
    up, mtu, addresses, routes, rules = namespace.snapshot()
    assert (up, mtu) == (wanted.up, wanted.mtu)
    assert addresses == {f"{text(a)}/{cidr}" for a, cidr in wanted.addresses}
    assert isinstance(routes, set)
    assert isinstance(rules, set)
    covered = connected(wanted.addresses)
    table = str(wanted.table or wanted.fwmark)
    ours = {route for route in routes if route[2] == "static"}
    assert ours == {
        (prefix_text(p), "" if p[1] else table, "static")
        for p in wanted.routes
        if p not in covered
    }
    defaults = [p for p in wanted.routes if p[1] == 0]
    assert sum('"priority": 308' in rule for rule in rules) == 2 * len(defaults)


def test_a_full_state_is_there_and_gone_after_undo(namespace: Namespace) -> None:
    start = namespace.snapshot()
    interface = interface_of(namespace)
    wanted = WantedState(
        "wg0",
        mtu=1380,
        addresses=(
            *(address("10.0.0.1/24"), address("10.0.0.2/24")),
            *(address("10.9.0.1/32"), address("fd00::1/64")),
        ),
        routes=(
            *(prefix("10.0.0.0/24"), prefix("172.16.0.0/12"), prefix("fd05::/48")),
            *(prefix("0.0.0.0/0"), prefix("::/0")),
        ),
        dns=(packed("10.0.0.53"),),
        fwmark=51820,
    )
    interface.apply(wanted)
    check(namespace, wanted)
    assert interface.undo_all() == []
    assert namespace.snapshot() == start


def test_the_default_route_is_for_everything_without_the_mark(
    namespace: Namespace,
) -> None:
    interface = interface_of(namespace)
    interface.apply(
        WantedState(
            "wg0",
            mtu=1420,
            addresses=(address("10.0.0.1/24"),),
            routes=(prefix("0.0.0.0/0"),),
            fwmark=51820,
        )
    )
    plain = namespace.ip("route", "get", "192.0.2.1")
    assert plain[0]["dev"] == "wg0"
    with pytest.raises(subprocess.CalledProcessError):
        namespace.ip("route", "get", "192.0.2.1", "mark", "51820")


def test_random_changes_and_failures(namespace: Namespace, seed: int) -> None:
    rng = random.Random(seed)
    start = namespace.snapshot()
    interface = interface_of(namespace)
    for _ in range(12):
        wanted = random_state(rng)
        steps = interface.plan(wanted)
        essential = [i for i, step in enumerate(steps, 1) if not step.optional]
        if essential and rng.random() < 0.5:
            before = namespace.snapshot()
            namespace.fail_at = namespace.calls + rng.choice(essential)
            with pytest.raises(NetconfigError, match=r"made.to.fail"):
                interface.apply(wanted)
            assert namespace.snapshot() == before
        interface.apply(wanted)
        check(namespace, wanted)
    assert interface.undo_all() == []
    assert namespace.snapshot() == start


def test_an_address_is_exchanged_without_a_gap(namespace: Namespace) -> None:
    """The kernel sees the subnet routed and an address answering at every step."""
    interface = interface_of(namespace)
    one, two = address("10.0.0.1/24"), address("10.0.0.2/24")
    interface.apply(WantedState("wg0", 1420, (one, two)))
    for step in interface.plan(WantedState("wg0", 1420, (two,))):
        assert namespace(step.argv).ok
        assert namespace.ip("route", "get", "10.0.0.77")[0]["dev"] == "wg0"
        local = namespace.ip("route", "get", "10.0.0.2")[0]
        assert local["type"] == "local"
    assert namespace.snapshot()[2] == {"10.0.0.2/24"}


def test_rules_of_a_killed_process_do_not_stand_in_the_way(
    namespace: Namespace,
) -> None:
    wanted = WantedState(
        "wg0", 1420, (address("10.0.0.1/24"),), (prefix("0.0.0.0/0"),), fwmark=7
    )
    start = namespace.snapshot()
    interface_of(namespace).apply(wanted)
    subprocess.run(["ip", "-n", namespace.name, "link", "delete", "wg0"], check=True)
    subprocess.run(["ip", "-n", namespace.name, *TUNTAP], check=True)
    again = interface_of(namespace)
    again.apply(wanted)
    check(namespace, wanted)
    assert again.undo_all() == []
    assert namespace.snapshot() == start


def test_two_tunnels_with_a_default_route_leave_each_other_alone(
    namespace: Namespace, seed: int
) -> None:
    """Whether the second ends well or fails to start, at whatever command."""
    second = ["tuntap", "add", "dev", "wg1", "mode", "tun"]
    subprocess.run(["ip", "-n", namespace.name, *second], check=True)
    everywhere = (prefix("0.0.0.0/0"), prefix("::/0"))
    start = namespace.snapshot()
    first = interface_of(namespace)
    wanted = WantedState("wg0", 1420, (address("10.0.0.1/24"),), everywhere, fwmark=7)
    first.apply(wanted)
    alone = namespace.snapshot()
    other = Interface(
        WantedState("wg1", mtu=1500, up=False),
        runner=Runner(namespace),
        planner=linux.commands,
    )
    another = WantedState("wg1", 1420, (address("10.1.0.1/24"),), everywhere, fwmark=8)
    steps = other.plan(another)
    for position in [i for i, step in enumerate(steps, 1) if not step.optional]:
        namespace.fail_at = namespace.calls + position
        with pytest.raises(NetconfigError, match=r"made.to.fail"):
            other.apply(another)
        assert namespace.snapshot() == alone
    other.apply(another)
    assert other.undo_all() == []
    assert namespace.snapshot() == alone
    check(namespace, wanted)
    assert first.undo_all() == []
    assert namespace.snapshot() == start


def test_what_going_down_costs_is_put_back(namespace: Namespace, seed: int) -> None:
    rng = random.Random(seed)
    interface = interface_of(namespace)
    lost = 0
    for _ in range(8):
        wanted = random_state(rng)
        interface.apply(wanted)
        before = namespace.snapshot()
        if not wanted.up:
            continue
        for state in ("down", "up"):
            assert namespace(("ip", "link", "set", state, "dev", "wg0")).ok
        lost += namespace.snapshot() != before
        assert interface.restore() == []
        assert namespace.snapshot() == before
    assert lost
    assert namespace.fed


def test_routes_of_another_interface_are_told_and_keep_nothing_back(
    namespace: Namespace,
) -> None:
    """One call of `ip` goes on after what fails, and says which line it was."""
    interface = interface_of(namespace)
    routes = [f"172.16.{n}.0/24" for n in range(50)]
    routes += [f"fd05:{n:x}::/32" for n in range(50)]
    addresses = (address("10.0.0.1/24"), address("fd00::1/64"))
    wanted = WantedState("wg0", 1420, addresses, tuple(map(prefix, routes)))
    interface.apply(wanted)
    assert interface.restore() == []  # nothing was lost
    for line in ("tuntap add dev wg1 mode tun", "link set wg1 up"):
        assert namespace(("ip", *line.split())).ok
    for state in ("down", "up"):
        assert namespace(("ip", "link", "set", state, "dev", "wg0")).ok
    taken = ["172.16.7.0/24", "fd05:9::/32"]
    for one in taken:
        metric = ("metric", "1024") if ":" in one else ()
        assert namespace(("ip", "route", "add", one, "dev", "wg1", *metric)).ok
    namespace.fed.clear()
    failed = interface.restore()
    assert [words.split()[4] for words in failed] == taken
    assert all("another interface has this route" in words for words in failed)
    assert len(namespace.fed) == 2
    for one in taken:
        assert namespace(("ip", "route", "delete", one, "dev", "wg1")).ok
    assert interface.restore() == []
    check(namespace, wanted)
    assert interface.undo_all() == []


def test_a_change_after_the_interface_was_down(namespace: Namespace) -> None:
    """What is gone already is no reason to refuse that it goes."""
    interface = interface_of(namespace)
    routes = (prefix("172.16.0.0/12"), prefix("fd05::/48"))
    six = address("fd00::1/64")
    interface.apply(WantedState("wg0", 1420, (address("10.0.0.1/24"), six), routes))
    for state in ("down", "up"):
        assert namespace(("ip", "link", "set", state, "dev", "wg0")).ok
    assert namespace(("ip", "address", "flush", "dev", "wg0")).ok
    wanted = WantedState("wg0", 1420, (address("10.0.0.2/32"), address("fd00::2/64")))
    interface.apply(wanted)
    check(namespace, wanted)


def test_a_vanished_interface_is_an_error_with_a_reason(namespace: Namespace) -> None:
    interface = interface_of(namespace)
    wanted = WantedState("wg0", 1420, (address("10.0.0.1/24"),))
    interface.apply(wanted)
    subprocess.run(["ip", "-n", namespace.name, "link", "delete", "wg0"], check=True)
    with pytest.raises(NetconfigError, match="Cannot find device") as caught:
        interface.apply(WantedState("wg0", 1400))
    assert "gone" in caught.value.hint
    assert interface.undo_all() != []


def test_a_route_of_another_interface_is_not_taken_over(namespace: Namespace) -> None:
    for words in (
        "tuntap add dev other mode tun",
        "link set other up",
        "route add 172.16.0.0/12 dev other",
    ):
        subprocess.run(["ip", "-n", namespace.name, *words.split()], check=True)
    start = namespace.snapshot()
    with pytest.raises(NetconfigError, match="File exists") as caught:
        interface_of(namespace).apply(
            WantedState(
                "wg0", 1420, (address("10.0.0.1/24"),), (prefix("172.16.0.0/12"),)
            )
        )
    assert "another interface" in caught.value.hint
    assert namespace.snapshot() == start
    assert namespace.ip("route", "get", "172.16.0.1")[0]["dev"] == "other"


def test_without_ipv6_the_reason_is_given(namespace: Namespace) -> None:
    off = ("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    assert namespace(off).ok
    six, four = (address("fd00::1/64"),), (address("10.0.0.1/24"),)
    with pytest.raises(NetconfigError) as caught:
        interface_of(namespace).apply(WantedState("wg0", 1420, six))
    assert "IPv6 is switched off" in caught.value.hint
    interface_of(namespace).apply(WantedState("wg0", 1420, four))
    assert namespace.snapshot()[2] == {"10.0.0.1/24"}
