"""What differs in the headers of two packets keeps them apart: merged, they have one
header (linux/net/ipv6/ip6_offload.c, net/ipv4/tcp_offload.c)."""

from __future__ import annotations

import pytest

from tunnel._fastpath import offload

from .test_offload import NONE, finished, tcp, udp


def labelled(packet: bytes, label: int) -> bytes:
    """IPv6 with that flow label."""
    return packet[:1] + label.to_bytes(3, "big") + packet[4:]


def reserved(packet: bytes, bits: int) -> bytes:
    """TCP with some of the bits that no RFC uses."""
    made, ip = bytearray(packet), 20 if packet[0] >> 4 == 4 else 40
    made[ip + 12] |= bits
    return finished(bytes(made), ip, 6)


@pytest.mark.parametrize("bit", range(20))
def test_g5_flow_labels_are_kept(bit: int) -> None:
    for make in (lambda i: udp(6, bytes(9)), lambda i: tcp(6, 1 + 9 * i, bytes(9))):
        packets = [make(0), labelled(make(1), 1 << bit)]
        assert offload.merge(packets) == [NONE + packet for packet in packets]
        packets[0] = labelled(packets[0], 1 << bit)
        assert len(offload.merge(packets)) == 1


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_g5_reserved_bits_of_tcp_are_kept(version: int, bits: int) -> None:
    packets = [tcp(version, 1, bytes(9)), reserved(tcp(version, 10, bytes(9)), bits)]
    assert offload.merge(packets) == [NONE + packet for packet in packets]
    packets[0] = reserved(packets[0], bits)
    assert len(offload.merge(packets)) == 1
