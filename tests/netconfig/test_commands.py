"""Golden tables: the exact command lines, forward and back."""

from __future__ import annotations

import pytest

from tunnel.errors import NetconfigError, NotSupported
from tunnel.netconfig import linux, system, windows
from tunnel.netconfig.base import Command, WantedState

from .states import address, packed, prefix

BARE = WantedState("wg0", up=False)
FULL = WantedState(
    "wg0",
    mtu=1420,
    addresses=(address("10.0.0.1/24"), address("10.0.1.1/32"), address("fd00::1/64")),
    routes=(prefix("10.0.0.0/24"), prefix("172.16.0.0/12"), prefix("fd05::/48")),
    dns=(packed("10.0.0.53"), packed("fd00::53")),
)
UP = WantedState("wg0", 1420)
MAIN = "table main suppress_prefixlength 0"


def lines(commands: list[Command]) -> list[str]:
    return [" ".join(word or '""' for word in c.argv) for c in commands]


def undo_lines(commands: list[Command]) -> list[str]:
    return [" ".join(word or '""' for word in c.undo or ("-",)) for c in commands]


def state(**fields: object) -> WantedState:
    return WantedState("wg0", 1420, **fields)  # type: ignore[arg-type]


LINUX = {
    "everything": (
        BARE,
        FULL,
        [
            "ip link set mtu 1420 dev wg0",
            "ip link set up dev wg0",
            "ip -4 address add 10.0.0.1/24 dev wg0",
            "ip -4 address add 10.0.1.1/32 dev wg0",
            "ip -6 address add fd00::1/64 dev wg0 nodad",
            "ip -6 route add fd05::/48 dev wg0 proto static",
            "ip -4 route add 172.16.0.0/12 dev wg0 proto static",
            "resolvectl dns wg0 10.0.0.53 fd00::53",
            "resolvectl domain wg0 ~.",
        ],
        [
            "-",
            "ip link set down dev wg0",
            "ip -4 address delete 10.0.0.1/24 dev wg0",
            "ip -4 address delete 10.0.1.1/32 dev wg0",
            "ip -6 address delete fd00::1/64 dev wg0",
            "ip -6 route delete fd05::/48 dev wg0 proto static",
            "ip -4 route delete 172.16.0.0/12 dev wg0 proto static",
            'resolvectl dns wg0 ""',
            'resolvectl domain wg0 ""',
        ],
    ),
    "nothing": (FULL, FULL, [], []),
    "mtu": (
        UP,
        WantedState("wg0", 1280),
        ["ip link set mtu 1280 dev wg0"],
        ["ip link set mtu 1420 dev wg0"],
    ),
    "route replaced: new before old": (
        state(routes=(prefix("10.0.0.0/8"),)),
        state(routes=(prefix("10.0.0.0/9"),)),
        [
            "ip -4 route add 10.0.0.0/9 dev wg0 proto static",
            "ip -4 route delete 10.0.0.0/8 dev wg0 proto static",
        ],
        [
            "ip -4 route delete 10.0.0.0/9 dev wg0 proto static",
            "ip -4 route add 10.0.0.0/8 dev wg0 proto static",
        ],
    ),
    "address replaced: new before old": (
        state(addresses=(address("10.0.0.1/24"),)),
        state(addresses=(address("10.1.0.1/24"),)),
        [
            "ip -4 address add 10.1.0.1/24 dev wg0",
            "ip -4 address delete 10.0.0.1/24 dev wg0",
        ],
        [
            "ip -4 address delete 10.1.0.1/24 dev wg0",
            "ip -4 address add 10.0.0.1/24 dev wg0",
        ],
    ),
    "address replaced within its subnet": (
        state(addresses=(address("10.0.0.1/24"),)),
        state(addresses=(address("10.0.0.2/24"),)),
        [
            "ip -4 address add 10.0.0.2/32 dev wg0",
            "ip -4 route add 10.0.0.0/24 dev wg0 metric 1 proto static",
            "ip -4 address delete 10.0.0.1/24 dev wg0",
            "ip -4 address add 10.0.0.2/24 dev wg0",
            "ip -4 route delete 10.0.0.0/24 dev wg0 metric 1 proto static",
            "ip -4 address delete 10.0.0.2/32 dev wg0",
        ],
        None,
    ),
    "ipv6 prefix length: old before new": (
        state(addresses=(address("fd00::1/64"),)),
        state(addresses=(address("fd00::1/48"),)),
        [
            "ip -6 address delete fd00::1/64 dev wg0",
            "ip -6 address add fd00::1/48 dev wg0 nodad",
        ],
        None,
    ),
    "default route": (
        state(),
        state(routes=(prefix("0.0.0.0/0"),), fwmark=51820),
        [
            "ip -4 route add 0.0.0.0/0 dev wg0 table 51820 proto static",
            "sysctl -q -w net.ipv4.conf.all.src_valid_mark=1",
            f"ip -4 rule add priority 30820 not fwmark 51820 {MAIN}",
            "ip -4 rule add priority 30821 not fwmark 51820 table 51820",
        ],
        [
            "ip -4 route delete 0.0.0.0/0 dev wg0 table 51820 proto static",
            "-",
            f"ip -4 rule delete priority 30820 not fwmark 51820 {MAIN}",
            "ip -4 rule delete priority 30821 not fwmark 51820 table 51820",
        ],
    ),
    "default route gone: first the rule that leads to it": (
        state(routes=(prefix("::/0"),), fwmark=7, table=99),
        state(),
        [
            "ip -6 rule delete priority 30821 not fwmark 7 table 99",
            f"ip -6 rule delete priority 30820 not fwmark 7 {MAIN}",
            "ip -6 route delete ::/0 dev wg0 table 99 proto static",
        ],
        None,
    ),
    "other fwmark: other rules": (
        state(routes=(prefix("::/0"),), fwmark=7),
        state(routes=(prefix("::/0"),), fwmark=8),
        [
            "ip -6 route add ::/0 dev wg0 table 8 proto static",
            f"ip -6 rule add priority 30820 not fwmark 8 {MAIN}",
            "ip -6 rule add priority 30821 not fwmark 8 table 8",
            "ip -6 rule delete priority 30821 not fwmark 7 table 7",
            f"ip -6 rule delete priority 30820 not fwmark 7 {MAIN}",
            "ip -6 route delete ::/0 dev wg0 table 7 proto static",
        ],
        None,
    ),
    "other DNS servers": (
        state(dns=(packed("10.0.0.53"),)),
        state(dns=(packed("10.0.0.54"), packed("10.0.0.53"))),
        ["resolvectl dns wg0 10.0.0.54 10.0.0.53"],
        ["resolvectl dns wg0 10.0.0.53"],
    ),
    "down": (FULL, BARE, None, None),
}

WINDOWS = {
    "everything": (
        BARE,
        FULL,
        [
            "netsh interface ipv4 set subinterface interface=wg0 mtu=1420 store=active",
            "netsh interface ipv6 set subinterface interface=wg0 mtu=1420 store=active",
            "netsh interface set interface name=wg0 admin=enabled",
            (
                "netsh interface ipv4 set address name=wg0 source=static"
                " address=10.0.0.1 mask=255.255.255.0 store=active"
            ),
            (
                "netsh interface ipv4 add address name=wg0 address=10.0.1.1"
                " mask=255.255.255.255 store=active"
            ),
            (
                "netsh interface ipv6 add address interface=wg0 address=fd00::1/64"
                " store=active"
            ),
            (
                "netsh interface ipv4 add route prefix=172.16.0.0/12 interface=wg0"
                " nexthop=0.0.0.0 metric=0 store=active"
            ),
            (
                "netsh interface ipv6 add route prefix=fd05::/48 interface=wg0"
                " nexthop=:: metric=0 store=active"
            ),
            (
                "netsh interface ipv4 add dnsservers name=wg0 address=10.0.0.53"
                " index=1 validate=no"
            ),
            (
                "netsh interface ipv6 add dnsservers name=wg0 address=fd00::53"
                " index=1 validate=no"
            ),
        ],
        [
            "-",
            "-",
            "netsh interface set interface name=wg0 admin=disabled",
            (
                "netsh interface ipv4 delete address name=wg0 address=10.0.0.1"
                " store=active"
            ),
            (
                "netsh interface ipv4 delete address name=wg0 address=10.0.1.1"
                " store=active"
            ),
            (
                "netsh interface ipv6 delete address interface=wg0 address=fd00::1"
                " store=active"
            ),
            (
                "netsh interface ipv4 delete route prefix=172.16.0.0/12 interface=wg0"
                " nexthop=0.0.0.0 store=active"
            ),
            (
                "netsh interface ipv6 delete route prefix=fd05::/48 interface=wg0"
                " nexthop=:: store=active"
            ),
            (
                "netsh interface ipv4 delete dnsservers name=wg0 address=10.0.0.53"
                " validate=no"
            ),
            (
                "netsh interface ipv6 delete dnsservers name=wg0 address=fd00::53"
                " validate=no"
            ),
        ],
    ),
    "nothing": (FULL, FULL, [], []),
    "mtu": (
        UP,
        WantedState("wg0", 1280),
        ["netsh interface ipv4 set subinterface interface=wg0 mtu=1280 store=active"],
        ["netsh interface ipv4 set subinterface interface=wg0 mtu=1420 store=active"],
    ),
    "address replaced within its subnet": (
        state(addresses=(address("10.0.0.1/24"),)),
        state(addresses=(address("10.0.0.2/24"),)),
        [
            (
                "netsh interface ipv4 add address name=wg0 address=10.0.0.2"
                " mask=255.255.255.0 store=active"
            ),
            (
                "netsh interface ipv4 delete address name=wg0 address=10.0.0.1"
                " store=active"
            ),
        ],
        [
            (
                "netsh interface ipv4 delete address name=wg0 address=10.0.0.2"
                " store=active"
            ),
            (
                "netsh interface ipv4 add address name=wg0 address=10.0.0.1"
                " mask=255.255.255.0 store=active"
            ),
        ],
    ),
    "default route": (
        state(),
        state(routes=(prefix("0.0.0.0/0"),)),
        [
            (
                "netsh interface ipv4 add route prefix=0.0.0.0/0 interface=wg0"
                " nexthop=0.0.0.0 metric=0 store=active"
            )
        ],
        None,
    ),
    "the order of DNS servers": (
        state(dns=(packed("10.0.0.53"), packed("10.0.0.54"))),
        state(dns=(packed("10.0.0.54"), packed("10.0.0.53"))),
        [
            (
                "netsh interface ipv4 delete dnsservers name=wg0 address=10.0.0.54"
                " validate=no"
            ),
            (
                "netsh interface ipv4 delete dnsservers name=wg0 address=10.0.0.53"
                " validate=no"
            ),
            (
                "netsh interface ipv4 add dnsservers name=wg0 address=10.0.0.54"
                " index=1 validate=no"
            ),
            (
                "netsh interface ipv4 add dnsservers name=wg0 address=10.0.0.53"
                " index=2 validate=no"
            ),
        ],
        None,
    ),
    "down": (FULL, BARE, None, None),
}


def check(
    commands: list[Command], wanted: list[str] | None, undo: list[str] | None
) -> None:
    if wanted is not None:
        assert lines(commands) == wanted
    if undo is not None:
        assert undo_lines(commands) == undo
    assert all(command.why for command in commands)


@pytest.mark.parametrize("case", LINUX)
def test_linux(case: str) -> None:
    before, after, wanted, undo = LINUX[case]
    check(linux.commands(before, after), wanted, undo)
    assert system.commands(before, after, platform="linux") == linux.commands(
        before, after
    )


@pytest.mark.parametrize("case", WINDOWS)
def test_windows(case: str) -> None:
    before, after, wanted, undo = WINDOWS[case]
    check(windows.commands(before, after), wanted, undo)
    assert system.commands(before, after, platform="win32") == windows.commands(
        before, after
    )


@pytest.mark.parametrize("commands", [linux.commands, windows.commands])
def test_taking_everything_down_is_the_way_up_backwards(commands: object) -> None:
    assert callable(commands)
    up, down = commands(BARE, FULL), commands(FULL, BARE)
    undone = {c.undo for c in up if c.undo}
    assert {c.argv for c in down} == undone
    assert [c.argv for c in down][-1][-1] in {"wg0", "admin=disabled"}


def test_observed_nothing_is_a_bare_interface() -> None:
    assert linux.commands(None, FULL) == linux.commands(BARE, FULL)


@pytest.mark.parametrize("route", ["0.0.0.0/0", "::/0"])
def test_linux_default_route_needs_a_fwmark(route: str) -> None:
    with pytest.raises(NetconfigError, match=f"route {route} needs a fwmark") as caught:
        linux.commands(None, state(routes=(prefix(route),)))
    assert "fwmark" in caught.value.hint


@pytest.mark.parametrize("route", ["0.0.0.0/0", "::/0"])
def test_two_tunnels_with_a_default_route_share_nothing_that_is_undone(
    route: str,
) -> None:
    """What one takes back is nothing that the other has put there."""
    routes = (prefix(route),)
    one = linux.commands(None, WantedState("wg0", routes=routes, fwmark=7))
    two = linux.commands(None, WantedState("wg1", routes=routes, fwmark=8))
    assert {c.undo for c in one if c.undo}.isdisjoint({c.undo for c in two})


def test_names_with_spaces_stay_one_word() -> None:
    commands = windows.commands(None, WantedState("My Tunnel", 1420))
    assert commands[0].argv[4:] == ("name=My Tunnel", "admin=enabled")


def test_other_systems_say_so() -> None:
    with pytest.raises(NotSupported, match=r"not supported yet: .* plan9"):
        system.commands(BARE, FULL, platform="plan9")
