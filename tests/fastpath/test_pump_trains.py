"""Datagrams that leave and arrive together (UDP_SEGMENT, UDP_GRO)."""

from __future__ import annotations

import socket
import struct

import pytest

from tunnel.io.sockopt import equal_trains_work

from .rig import Rig, ipv4
from .test_pump_cookies import reply_to

UDP_SEGMENT, UDP_GRO = 103, 104


EQUAL = [140] * 20
UNEVEN = [*[140] * 19, 44]


@pytest.mark.parametrize(
    ("options", "sizes", "calls"),
    [
        ({}, EQUAL, 1),
        ({}, UNEVEN, 1),
        ({"equal_trains": False}, EQUAL, 20),
        ({"equal_trains": False}, UNEVEN, 1),
        ({"trains": False}, EQUAL, 20),
        ({"trains": False}, UNEVEN, 20),
    ],
)
def test_u3_u5_u9_which_datagrams_leave_together(
    options: dict[str, int], sizes: list[int], calls: int
) -> None:
    with Rig(**options) as rig:
        path, end = rig.peer("10.0.0.2/32")
        for size in sizes:
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes(size)))
        rig.until(lambda: path.staged == len(sizes))
        path.use_for_sending(end.keypair(path))
        path.flush(keepalive=False)
        got = [end.receive() for _ in sizes]
        assert [counter for counter, _ in got] == list(range(len(sizes)))
        assert [len(inner) for _, inner in got] == [
            (20 + size + 15) // 16 * 16 for size in sizes
        ]
        rig.rest()
        assert rig.pump.counters()["udp_sent"] == len(sizes)
        assert rig.pump.counters()["udp_sends"] == calls


@pytest.mark.parametrize(
    ("release", "works"),
    [
        ("6.18.44-fc-v669", True),
        ("6.19.0-rc1", True),
        ("7.0.0-rc1", False),
        ("7.0.0", False),
        ("7.0.9-arch1-1", False),
        ("7.0-rc7", False),
        ("7.1.0-rc1", False),
        ("7.1.0-rc4-next-20260520", False),
        ("7.1.0-rc5", True),
        ("7.1-rc10", True),
        ("7.1.0", True),
        ("7.1.3-200.fc44.x86_64", True),
        ("7.10.0-rc2", True),
        ("17.0.1", True),
        ("4.19.0-rc3", True),
        ("unheard of", True),
    ],
)
def test_u9_kernels_that_damage_equal_trains(release: str, works: bool) -> None:
    assert equal_trains_work(release) is works


def test_u11_u12_a_train_is_taken_apart_each_datagram_by_itself() -> None:
    """Data, a handshake message and nonsense of one length arrive as one message."""
    with Rig(public_key=bytes(32)) as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        rig.udp4.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        packets = [ipv4("10.0.0.2", "10.0.0.1", bytes([n]) * 12) for n in range(3)]
        sealed = [end.seal(packet) for packet in packets]
        path.expect_cookie(5, bytes(16), bytes(32))
        cookie_reply = reply_to(5, bytes(16), bytes(32))
        nonsense = struct.pack("<I", 0x105) + bytes(60)
        forged = bytearray(end.seal(packets[0]))
        forged[-1] ^= 1
        last = end.seal(b"")  # shorter, as the last one may be
        train = [sealed[0], cookie_reply, sealed[1], nonsense, bytes(forged), sealed[2]]
        assert {len(datagram) for datagram in train} == {64}
        where = ("127.0.0.1", rig.udp4.getsockname()[1])
        segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 64))]
        end.socket.sendmsg([b"".join([*train, last])], segment, 0, where)
        assert [rig.read() for _ in packets] == packets
        rig.dropped("rx_type")
        rig.dropped("rx_auth")

        def handshake() -> bool:
            rig.drain()
            return [h.data for h in rig.handshakes] == [cookie_reply]

        rig.until(handshake)
        rig.rest()
        assert rig.pump.counters()["udp_received"] == 7
        assert rig.pump.counters()["udp_receives"] == 1
        assert path.source == (bytes([127, 0, 0, 1]), socket.if_nametoindex("lo"))
