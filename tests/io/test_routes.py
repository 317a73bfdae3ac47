"""Routes asked of the kernel, and notifications of their changes."""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunnel.io import routes_linux
from tunnel.io.netlink_linux import attribute, attributes, messages, request
from tunnel.io.routes_linux import (
    Question,
    Route,
    RouteMonitor,
    RouteTable,
    question_body,
    read_answer,
    tells_change,
)

from .spaces import Space, new_space

NEWROUTE, ERROR = 24, 2
NEXTHOP_COMPAT_MODE = Path("/proc/sys/net/ipv4/nexthop_compat_mode")


def packed(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)


def route(kind: int = 1, flags: int = 0, rest: bytes = b"") -> bytes:
    """A struct rtmsg (linux/rtnetlink.h) and what follows it."""
    return struct.pack("=8BI", socket.AF_INET, 32, 0, 0, 254, 0, 0, kind, flags) + rest


# --- parsing


def test_a_question_is_laid_out_as_the_kernel_reads_it() -> None:
    asked = Question(packed("192.0.2.1"), packed("10.0.0.1"), 0, 7, 51820, 4321)
    body = question_body(asked)
    assert body[:4] == bytes([socket.AF_INET, 32, 32, 0])
    assert dict(attributes(body[12:])) == {
        1: packed("192.0.2.1"),
        2: packed("10.0.0.1"),
        16: struct.pack("=I", 7),
        27: bytes([17]),
        28: struct.pack(">H", 51820),
        29: struct.pack(">H", 4321),
    }
    body = question_body(Question(packed("fe80::2"), scope_id=3))
    assert body[:4] == bytes([socket.AF_INET6, 128, 0, 0])
    found = dict(attributes(body[12:]))
    assert found == {1: packed("fe80::2"), 4: struct.pack("=I", 3)}


def test_answers() -> None:
    interface = attribute(4, struct.pack("=I", 12))
    assert read_answer(NEWROUTE, route(rest=interface)) == Route(12)
    assert read_answer(NEWROUTE, route(2, rest=interface)) == Route(12, local=True)
    assert read_answer(NEWROUTE, route()) == Route(0)
    error = struct.pack("=i", -errno.ENETUNREACH)
    assert read_answer(ERROR, error) == Route(0, error=errno.ENETUNREACH)
    assert read_answer(ERROR, error[:3]) is None
    assert read_answer(16, bytes(16)) is None
    assert read_answer(NEWROUTE, b"short") is None
    assert read_answer(NEWROUTE, route(rest=interface[:6])) == Route(0)


@pytest.mark.parametrize("kind", [16, 17, 20, 21, 24, 25, 32, 33, 104, 105])
def test_what_is_a_change(kind: int) -> None:
    assert tells_change(request(kind, 0, route()))
    assert tells_change(request(3, 0, b"") + request(kind, 0, route()))
    assert not tells_change(request(kind + 50, 0, route()))
    assert not tells_change(request(kind, 0, route())[:-1])


def test_entries_of_a_cache_are_no_change() -> None:
    cached = request(NEWROUTE, 0, route(flags=0x200))
    assert not tells_change(cached)
    assert tells_change(cached + request(NEWROUTE, 0, route()))


def test_messages_follow_each_other_aligned() -> None:
    data = request(24, 5, b"abc") + request(25, 6, b"") + request(26, 7, b"12345678")
    assert list(messages(data)) == [(24, 5, b"abc"), (25, 6, b""), (26, 7, b"12345678")]
    assert list(messages(data[:-4]))[-1] == (25, 6, b"")
    assert list(messages(struct.pack("=IHHII", 3, 24, 0, 0, 0))) == []


# --- the kernel's own


@pytest.fixture
def uplinks(space: Space) -> Space:
    """Two Ethernets: up1 (10.1.0.1, fd01::1) and up2 (10.2.0.1, fd02::1). They have no
    link-local addresses, which become ready, and that is a change, seconds later."""
    for number, name in enumerate(["up1", "up2"], start=1):
        other = f"far{number}"
        space.ip("link", "add", "name", name, "type", "veth", "peer", "name", other)
        for end in (name, other):
            space.ip("link", "set", end, "addrgenmode", "none")
            space.ip("link", "set", end, "up")
        space.ip("address", "add", f"10.{number}.0.1/24", "dev", name)
        space.ip("address", "add", f"fd0{number}::1/64", "dev", name, "nodad")
    return space


@pytest.fixture
def table(uplinks: Space) -> Iterator[RouteTable]:
    with uplinks.inside():
        made = RouteTable()
    yield made
    made.close()


def index(space: Space, name: str) -> int:
    with space.inside():
        return socket.if_nametoindex(name)


def test_each_question_has_its_answer(uplinks: Space, table: RouteTable) -> None:
    a, b = index(uplinks, "up1"), index(uplinks, "up2")
    uplinks.ip("route", "add", "unreachable", "192.0.2.128/25")
    nowhere = Route(0, error=errno.ENETUNREACH)
    wanted = [
        (Question(packed("10.1.0.9")), Route(a)),
        (Question(packed("10.2.0.9"), packed("10.2.0.1")), Route(b)),
        (Question(packed("10.2.0.9"), packed("10.1.0.1")), Route(b)),
        (Question(packed("192.0.2.1"), packed("10.1.0.1")), nowhere),
        (
            Question(packed("192.0.2.129"), packed("10.1.0.1")),
            Route(0, error=errno.EHOSTUNREACH),
        ),
        (Question(packed("fd01::9"), packed("fd01::1")), Route(a)),
        (Question(packed("2001:db8::1")), nowhere),
    ]
    assert table.ask([q for q, _ in wanted]) == [answer for _, answer in wanted]
    many = [wanted[n % len(wanted)] for n in range(500)]
    assert table.ask([q for q, _ in many]) == [answer for _, answer in many]
    assert table.ask([]) == []


def test_from_an_address_that_is_not_ours_there_is_no_route(
    table: RouteTable,
) -> None:
    """Kernels differ in what they call it."""
    to = packed("10.2.0.9"), packed("192.0.2.1")
    found = table.ask([Question(address, packed("10.9.0.1")) for address in to])
    assert [answer and answer.ifindex for answer in found] == [0, 0]
    assert {answer and answer.error for answer in found} <= {
        errno.EINVAL,
        errno.ENETUNREACH,
    }


def test_own_addresses_are_local(uplinks: Space, table: RouteTable) -> None:
    uplinks.ip("address", "add", "fe80::77/64", "dev", "up1", "nodad")
    link_local = packed("fe80::77")
    a, b = index(uplinks, "up1"), index(uplinks, "up2")
    asked = [
        Question(packed("fd01::1")),
        Question(link_local, scope_id=a),
        Question(link_local, scope_id=b),
        Question(packed("fd01::2")),
        Question(packed("10.2.0.1")),
        Question(packed("10.2.0.9")),
        Question(packed("10.9.0.1")),
    ]
    wanted = [True, True, False, False, True, False, False]
    assert [answer and answer.local for answer in table.ask(asked)] == wanted
    uplinks.ip("link", "set", "up2", "down")  # keeps its addresses of IPv4
    assert [answer and answer.local for answer in table.ask(asked)] == wanted


def test_marks_and_ports_choose_among_tables(uplinks: Space, table: RouteTable) -> None:
    uplinks.ip("route", "add", "192.0.2.0/24", "dev", "up1")
    uplinks.ip("route", "add", "192.0.2.0/24", "dev", "up2", "table", "77")
    uplinks.ip("rule", "add", "fwmark", "5", "table", "77")
    rule = ["ipproto", "udp", "sport", "51820", "table", "77"]
    uplinks.ip("rule", "add", *rule)
    a, b = index(uplinks, "up1"), index(uplinks, "up2")
    to = packed("192.0.2.1")
    asked = [
        Question(to),
        Question(to, mark=5),
        Question(to, source_port=51820, port=9),
        Question(to, source_port=51821, port=9),
    ]
    assert table.ask(asked) == [Route(a), Route(b), Route(b), Route(a)]


@pytest.fixture
def monitor(uplinks: Space) -> Iterator[RouteMonitor]:
    with uplinks.inside():
        made = RouteMonitor()
    yield made
    made.close()


@pytest.mark.parametrize(
    "change",
    [
        "route add 192.0.2.0/24 dev up2",
        "-6 route add 2001:db8::/64 dev up2",
        "address del 10.2.0.1/24 dev up2",
        "-6 address del fd02::1/64 dev up2",
        "link set up2 down",
        "rule add from 10.2.0.1 table 77",
        "-6 rule add from fd02::1 table 77",
    ],
)
def test_changes_are_noticed(
    uplinks: Space, monitor: RouteMonitor, change: str
) -> None:
    settle(monitor)
    uplinks.ip(*change.split())
    assert select.select([monitor], [], [], 20)[0], "nothing was reported"
    assert monitor.changed()
    settle(monitor)


def test_a_nexthop_is_noticed_without_a_message_of_its_routes(
    uplinks: Space, table: RouteTable, monitor: RouteMonitor
) -> None:
    with uplinks.inside():
        if not NEXTHOP_COMPAT_MODE.exists():
            pytest.skip(f"this kernel has no {NEXTHOP_COMPAT_MODE}")
        NEXTHOP_COMPAT_MODE.write_text("0")
    nexthop = ["id", "7", "via"]
    uplinks.ip("nexthop", "add", *nexthop, "10.1.0.2", "dev", "up1")
    uplinks.ip("route", "add", "192.0.2.0/24", "nhid", "7")
    to = [Question(packed("192.0.2.1"))]
    settle(monitor)
    assert table.ask(to) == [Route(index(uplinks, "up1"))]
    uplinks.ip("nexthop", "replace", *nexthop, "10.2.0.2", "dev", "up2")
    assert table.ask(to) == [Route(index(uplinks, "up2"))]
    assert select.select([monitor], [], [], 20)[0], "nothing was reported"
    assert monitor.changed()


def test_a_kernel_without_nexthop_objects_is_heard_all_the_same(
    uplinks: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_linux, "_RTNLGRP_NEXTHOP", 10_000)  # refused
    with uplinks.inside():
        monitor = RouteMonitor()
    try:
        settle(monitor)
        uplinks.ip("route", "add", "192.0.2.0/24", "dev", "up2")
        assert select.select([monitor], [], [], 20)[0], "nothing was reported"
        assert monitor.changed()
    finally:
        monitor.close()


def settle(monitor: RouteMonitor) -> None:
    """Until what went before has been told: there is no change, and comes none."""
    end = time.monotonic() + 20
    while monitor.changed() or select.select([monitor], [], [], 0.3)[0]:
        assert time.monotonic() < end, "one change after the other"


def test_lost_notifications_mean_a_change(
    uplinks: Space, monitor: RouteMonitor
) -> None:
    small = socket.socket(fileno=socket.dup(monitor.fileno()))
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    small.close()
    settle(monitor)
    batch = "route add 192.0.2.0/24 dev up2\nroute del 192.0.2.0/24 dev up2\n" * 50
    uplinks.run("sh", "-c", f"printf '{batch}' | ip -batch -")
    assert monitor.changed()
    assert not monitor.changed()


def test_another_namespace_is_not_heard(space: Space, test_prefix: str) -> None:
    with new_space(test_prefix + "o") as other:
        with other.inside():
            monitor = RouteMonitor()
        try:
            space.ip("link", "set", "lo", "down")
            space.ip("route", "add", "unreachable", "192.0.2.0/24")
            assert not monitor.changed()
        finally:
            monitor.close()
