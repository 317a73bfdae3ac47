"""Queues of a TUN device and sockets of a port, one for each worker."""

from __future__ import annotations

import errno
import ipaddress
import os
import random
import select
import socket
import struct
from collections.abc import Sequence

import pytest
from lab.held import open_descriptors

from tunnel.errors import DeviceError
from tunnel.io import steering_linux, tun_linux
from tunnel.io.steering_linux import queue_of
from tunnel.io.tun import open_tun
from tunnel.io.tun_ioctl_linux import identity
from tunnel.io.udp import UdpSockets

from .spaces import Space

V4, V6 = socket.AF_INET, socket.AF_INET6


def waiting(descriptors: Sequence[int]) -> list[tuple[int, bytes]]:
    """What can be read, with the place of its descriptor; something must come."""
    found = []
    assert select.select(descriptors, [], [], 20)[0], "nothing has come"
    for place, fd in enumerate(descriptors):
        while select.select([fd], [], [], 0)[0]:
            found.append((place, os.read(fd, 70_000)))
    return found


@pytest.mark.usefixtures("require_tun")
@pytest.mark.parametrize("queues", [2, 3, 16])
def test_the_destination_names_the_queue(space: Space, queues: int, seed: int) -> None:
    rng = random.Random(seed)
    before = open_descriptors()
    with space.inside():
        tun = open_tun("wg0", queues=queues)
        four = socket.socket(V4, socket.SOCK_DGRAM)
        six = socket.socket(V6, socket.SOCK_DGRAM)
    space.ip("link", "set", "wg0", "up")
    space.ip("address", "add", "10.0.0.1/8", "dev", "wg0")
    space.ip("-6", "address", "add", "fd00::1/16", "dev", "wg0", "nodad")
    descriptors = [tun.fileno(), *tun.more_queues]
    assert len(descriptors) == queues
    assert not any(map(os.get_inheritable, descriptors))
    sent = set()
    for _ in range(200):
        low = rng.getrandbits(20) + 2
        sent.add(ipaddress.IPv4Address(10 << 24 | low).packed)
        sent.add(ipaddress.IPv6Address(0xFD00 << 112 | low << rng.randrange(80)).packed)
    found: dict[bytes, int] = {}
    for address in sent:
        sock = four if len(address) == 4 else six
        sock.sendto(b"x", (socket.inet_ntop(sock.family, address), 9))
        while address not in found:
            for place, data in waiting(descriptors):
                packet = data[10:]
                found[packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]] = place
    assert sent <= found.keys()
    assert found == {address: queue_of(address, queues) for address in found}
    assert set(found.values()) == set(range(queues))
    four.close()
    six.close()
    tun.close()
    assert open_descriptors() == before
    with space.inside():
        assert "wg0" not in space.ip("link")


@pytest.mark.usefixtures("require_tun")
def test_one_queue_where_there_cannot_be_more(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    space.ip("tuntap", "add", "old", "mode", "tun", "vnet_hdr")
    with space.inside():
        before = open_descriptors()
        persistent = open_tun("old", queues=4)
        assert persistent.more_queues == ()
        persistent.close()
        with monkeypatch.context() as patch:
            patch.setattr(tun_linux, "steer_queues", lambda *_: False)
            refused = open_tun("wg0", queues=4)
            assert refused.more_queues == ()
            refused.close()
        single = open_tun("wg0", queues=1)
        flags = identity(single.fileno())[1]
        assert not flags & 0x100  # as ever: no IFF_MULTI_QUEUE
        single.close()
        assert open_descriptors() == before


@pytest.mark.usefixtures("require_tun")
def test_a_taken_interface_is_an_error_with_queues_as_well(space: Space) -> None:
    with space.inside():
        mine = open_tun("wg0", queues=2)
        before = open_descriptors()
        for queues in (1, 2):
            with pytest.raises(DeviceError, match="wg0") as caught:
                open_tun("wg0", queues=queues)
            assert "another program" in caught.value.hint
        assert open_descriptors() == before
        mine.close()


def test_a_kernel_without_the_program_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(steering_linux, "_SYS_BPF", {})
    assert not steering_linux.steer_queues(0, 2)


def data_message(index: int) -> bytes:
    return struct.pack("<IIQ", 4, index, 0) + bytes(16)


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_the_receiver_index_names_the_socket(space: Space, workers: int) -> None:
    with space.inside():
        before = open_descriptors()
        sockets = UdpSockets.bind(workers=workers)
        assert len(sockets.more) == workers - 1
        pairs = [(sockets.fileno4, sockets.fileno6), *sockets.more]
        for family, host in ((V4, "127.0.0.1"), (V6, "::1")):
            own = [pair[family == V6] for pair in pairs]
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                to = (host, sockets.port)
                for index in (*range(40), 0xFFFFFFFF, 0x12345678):
                    sender.sendto(data_message(index), to)
                    place = (index & 0xFF) % workers
                    assert waiting(own) == [(place, data_message(index))]
                for other in (bytes(148), b"", b"\4", data_message(1)[:7]):
                    sender.sendto(other, to)
                    ((_, got),) = waiting(own)
                    assert got == other
        sockets.set_fwmark(7)
        for fd in (fd for pair in pairs for fd in pair):
            with socket.socket(fileno=os.dup(fd)) as sock:
                assert sock.getsockopt(socket.SOL_SOCKET, 36) == 7
        sockets.close()
        assert open_descriptors() == before


@pytest.mark.parametrize("other_shares", [False, True])
def test_a_port_in_use_is_an_error_as_ever(space: Space, other_shares: bool) -> None:
    with space.inside(), socket.socket(V4, socket.SOCK_DGRAM) as other:
        if other_shares:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("", 51820))
        before = open_descriptors()
        with pytest.raises(DeviceError, match="UDP port 51820: Address already in use"):
            UdpSockets.bind(51820, workers=3)
        assert open_descriptors() == before
        other.close()
        ours = UdpSockets.bind(51820, workers=3)
        with pytest.raises(DeviceError, match="Address already in use"):
            UdpSockets.bind(51820, workers=3)
        ours.close()


def test_a_later_socket_that_fails_leaves_nothing(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunnel.io import udp

    real, calls = udp.open_socket, []

    def tired(
        family: int, host: str, port: int, *, shared: bool = False
    ) -> socket.socket:
        calls.append(shared)
        if sum(calls) == 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(family, host, port, shared=shared)

    monkeypatch.setattr(udp, "open_socket", tired)
    with space.inside():
        before = open_descriptors()
        with pytest.raises(DeviceError, match="Too many open files"):
            UdpSockets.bind(51820, workers=3)
        assert open_descriptors() == before
