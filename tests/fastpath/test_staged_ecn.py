"""ECN of the outer header, of what goes at once and of what waited (R56)."""

from __future__ import annotations

import socket

import pytest

from .rig import FarEnd, Rig, ipv4, ipv6

OUTER = {0: 0, 1: 1, 2: 2, 3: 2}  # by the inner one: INET_ECN_encapsulate


def outer_tos(end: FarEnd) -> int:
    _, control, _, _ = end.socket.recvmsg(2000, 200)
    found = {kind: data[0] for _, kind, data in control}
    return found.get(socket.IP_TOS, 0)


@pytest.mark.parametrize("inner", OUTER)
@pytest.mark.parametrize("waits", [True, False], ids=["waited", "at once"])
def test_r56_outer_ecn(inner: int, waits: bool) -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32", "fd00::2/128")
        end.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        tos = 0xB8 | inner
        packets = [
            ipv4("10.0.0.1", "10.0.0.2", b"four", tos=tos),
            ipv6("fd00::1", "fd00::2", b"six", tos=tos),
        ]
        if waits:
            for packet in packets:
                rig.write(packet)
            rig.until(lambda: path.staged == len(packets))
        keypair = end.keypair(path)
        path.use_for_sending(keypair)
        path.flush(keepalive=False)
        if not waits:
            for packet in packets:
                rig.write(packet)
        assert [outer_tos(end) for _ in packets] == [OUTER[inner]] * 2
