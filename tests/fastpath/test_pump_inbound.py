"""Inbound half of the packet path: socket -> open -> window -> source check -> TUN."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import struct

import pytest

from .rig import InvalidTag, Rig, checksum, ipv4, ipv6, prefix

REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1
PUBLIC = bytes(range(32))


def handshake(kind: int, *, public: bytes = PUBLIC) -> bytes:
    """A message of type 1 or 2 with nothing right in it but its mac1."""
    body = struct.pack("<I", kind) + os.urandom({1: 112, 2: 56}[kind])
    key = hashlib.blake2s(b"mac1----" + public).digest()
    return body + hashlib.blake2s(body, key=key, digest_size=16).digest() + bytes(16)


def test_r55_data_reaches_the_tun_without_padding_behind_a_clean_header() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.2", "10.0.0.1", b"y" * 77)
        datagram = end.seal(packet + bytes(-len(packet) % 16))
        end.send(datagram)
        assert rig.read() == packet
        assert path.rx_bytes == len(datagram)
        assert path.last_received > 0


@pytest.mark.parametrize("length", [0, 1, 3, 4, 15, 31])
def test_r1_short_datagrams(length: int) -> None:
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.send(struct.pack("<I", 4)[:length] + bytes(max(0, length - 4)))
        rig.dropped("rx_length")
        assert end.quiet()


@pytest.mark.parametrize("kind", [0, 5, 0x0104, 0x80000001, 0x01000004, 0xFFFFFFFF])
def test_r1_types_and_reserved_bytes(kind: int) -> None:
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.send(struct.pack("<I", kind) + bytes(144))
        rig.dropped("rx_type")
        assert end.quiet()


@pytest.mark.parametrize(("kind", "size"), [(1, 148), (2, 92), (3, 64)])
@pytest.mark.parametrize("off", [-1, 1])
def test_r1_handshake_lengths_are_exact(kind: int, size: int, off: int) -> None:
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.send(struct.pack("<I", kind) + bytes(size + off - 4))
        rig.dropped("rx_length")


@pytest.mark.parametrize("kind", [1, 2])
def test_r43_mac1_is_checked_before_python_sees_it(kind: int) -> None:
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        good = handshake(kind)
        for i in range(len(good) - 16):  # mac2 is not covered
            end.send(good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :])
        end.send(handshake(kind, public=bytes(32)))
        end.send(good)
        sent = len(good) - 16 + 2
        rig.until(lambda: rig.pump.counters()["udp_received"] == sent)
        rig.drain()
        assert len(rig.handshakes) == 1
        assert rig.handshakes[0].data == good
        assert rig.handshakes[0].endpoint == end.endpoint
        assert rig.handshakes[0].source == (socket.inet_aton("127.0.0.1"), 1)
        # flips in the type are refused as types or lengths
        counters = rig.pump.counters()
        assert counters["drop.rx_mac1"] == len(good) - 16 - 4 + 1
        assert counters["drop.rx_type"] + counters["drop.rx_length"] == 4
        assert end.quiet()  # R2


def test_r8_without_a_key_handshakes_are_dropped() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.send(handshake(1))
        rig.dropped("rx_no_key")


def test_r49_handshake_ring_is_bounded_and_data_still_flows() -> None:
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        message = handshake(1)
        for sent in range(50, 5050, 50):
            for _ in range(50):
                end.send(message)
            # let it drain its socket
            rig.until(lambda s=sent: rig.pump.counters()["udp_received"] >= s)
        counters = rig.pump.counters()
        assert rig.pump.handshakes_waiting == 4096
        assert counters["drop.rx_handshake_full"] == counters["udp_received"] - 4096
        packet = ipv4("10.0.0.2", "10.0.0.1", b"through")
        end.send(end.seal(packet))
        assert rig.read() == packet
        rig.drain()
        assert len(rig.handshakes) == 4096
        assert rig.pump.handshakes_waiting == 0


def test_r49_handshakes_are_taken_as_far_as_there_is_room() -> None:
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        messages = [handshake(1) for _ in range(10)]
        for message in messages:
            end.send(message)
        rig.until(lambda: rig.pump.counters()["udp_received"] == 10)
        assert rig.pump.handshakes_waiting == 10
        assert rig.pump.drain(0)[1] == []
        first = rig.pump.drain(3)[1]
        assert rig.pump.handshakes_waiting == 7
        rest = rig.pump.drain()[1]
        assert [each.data for each in first + rest] == messages
        assert {each.endpoint for each in first + rest} == {first[0].endpoint}


def test_r9_unknown_receiver_index() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        for index in (0, 1, end.index, 0xFFFFFFFF):
            end.send(struct.pack("<IIQ", 4, index, 0) + bytes(32))
        rig.dropped("rx_index", 4)


def test_r57_forged_packet_affects_only_itself() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        datagrams = [
            end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes([i]) * 20)) for i in range(40)
        ]
        bad = bytearray(datagrams[17])
        bad[-1] ^= 1
        datagrams[17] = bytes(bad)
        for datagram in datagrams:
            end.send(datagram)
        assert [rig.read()[20] for _ in range(39)] == [i for i in range(40) if i != 17]
        rig.dropped("rx_auth")


@pytest.mark.parametrize(
    "inner",
    [
        b"\x45" + bytes(18),
        b"\x55" + bytes(30),
        bytes(20),
        ipv4("10.0.0.2", "10.0.0.1")[:2] + b"\0\x13" + bytes(16),  # length 19
        ipv4("10.0.0.2", "10.0.0.1")[:2] + b"\x01\0" + bytes(16),  # longer than it is
        b"\x60" + bytes(38),
        ipv6("fd00::2", "fd00::1")[:4] + b"\xff\xff" + bytes(34),  # R52: 65535 + 40
    ],
)
def test_r35_r52_malformed_counts_for_timers_only(inner: bytes) -> None:
    with Rig() as rig:
        path, end, _ = rig.session("0.0.0.0/0", "::/0")
        end.send(end.seal(inner))
        rig.dropped("rx_malformed")
        assert path.unreplied_since > 0
        assert rig.silent()


def test_r53_source_must_belong_to_the_sender_also_when_nested() -> None:
    with Rig() as rig:
        path, wide, _ = rig.session("10.0.0.0/8")
        _, narrow, _ = rig.session("10.1.0.0/16")
        wide.send(wide.seal(ipv4("10.1.0.1", "10.0.0.1", b"spoof")))
        rig.dropped("rx_source", 1)
        wide.send(wide.seal(ipv4("192.168.0.1", "10.0.0.1", b"nobody")))
        rig.dropped("rx_source", 2)
        narrow.send(narrow.seal(ipv4("10.2.0.1", "10.0.0.1", b"spoof")))
        rig.dropped("rx_source", 3)
        assert rig.silent(0.02)
        for end, source in ((wide, "10.2.0.1"), (narrow, "10.1.0.1")):
            packet = ipv4(source, "10.0.0.1", b"fine")
            end.send(end.seal(packet))
            assert rig.read() == packet
        assert path.unreplied_since > 0  # R35: it still counted


def test_r53_every_packet_of_a_burst_is_checked(seed: int) -> None:
    """Whose sources are the same, others, of the other family; honest or not."""
    rng = random.Random(seed)
    with Rig() as rig:
        _, first, _ = rig.session("10.0.0.0/24", "fd00:1::/64")
        _, second, _ = rig.session("10.0.1.0/24", "fd00:2::/64")
        refused = 0
        for _ in range(20):
            wanted = []
            for i in range(30):
                peer = rng.randrange(2)
                owner = peer if rng.random() < 0.7 else 1 - peer
                host = rng.choice((1, 1, 1, 2))
                if rng.random() < 0.6:
                    packet = ipv4(f"10.0.{owner}.{host}", "10.9.9.9", bytes([i] * 8))
                else:
                    packet = ipv6(f"fd00:{owner + 1}::{host}", "fd99::", bytes([i] * 8))
                end = (first, second)[peer]
                end.send(end.seal(packet))
                if owner == peer:
                    wanted.append(packet)
                else:
                    refused += 1
            # packets of different peers may change places: keypairs are opened in runs
            assert sorted(rig.read() for _ in wanted) == sorted(wanted)
            rig.dropped("rx_source", refused)


def test_r53_a_prefix_that_moved_is_checked_anew_at_once() -> None:
    with Rig() as rig:
        one, first, _ = rig.session("10.0.0.0/24")
        two, second, _ = rig.session("10.0.1.0/24")
        packet = ipv4("10.0.0.7", "10.0.9.9", b"mine")
        ways = ((one, first, second), (two, second, first))
        for refused in range(20):
            owner, end, other = ways[refused % 2]
            with rig.pump.begin() as t:
                t.insert_prefix(*prefix("10.0.0.0/24"), owner)
            rig.settle()
            other.send(other.seal(packet))
            end.send(end.seal(packet))
            assert rig.read() == packet
            rig.dropped("rx_source", refused + 1)


@pytest.mark.parametrize(
    ("outer", "inner", "result"),
    [(3, 1, 3), (3, 2, 3), (3, 3, 3), (3, 0, 0), (1, 0, 0), (0, 2, 2), (2, 1, 1)],
)
def test_r56_outer_congestion_mark_reaches_the_inside(
    outer: int, inner: int, result: int
) -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.socket.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, outer)
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", b"x", tos=0xA0 | inner)))
        packet = rig.read()
        assert packet[1] == 0xA0 | result
        assert checksum(packet[:20]) == 0


def test_oversized_and_random_datagrams_answer_nothing(seed: int) -> None:
    rng = random.Random(seed)
    with Rig(public_key=PUBLIC) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.send(struct.pack("<II", 4, end.index + 0x1000) + bytes(65_507 - 8))
        rig.dropped("rx_auth")
        for sent in range(2, 302):
            end.send(rng.randbytes(rng.randrange(2000)))
            if sent % 50 == 0:  # let it drain its socket
                rig.until(lambda s=sent: rig.pump.counters()["udp_received"] >= s)
        packet = ipv4("10.0.0.2", "10.0.0.1", b"still here")
        end.send(end.seal(packet))
        assert rig.read() == packet
        assert end.quiet()


def test_largest_datagram_is_delivered() -> None:
    with Rig(mtu=65_535) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.2", "10.0.0.1", bytes(65_507 - 32 - 20))
        end.send(end.seal(packet))
        assert rig.read() == packet


def test_many_interleaved_peers_each_in_order() -> None:
    with Rig() as rig:
        ends = [rig.session(f"10.0.{i}.0/24")[1] for i in range(20)]
        seen: dict[int, list[int]] = {}
        for n in range(20):
            for i, end in enumerate(ends):
                end.send(end.seal(ipv4(f"10.0.{i}.1", "10.9.9.9", bytes([n]))))
            for _ in ends:
                packet = rig.read()
                seen.setdefault(packet[14], []).append(packet[20])
        assert seen == {i: list(range(20)) for i in range(20)}


def test_wrong_key_is_refused_by_the_twin_too() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        datagram = end.socket.recv(2000)
        end.receive_key = bytes(32)
        with pytest.raises(InvalidTag):
            end.open(datagram)


def test_a_tun_that_nobody_reads_does_not_hold_up_the_wire() -> None:
    """It is waited for once; then packets are dropped and counted at full speed."""
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        for sent in range(1, 3001):
            end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes(1000))))
            if sent % 50 == 0:
                rig.until(lambda s=sent: rig.pump.counters()["udp_received"] >= s)
        counters = rig.pump.counters()
        assert counters["drop.rx_tun"] > 1000
        assert counters["tun_written"] + counters["drop.rx_tun"] == 3000
        while not rig.silent(0.01):
            rig.read()
        packet = ipv4("10.0.0.2", "10.0.0.1", b"read again")
        end.send(end.seal(packet))
        assert rig.read() == packet
        assert path.last_received > 0
