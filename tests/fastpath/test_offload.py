"""Splitting (TSO, USO) and merging (GRO) beside slow twins in plain Python.

R1-R14, G1-G10 and E1-E3 are the rules for large packets: what the kernel hands over and
what it accepts (linux/virtio_net.h, net/ipv4/tcp_offload.c, udp_offload.c).
"""

from __future__ import annotations

import random
import socket
import struct
from typing import Any

import pytest

from tunnel._fastpath import offload

from .rig import checksum

NONE = bytes(10)
ACK, PSH, FIN, SYN, URG, CWR = 0x10, 0x08, 0x01, 0x02, 0x20, 0x80


def pseudo(packet: bytes, ip: int, proto: int, l4: int) -> bytes:
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return addresses + struct.pack(">HH", l4, proto)


def finished(packet: bytes, ip: int, proto: int) -> bytes:
    """With right lengths and checksums."""
    made = bytearray(packet)
    l4 = len(made) - ip
    if made[0] >> 4 == 4:
        struct.pack_into(">H", made, 2, len(made))
        struct.pack_into(">H", made, 10, 0)
        struct.pack_into(">H", made, 10, checksum(bytes(made[:ip])))
    else:
        struct.pack_into(">H", made, 4, len(made) - 40)
    at = ip + (16 if proto == 6 else 6)
    if proto == 17:
        struct.pack_into(">H", made, ip + 4, l4)
    struct.pack_into(">H", made, at, 0)
    value = checksum(pseudo(bytes(made), ip, proto, l4) + bytes(made[ip:]))
    struct.pack_into(">H", made, at, value or (0xFFFF if proto == 17 else 0))
    return bytes(made)


def ip_header(version: int, proto: int, *, tos: int = 0, ttl: int = 64, ident: int = 5,
              host: int = 1, options: bytes = b"") -> bytes:  # fmt: skip
    if version == 4:
        ihl = 5 + len(options) // 4
        return struct.pack(
            ">BBHHHBBH4s4s", 0x40 | ihl, tos, 0, ident, 0x4000, ttl, proto, 0,
            bytes([10, 0, 0, host]), bytes([10, 0, 0, 99]),
        ) + options  # fmt: skip
    head = struct.pack(">IHBB", 6 << 28 | tos << 20, 0, proto, ttl)
    return head + bytes([0xFD, *bytes(14), host]) + bytes([0xFD, *bytes(14), 99])


def tcp(
    version: int,
    sequence: int,
    payload: bytes,
    *,
    flags: int = ACK,
    ack: int = 77,
    window: int = 500,
    port: int = 1000,
    options: bytes = b"",
    **ip: Any,
) -> bytes:
    head = ip_header(version, 6, **ip)
    words = 5 + len(options) // 4
    body = struct.pack(
        ">HHIIBBHHH",
        port,
        80,
        sequence & 0xFFFFFFFF,
        ack,
        words << 4,
        flags,
        window,
        0,
        0,
    )
    return finished(head + body + options + payload, len(head), 6)


def udp(version: int, payload: bytes, *, port: int = 1000, **ip: Any) -> bytes:
    head = ip_header(version, 17, **ip)
    return finished(
        head + struct.pack(">HHHH", port, 53, 0, 0) + payload, len(head), 17
    )


def bad_head(packet: bytes) -> bytes:
    """IPv4 with a wrong checksum of the header, which nobody may make right."""
    return packet[:11] + bytes([packet[11] ^ 1]) + packet[12:]


def vnet(
    kind: int, size: int, ip: int, offset: int, *, flags: int = 1, hdr: int = 0
) -> bytes:
    return struct.pack("=BBHHHH", flags, kind, hdr, size, ip, offset)


def twin_split(packet: bytes, ip: int, header: int, size: int) -> list[bytes]:
    """One segment after the other, by the book."""
    proto = packet[9] if packet[0] >> 4 == 4 else packet[6]
    payload, out = packet[header:], []
    for at in range(0, len(payload), size):
        made = bytearray(packet[:header] + payload[at : at + size])
        if packet[0] >> 4 == 4:
            (ident,) = struct.unpack_from(">H", packet, 4)
            struct.pack_into(">H", made, 4, (ident + at // size) & 0xFFFF)
        if proto == 6:
            (sequence,) = struct.unpack_from(">I", packet, ip + 4)
            struct.pack_into(">I", made, ip + 4, (sequence + at) & 0xFFFFFFFF)
            if at + size < len(payload):
                made[ip + 13] &= ~(FIN | PSH)
        out.append(finished(bytes(made), ip, proto))
    return out


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_split_is_what_the_twin_does(version: int, proto: str, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(150):
        size, total = rng.randrange(1, 1500), rng.randrange(1, 20_000)
        payload = rng.randbytes(total)
        extra = bytes(4 * rng.randrange(3)) if version == 4 else b""
        more = {"options": extra} if version == 4 and proto == "udp" else {}
        if proto == "tcp":
            packet = tcp(
                version, rng.getrandbits(32), payload, flags=ACK | rng.choice([8, 9]),
                options=b"\1" * (4 * rng.randrange(11)), ident=rng.getrandbits(16) or 1,
            )  # fmt: skip
        else:
            packet = udp(version, payload, **more)
        ip = (packet[0] & 15) * 4 if version == 4 else 40
        header = ip + ((packet[ip + 12] >> 4) * 4 if proto == "tcp" else 8)
        kind = 5 if proto == "udp" else 1 if version == 4 else 4
        given = vnet(
            kind, size, ip, 16 if proto == "tcp" else 6, hdr=rng.getrandbits(16)
        )
        assert offload.split(given, packet) == twin_split(packet, ip, header, size)


BIG = tcp(4, 1, bytes(3000))


@pytest.mark.parametrize(
    "given",
    [
        vnet(1, 0, 20, 16),  # an endless loop, if it were believed
        vnet(1, 1000, 20, 16, flags=0),
        vnet(4, 1000, 20, 16),  # the other family
        vnet(3, 1000, 20, 16),  # UFO
        vnet(0x81, 1000, 20, 16),  # ECN was not asked for
        vnet(1, 1000, 24, 16),
        vnet(1, 1000, 20, 6),
        vnet(1, 1000, 65535, 16),
        vnet(5, 1000, 20, 16),
    ],
)
def test_r5_r6_headers_that_contradict_the_packet(given: bytes) -> None:
    assert offload.split(given, BIG) is None


def test_r6_truncated_packets_are_refused_at_every_length() -> None:
    given = vnet(1, 1000, 20, 16)
    for length in range(41):
        assert offload.split(given, BIG[:length]) is None
    assert offload.split(given, BIG[:41]) is not None


def test_r2_a_udp_checksum_of_zero_is_sent_as_ffff() -> None:
    for first in range(65536):
        packet = udp(4, struct.pack(">H", first))
        if packet[26:28] == b"\xff\xff":
            break
    (segment,) = offload.split(vnet(5, 2, 20, 6), packet) or []
    assert segment[26:28] == b"\xff\xff"


def unmerged(written: bytes) -> list[bytes]:
    """The packets that a large one stands for, by the twin."""
    flags, kind, header, size, start, _ = struct.unpack_from("=BBHHHH", written)
    packet = written[10:]
    if kind == 0:
        assert written[:10] == NONE
        return [packet]
    assert flags == 1
    proto = 17 if kind == 5 else 6
    assert (kind == 1) == (proto == 6 and packet[0] >> 4 == 4)
    assert start == (20 if packet[0] >> 4 == 4 else 40)
    at = start + (16 if proto == 6 else 6)
    partial = struct.unpack_from(">H", packet, at)[0]
    total = pseudo(packet, start, proto, len(packet) - start)
    assert partial == ~checksum(total) & 0xFFFF
    return twin_split(packet, start, header, size)


def without_ids(packet: bytes) -> bytes:
    """Merging forgets the identification of all but the first (not compared: it is
    the kernel's to choose for packets that may not be fragmented)."""
    if packet[0] >> 4 == 6:
        return packet
    made = bytearray(packet)
    made[4:6] = made[10:12] = b"\0\0"
    return bytes(made)


def by_flow(packets: list[bytes]) -> dict[bytes, list[bytes]]:
    flows: dict[bytes, list[bytes]] = {}
    for packet in packets:
        ip = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
        addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
        flows.setdefault(addresses + packet[ip : ip + 4], []).append(
            without_ids(packet)
        )
    return flows


def random_flow(rng: random.Random, version: int, port: int) -> list[bytes]:
    """A flow with what makes merging stop now and then."""
    made, sequence, size = [], rng.getrandbits(32), rng.randrange(1, 1400)
    for _ in range(rng.randrange(1, 60)):
        n = size if rng.random() < 0.9 else rng.randrange(0, size + 1)
        options: dict[str, Any] = {"flags": ACK}
        match rng.randrange(24):
            case 0:
                options = {"flags": ACK | rng.choice([PSH, FIN, SYN, URG, CWR])}
            case 1:
                options = {"ack": 78}
            case 2:
                options = {"window": 501}
            case 3:
                options = {"ttl": 63}
            case 4:
                options = {"tos": 1}
            case 5:
                options = {"options": b"\1\1\1\1"}
            case 6:
                sequence += 3
        packet = tcp(version, sequence, rng.randbytes(n), port=port, **options)
        if rng.random() < 0.02:
            packet = packet[:-1] + bytes([packet[-1] ^ 1])  # a wrong checksum
        elif version == 4 and rng.random() < 0.02:
            packet = bad_head(packet)
        made.append(packet)
        sequence += n
    return made


def test_merging_and_splitting_again_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    merged = 0
    for _ in range(60):
        flows = [
            random_flow(rng, rng.choice([4, 6]), port)
            for port in range(rng.randrange(1, 24))
        ]
        flows.append(
            [udp(4, bytes(rng.choice([100, 100, 100, 60])), port=9) for _ in range(20)]
        )
        packets: list[bytes] = []
        while flows:
            flow = rng.choice(flows)
            packets += [flow.pop(0) for _ in range(min(len(flow), rng.randrange(1, 9)))]
            flows = [f for f in flows if f]
        written = offload.merge(packets)
        merged += len(packets) - len(written)
        again = [packet for large in written for packet in unmerged(large)]
        assert by_flow(again) == by_flow(packets)
    assert merged > 100


@pytest.mark.parametrize("version", [4, 6])
def test_e1_a_run_becomes_one_packet(version: int) -> None:
    packets = [tcp(version, 1 + 1000 * i, bytes(1000)) for i in range(40)]
    packets.append(tcp(version, 40_001, bytes(10), flags=ACK | PSH))
    (large,) = offload.merge(packets)
    head = 20 if version == 4 else 40
    assert large[:10] == vnet(1 if version == 4 else 4, 1000, head, 16, hdr=head + 20)
    assert large[10 + head + 13] == ACK | PSH  # E2
    assert [without_ids(p) for p in unmerged(large)] == [
        without_ids(p) for p in packets
    ]


def test_g6_g7_limits_of_length_and_count() -> None:
    many = offload.merge([tcp(4, 1 + 10 * i, bytes(10)) for i in range(200)])
    assert [len(unmerged(w)) for w in many] == [64, 64, 64, 8]
    long = offload.merge([tcp(4, 1 + 1400 * i, bytes(1400)) for i in range(60)])
    assert all(len(w) <= 10 + 65535 for w in long)
    assert len(long) == 2


@pytest.mark.parametrize(
    "second",
    [
        tcp(4, 1101, bytes(100), flags=ACK | FIN),
        tcp(4, 1101, b""),
        tcp(4, 1101, bytes(101)),  # longer than the first
        tcp(4, 1102, bytes(100)),
        tcp(4, 1101, bytes(100), ack=1),
        tcp(4, 1101, bytes(100), window=1),
        tcp(4, 1101, bytes(100), tos=2),
        tcp(4, 1101, bytes(100), ttl=3),
        tcp(4, 1101, bytes(100), options=b"\1\1\1\1"),
        tcp(4, 1101, bytes(100), host=2),
        tcp(4, 1101, bytes(100), port=2),
        tcp(4, 1101, bytes(100))[:-1] + b"x",
        bad_head(tcp(4, 1101, bytes(100))),
    ],
)  # fmt: skip
def test_g1_to_g8_what_is_not_merged(second: bytes) -> None:
    first = tcp(4, 1001, bytes(100))
    assert sorted(offload.merge([first, second])) == sorted(
        [NONE + first, NONE + second]
    )
    assert len(offload.merge([first, tcp(4, 1101, bytes(100))])) == 1


def test_g8_g10_a_wrong_first_checksum_is_written_alone_with_a_clean_header() -> None:
    first = tcp(4, 1001, bytes(100))[:-1] + b"x"
    second, third = tcp(4, 1101, bytes(100)), tcp(4, 1201, bytes(100))
    alone, merged = offload.merge([first, second, third])
    assert alone == NONE + first
    assert len(unmerged(merged)) == 2


def without_a_flow() -> list[bytes]:
    """A fragment, one with an IPv4 option, one with an IPv6 extension header."""
    fragment = bytearray(udp(4, bytes(100)))
    fragment[6] = 0x20
    optional = tcp(4, 1, bytes(100))
    optional = finished(b"\x46" + optional[1:20] + bytes(4) + optional[20:], 24, 6)
    extension = bytearray(udp(6, bytes(100)))
    extension[6] = 0
    return [bytes(fragment), optional, bytes(extension)]


def test_g8_wrong_headers_stay_as_they_are() -> None:
    for make in (lambda i: tcp(4, 1 + 100 * i, bytes(100)), lambda _: udp(4, bytes(9))):
        packets = [bad_head(make(i)) for i in range(3)]
        assert offload.merge(packets) == [NONE + packet for packet in packets]


def test_g3_fragments_and_options_stay_alone() -> None:
    for packet in without_a_flow():
        assert offload.merge([packet, packet]) == [NONE + packet, NONE + packet]


def test_g3_they_do_not_overtake_what_their_hosts_have_sent() -> None:
    for packet in without_a_flow():
        version = packet[0] >> 4
        first = [udp(version, bytes(100)), tcp(version, 1, bytes(100))]
        then = udp(version, bytes(90))
        written = offload.merge([*first, packet, then])
        assert sorted(written[:2]) == sorted(NONE + each for each in first)
        assert written[2:] == [NONE + packet, NONE + then]


def test_g3_other_hosts_are_not_held_up_by_them() -> None:
    for packet in without_a_flow():
        version = packet[0] >> 4
        other = [tcp(version, 1 + 100 * i, bytes(100), host=2) for i in range(2)]
        alone, merged = offload.merge([other[0], packet, other[1]])
        assert alone == NONE + packet
        assert len(unmerged(merged)) == 2


def test_g9_udp_without_checksum_is_not_merged() -> None:
    packet = bytearray(udp(4, bytes(100)))
    packet[26:28] = b"\0\0"
    assert len(offload.merge([bytes(packet)] * 3)) == 3
    assert len(offload.merge([udp(4, bytes(100))] * 3)) == 1


def test_switched_off_means_one_by_one() -> None:
    packets = [tcp(4, 1 + 100 * i, bytes(100)) for i in range(5)]
    assert offload.merge(packets, tcp=False) == [NONE + p for p in packets]
    packets = [udp(4, bytes(100)) for _ in range(5)]
    assert offload.merge(packets, udp=False) == [NONE + p for p in packets]


def test_r1_checksum_left_to_us() -> None:
    whole = udp(4, b"odd length!")
    start = pseudo(whole, 20, 17, len(whole) - 20)
    partial = whole[:26] + struct.pack(">H", ~checksum(start) & 0xFFFF) + whole[28:]
    assert offload.complete(vnet(0, 0, 20, 6), partial) == whole
    assert offload.complete(vnet(0, 0, 20, 60_000), partial) is None
    assert offload.complete(NONE, partial) == partial
    assert socket.ntohs(1) != 1  # the packet path is for little-endian machines
