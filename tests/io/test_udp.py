"""The UDP sockets, for real: two namespaces joined by a veth pair.

    left                          right
10.1.0.1/24  fd01::1/64       10.1.0.2/24, 10.1.0.3/24  fd01::2/64, fd01::3/64
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from lab.held import open_descriptors

from tunnel.errors import DeviceError, NotPermitted
from tunnel.io import udp, udp_open
from tunnel.io.base import SendResult
from tunnel.io.udp import UdpSockets

from .spaces import Space, new_space

V4, V6 = socket.AF_INET, socket.AF_INET6
TOS = 0x88


def packed(text: str) -> bytes:
    return socket.inet_pton(V6 if ":" in text else V4, text)


class Pair(NamedTuple):
    left: Space
    right: Space


@pytest.fixture
def pair(require_root: None, test_prefix: str) -> Iterator[Pair]:
    with new_space(test_prefix + "l") as left, new_space(test_prefix + "r") as right:
        left.ip(
            *("link", "add", "eth0", "type", "veth"),
            *("peer", "name", "eth0", "netns", right.name),
        )
        for space, hosts in ((left, "1"), (right, "23")):
            for host in hosts:
                space.ip("address", "add", f"10.1.0.{host}/24", "dev", "eth0")
                space.ip(
                    *("-6", "address", "add", f"fd01::{host}/64"),
                    *("dev", "eth0", "nodad"),
                )
            space.ip("link", "set", "eth0", "up")
        yield Pair(left, right)


class Got(NamedTuple):
    data: bytes
    sender: str
    local: str  # the address it was sent to
    ifindex: int
    tos: int


def receive(sockets: UdpSockets, family: int) -> Got:
    """One datagram with its control messages, as the pump sees them."""
    fd = sockets.fileno4 if family == V4 else sockets.fileno6
    assert select.select([fd], [], [], 20)[0], "no datagram in time"
    with socket.socket(fileno=os.dup(fd)) as sock:
        data, control, _, sender = sock.recvmsg(2048, 256)
    local, ifindex, tos = "", 0, -1
    for _, kind, value in control:
        if family == V4 and kind == 8:
            ifindex = struct.unpack_from("i", value)[0]
            local = socket.inet_ntop(V4, value[8:12])
        elif family == V6 and kind == 50:
            local = socket.inet_ntop(V6, value[:16])
            ifindex = struct.unpack_from("I", value, 16)[0]
        elif (family, kind) in {(V4, 1), (V6, 67)}:
            tos = value[0]
    return Got(data, sender[0], local, ifindex, tos)


def option(fd: int, level: int, number: int) -> int:
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.getsockopt(level, number)


def test_both_families_on_one_random_port(space: Space) -> None:
    with space.inside():
        sockets = UdpSockets.bind()
    assert sockets.port > 0
    for fd in (sockets.fileno4, sockets.fileno6):
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        with socket.socket(fileno=os.dup(fd)) as sock:
            assert sock.getsockname()[1] == sockets.port
    assert sockets.connected is None
    assert option(sockets.fileno6, socket.IPPROTO_IPV6, 26) == 1  # V6ONLY
    assert option(sockets.fileno4, socket.IPPROTO_IP, 10) == 0  # no DF (R61)
    assert option(sockets.fileno6, socket.IPPROTO_IPV6, 23) == 0
    sockets.close()
    sockets.close()
    assert (sockets.fileno4, sockets.fileno6) == (-1, -1)


def test_r72_random_port_taken_in_the_other_family_is_tried_again(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first ten ports that IPv4 gets are taken in IPv6."""
    real, taken = udp_open.open_socket, []

    def unlucky(family: int, host: str, port: int) -> socket.socket:
        if family == V6 and len(taken) < 10:
            taken.append(real(family, host, port))
        return real(family, host, port)

    monkeypatch.setattr(udp_open, "open_socket", unlucky)
    with space.inside():
        before = open_descriptors()
        sockets = UdpSockets.bind()
        assert len(taken) == 10
        assert sockets.fileno6 >= 0
        sockets.close()
        for sock in taken:
            sock.close()
        assert open_descriptors() == before


def test_r72_after_a_hundred_tries_it_is_an_error(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = udp_open.open_socket, []

    def never(family: int, host: str, port: int) -> socket.socket:
        if family == V6:
            tries.append(port)
            raise OSError(errno.EADDRINUSE, "Address already in use")
        return real(family, host, port)

    monkeypatch.setattr(udp_open, "open_socket", never)
    with space.inside():
        before = open_descriptors()
        with pytest.raises(DeviceError, match="a UDP port: Address already in use"):
            UdpSockets.bind()
        assert len(tries) == 100
        assert open_descriptors() == before


@pytest.mark.parametrize("family", [V4, V6])
def test_a_port_in_use_names_itself(space: Space, family: int) -> None:
    with space.inside(), socket.socket(family, socket.SOCK_DGRAM) as other:
        if family == V6:
            other.setsockopt(socket.IPPROTO_IPV6, 26, 1)
        other.bind(("", 51820))
        before = open_descriptors()
        with pytest.raises(DeviceError, match="UDP port 51820") as caught:
            UdpSockets.bind(51820)
        assert "choose another" in caught.value.hint
        assert open_descriptors() == before
        UdpSockets.bind(51821).close()  # the new one before the old one closes


def test_ipv6_switched_off_by_sysctl(pair: Pair) -> None:
    for space in pair:
        space.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    with pair.left.inside():
        left = UdpSockets.bind(51820)
    with pair.right.inside():
        right = UdpSockets.bind(51820)
    assert left.send(b"x", (packed("10.1.0.2"), 51820, 0)) is SendResult.SENT
    assert receive(right, V4).data == b"x"
    refused = left.send(b"x", (packed("fd01::2"), 51820, 0))
    assert refused in {SendResult.DROPPED, SendResult.NO_SOCKET}
    left.close()
    right.close()


@pytest.mark.parametrize(("off", "left_over"), [(V6, V4), (V4, V6)])
@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_family_that_is_missing_is_left_out(
    space: Space,
    monkeypatch: pytest.MonkeyPatch,
    off: int,
    left_over: int,
    number: int,
) -> None:
    real = udp_open.open_socket

    def partly(family: int, host: str, port: int) -> socket.socket:
        if family == off:
            raise OSError(number, os.strerror(number))
        return real(family, host, port)

    monkeypatch.setattr(udp_open, "open_socket", partly)
    with space.inside():
        sockets = UdpSockets.bind(51820)
    assert (sockets.fileno4 >= 0) == (left_over == V4)
    assert (sockets.fileno6 >= 0) == (left_over == V6)
    address = packed("10.0.0.1") if off == V4 else packed("fd00::1")
    assert sockets.send(b"x", (address, 1, 0)) is SendResult.NO_SOCKET
    sockets.close()


def test_no_family_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported")

    monkeypatch.setattr(udp_open, "open_socket", none)
    with pytest.raises(DeviceError, match="not supported"):
        UdpSockets.bind(51820)


def test_explicit_addresses(pair: Pair) -> None:
    with pair.right.inside():
        only = UdpSockets.bind(51820, addresses=[packed("10.1.0.3")])
        assert only.fileno6 == -1
        other = UdpSockets.bind(51820, addresses=[packed("10.1.0.2")])
        with pytest.raises(DeviceError) as caught:
            UdpSockets.bind(51820, addresses=[packed("10.9.9.9")])
        assert "not one of this system's" in caught.value.hint
    with pytest.raises(ValueError, match="each family"):
        UdpSockets.bind(0, addresses=[bytes(4), bytes(4)])
    only.close()
    other.close()


@pytest.mark.parametrize("family", [V4, V6])
def test_sticky_source_and_tos_reach_the_receiver(pair: Pair, family: int) -> None:
    """Two addresses on one side: each answer comes from the one asked (R62)."""
    net = "10.1.0." if family == V4 else "fd01::"
    with pair.left.inside():
        left = UdpSockets.bind(51820)
    with pair.right.inside():
        right = UdpSockets.bind(51820)
        index = socket.if_nametoindex("eth0")
    me = (packed(net + "1"), 51820, 0)
    for host in "23":
        ask = left.send(b"ask", (packed(net + host), 51820, 0), None, TOS)
        assert ask is SendResult.SENT
        got = receive(right, family)
        assert got == (b"ask", net + "1", net + host, index, TOS)
        source = (packed(got.local), got.ifindex)
        assert right.send(b"answer", me, source, TOS) is SendResult.SENT
        answer = receive(left, family)
        assert (answer.sender, answer.tos) == (net + host, TOS)
    # without a source and TOS: the system's choice, and 0
    assert right.send(b"answer", me) is SendResult.SENT
    assert receive(left, family).tos == 0
    left.close()
    right.close()


@pytest.mark.parametrize("family", [V4, V6])
def test_a_source_that_is_no_longer_ours_is_dropped(pair: Pair, family: int) -> None:
    net, length = ("10.1.0.", 24) if family == V4 else ("fd01::", 64)
    with pair.left.inside():
        left = UdpSockets.bind(51820)
    with pair.right.inside():
        right = UdpSockets.bind(51820)
        index = socket.if_nametoindex("eth0")
    pair.right.ip("address", "delete", f"{net}3/{length}", "dev", "eth0")
    gone = (packed(net + "3"), index)
    sent = right.send(b"x", (packed(net + "1"), 51820, 0), gone, TOS)
    assert sent is SendResult.SENT_WITHOUT_SOURCE
    got = receive(left, family)
    assert (got.sender, got.tos) == (net + "2", TOS)
    assert sum(right.errors.values()) == 1
    # of the other family: it is not used, and that is no failure
    other = (packed("fd01::3" if family == V4 else "10.1.0.3"), index)
    assert right.send(b"x", (packed(net + "1"), 51820, 0), other) is SendResult.SENT
    left.close()
    right.close()


def test_errors_of_the_network_are_not_raised(pair: Pair) -> None:
    with pair.left.inside():
        left = UdpSockets.bind(51820)
    nowhere = (packed("192.0.2.1"), 51820, 0)
    assert left.send(b"x", nowhere) is SendResult.DROPPED
    assert left.send(b"x", nowhere, (packed("10.1.0.1"), 0)) is SendResult.DROPPED
    assert left.errors == {"ENETUNREACH": 3}
    too_long = left.send(bytes(70_000), (packed("10.1.0.2"), 51820, 0))
    assert too_long is SendResult.DROPPED
    assert left.errors["EMSGSIZE"] == 1
    left.close()
    assert left.send(b"x", nowhere) is SendResult.NO_SOCKET


def test_r61_datagrams_longer_than_the_mtu_are_fragmented(pair: Pair) -> None:
    with pair.left.inside():
        left = UdpSockets.bind(51820)
    with pair.right.inside():
        right = UdpSockets.bind(51820)
    for family, net in ((V4, "10.1.0."), (V6, "fd01::")):
        sent = left.send(bytes(2000), (packed(net + "2"), 51820, 0))
        assert sent is SendResult.SENT
        assert receive(right, family).data == bytes(2000)
    left.close()
    right.close()


def test_fwmark_chooses_the_route_and_changes_live(pair: Pair) -> None:
    """Packets with the mark are thrown away by a rule: visible proof of SO_MARK."""
    pair.left.ip("rule", "add", "fwmark", "0x2a", "unreachable")
    with pair.left.inside():
        left = UdpSockets.bind(51820, fwmark=0x2A)
    to = (packed("10.1.0.2"), 51820, 0)
    for fd in (left.fileno4, left.fileno6):
        assert option(fd, socket.SOL_SOCKET, 36) == 0x2A
    assert left.send(b"x", to) is SendResult.DROPPED
    left.set_fwmark(0)
    assert left.send(b"x", to) is SendResult.SENT
    left.set_fwmark(0xFFFFFFFF)
    assert left.send(b"x", to) is SendResult.SENT
    left.set_fwmark(0x2A)
    assert left.send(b"x", to) is SendResult.DROPPED
    left.close()


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.EACCES])
def test_fwmark_without_the_right_is_not_permitted(
    refusal: int, space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unprivileged(socket.socket):
        def setsockopt(self, level: int, number: int, *value: object) -> None:
            if (level, number) == (socket.SOL_SOCKET, 36):
                raise PermissionError(refusal, os.strerror(refusal))
            super().setsockopt(level, number, *value)  # type: ignore[call-overload]

    monkeypatch.setattr(socket, "socket", Unprivileged)
    with space.inside():
        before = open_descriptors()
        with pytest.raises(NotPermitted, match=r"fwmark 0x2a[^$]*CAP_NET_ADMIN"):
            UdpSockets.bind(fwmark=0x2A)
        assert open_descriptors() == before


def test_buffers_are_raised_and_never_lowered(space: Space) -> None:
    """The kernel doubles them, for what it keeps beside each datagram."""

    def sizes(sockets: UdpSockets, which: int) -> set[int]:
        pairs = ((sockets.fileno4, sockets.fileno6), *sockets.more)
        return {option(fd, socket.SOL_SOCKET, which) for pair in pairs for fd in pair}

    with space.inside():
        usual = UdpSockets.bind(receive_bytes=0, send_bytes=0)
        raised = UdpSockets.bind()
        small = UdpSockets.bind(receive_bytes=4096, send_bytes=4096, workers=3)
    least = {socket.SO_RCVBUF: udp.RECEIVE_BYTES, socket.SO_SNDBUF: udp.SEND_BYTES}
    for which, size in least.items():
        assert sizes(small, which) == sizes(usual, which)
        assert min(sizes(raised, which)) >= 2 * size
    for sockets in (usual, raised, small):
        sockets.close()


def queued(sock: socket.socket) -> int:
    """Bytes of memory that wait in a socket to be received (SO_MEMINFO)."""
    memory: tuple[int, ...] = struct.unpack(
        "=9I", sock.getsockopt(socket.SOL_SOCKET, 55, 36)
    )
    return memory[0]


def test_thousands_of_handshakes_wait_in_the_socket(pair: Pair) -> None:
    """Nobody reads; a buffer of 1 MiB has room for 2,700 of them."""
    count = 4_000
    with pair.right.inside():
        sockets = UdpSockets.bind(51820)
    with pair.left.inside():
        sender = socket.socket(V4, socket.SOCK_DGRAM)
    with sender, socket.socket(fileno=os.dup(sockets.fileno4)) as reader:
        for number in range(count):
            before = queued(reader)
            sender.sendto(number.to_bytes(148, "big"), ("10.1.0.2", 51820))
            # not in the kernel's queues on the way, which are shorter than this one
            end = time.monotonic() + 20
            while queued(reader) == before:
                assert time.monotonic() < end, f"no room for number {number}"
        got = [int.from_bytes(reader.recv(2048), "big") for _ in range(count)]
    assert got == list(range(count))
    sockets.close()


def test_no_descriptor_is_left_over_in_50_cycles(space: Space) -> None:
    with space.inside():
        before = open_descriptors()
        for _ in range(50):
            UdpSockets.bind(51820).close()
        assert open_descriptors() == before
