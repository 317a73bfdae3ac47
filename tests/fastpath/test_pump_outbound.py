"""Outbound half of the packet path: TUN -> route -> seal -> socket."""

from __future__ import annotations

import socket
import struct

import pytest

from tunnel._fastpath.pump import PathEvent

from .rig import SECOND, Rig, boottime, checksum, ipv4, ipv6

REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1


def test_r3_data_message_is_what_cryptography_opens() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.1", "10.0.0.2", b"x" * 100)
        rig.write(packet)
        counter, inner = end.receive()
        assert counter == 0
        assert inner == packet + bytes(-len(packet) % 16)
        rig.until(lambda: path.tx_bytes == 16 + len(inner) + 16)


def test_r29_r30_counters_rise_by_one_in_the_order_of_sending() -> None:
    with Rig() as rig:
        _, end, keypair = rig.session("10.0.0.2/32")
        for start in range(0, 500, 100):
            for i in range(start, start + 100):
                rig.write(ipv4("10.0.0.1", "10.0.0.2", struct.pack(">I", i)))
            for i in range(start, start + 100):
                counter, inner = end.receive()
                assert counter == i
                assert inner[20:24] == struct.pack(">I", i)
        assert keypair.send_counter == 500


@pytest.mark.parametrize(
    ("mtu", "length", "padded"),
    [
        (1420, 1420, 1420),
        (1420, 1400, 1408),
        (1420, 1412, 1420),
        (1420, 21, 32),
        (1420, 32, 32),
        (1300, 1360, 1364),  # 1360 % 1300 = 60 -> 64
        (1299, 1299, 1299),
        (0, 33, 48),
        (68, 68, 68),
        (65535, 1000, 1008),
    ],
)
def test_r60_padding_never_past_the_mtu(mtu: int, length: int, padded: int) -> None:
    with Rig(mtu=mtu) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.1", "10.0.0.2", b"p" * (length - 20))
        rig.write(packet)
        _, inner = end.receive()
        assert inner == packet + bytes(padded - length)


def test_r59_no_route_answers_host_unreachable() -> None:
    with Rig() as rig:
        rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.1", "10.9.9.9", b"\x08\0\0\0data", proto=1)
        rig.write(packet)
        answer = rig.read()
        assert checksum(answer[:20]) == 0
        assert checksum(answer[20:]) == 0
        assert answer[12:20] == socket.inet_aton("10.9.9.9") + socket.inet_aton(
            "10.0.0.1"
        )
        assert answer[20:22] == b"\x03\x01"
        assert answer[28:] == packet
        rig.dropped("tx_no_route")


def test_r59_no_route_answers_address_unreachable_ipv6() -> None:
    with Rig() as rig:
        packet = ipv6("fd00::1", "fd00::9", b"data")
        rig.write(packet)
        answer = rig.read()
        assert answer[6] == 58
        assert answer[40:42] == b"\x01\x03"
        pseudo = answer[8:40] + struct.pack(">II", len(answer) - 40, 58)
        assert checksum(pseudo + answer[40:]) == 0
        assert answer[48:] == packet


def test_r59_no_endpoint_answers_too() -> None:
    with Rig() as rig:
        path, _ = rig.peer("10.0.0.2/32")
        path.set_endpoint(None)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"data"))
        assert rig.read()[20:22] == b"\x03\x01"
        rig.dropped("tx_no_endpoint")


@pytest.mark.parametrize(
    "packet",
    [
        ipv4("224.0.0.1", "10.9.9.9", b"data"),  # multicast source
        ipv4("10.0.0.1", "10.9.9.9", b"\x03\0\0\0error", proto=1),  # an ICMP error
        ipv6("::", "fd00::9", b"data"),
    ],
)
def test_r59_icmp_errors_are_not_answered(packet: bytes) -> None:
    with Rig() as rig:
        rig.write(packet)
        rig.dropped("tx_no_route")
        assert rig.silent()


def test_r59_icmp_answers_are_limited() -> None:
    with Rig() as rig:
        began = boottime()
        for _ in range(300):
            rig.write(ipv4("10.0.0.1", "10.9.9.9", b"data"))
        rig.until(lambda: rig.pump.counters()["drop.tx_no_route"] == 300)
        seconds = (boottime() - began) // SECOND
        answers = 0
        while not rig.silent(0.02):
            rig.read()
            answers += 1
        assert 1 <= answers <= 100 * (2 + seconds)


@pytest.mark.parametrize("junk", [b"", b"\x45", b"\x50" * 40, b"\x60" + bytes(30)])
def test_junk_from_the_tun_is_counted(junk: bytes) -> None:
    with Rig() as rig:
        _, end, _ = rig.session("0.0.0.0/0")
        rig.write(junk)
        rig.dropped("tx_malformed")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"next"))
        assert end.receive()[1][20:24] == b"next"


def test_r65_checksum_left_to_us_is_completed() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        payload = b"an odd number of bytes!"
        udp = struct.pack(">HHHH", 1, 2, 8 + len(payload), 0) + payload
        packet = ipv4("10.0.0.1", "10.0.0.2", udp)
        pseudo = packet[12:20] + struct.pack(">BBH", 0, 17, len(udp))
        partial = ~checksum(pseudo) & 0xFFFF
        unfinished = packet[:26] + struct.pack(">H", partial) + packet[28:]
        rig.write(unfinished, struct.pack("=BBHHHH", 1, 0, 0, 0, 20, 6))
        _, inner = end.receive()
        assert checksum(pseudo + inner[20 : len(packet)]) == 0


@pytest.mark.parametrize(
    "vnet",
    [
        struct.pack("=BBHHHH", 1, 0, 0, 0, 20, 60_000),  # checksum outside
        struct.pack("=BBHHHH", 1, 0, 0, 0, 65_535, 65_535),
        struct.pack("=BBHHHH", 0, 1, 40, 1000, 20, 16),  # GSO was not offered
    ],
)
def test_r65_virtio_header_that_lies_costs_only_its_packet(vnet: bytes) -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"bad"), vnet)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"good"))
        assert end.receive()[1][20:24] == b"good"
        rig.dropped("tx_vnet_header")


def test_packets_wait_for_a_session_and_keep_their_order() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        for i in range(5):
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))
        rig.event(path, PathEvent.NEEDS_SESSION)
        rig.until(lambda: path.staged == 5)
        path.use_for_sending(end.keypair(path))
        path.flush(keepalive=True)
        rig.until(lambda: path.staged == 0)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([5])))
        got = [end.receive() for _ in range(6)]
        assert [counter for counter, _ in got] == list(range(6))
        assert [inner[20] for _, inner in got] == list(range(6))
        assert end.quiet()  # R37: no keepalive when something was staged


def test_new_packets_queue_behind_those_that_wait() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        for i in range(5):
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))
        rig.until(lambda: path.staged == 5)
        path.use_for_sending(end.keypair(path))  # and nobody asks for a flush
        rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([5])))
        assert [end.receive()[1][20] for _ in range(6)] == list(range(6))


def test_staged_packets_are_at_most_128_and_the_oldest_goes() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        for i in range(200):
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))
        rig.dropped("tx_staged_full", 72)
        assert path.staged == 128
        path.use_for_sending(end.keypair(path))
        path.flush(keepalive=False)
        assert [end.receive()[1][20] for _ in range(128)] == list(range(72, 200))


def test_r19_purge_drops_what_waits() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.until(lambda: path.staged == 1)
        path.purge_staged()
        rig.dropped("tx_purged")
        path.use_for_sending(end.keypair(path))
        path.flush(keepalive=False)
        assert end.quiet()


def test_r37_keepalive_is_32_bytes_and_no_data_sent() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        path.flush(keepalive=True)
        datagram = end.socket.recv(1000)
        assert len(datagram) == 32
        assert end.open(datagram) == (0, b"")
        rig.until(lambda: path.last_sent > 0)
        assert path.unanswered_since == 0
        rig.no_event(PathEvent.UNANSWERED)


def test_keepalive_without_session_asks_for_one() -> None:
    with Rig() as rig:
        path, _ = rig.peer("10.0.0.2/32")
        path.flush(keepalive=True)
        rig.event(path, PathEvent.NEEDS_SESSION)


def test_r33_unanswered_is_told_once_until_rearmed() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        rig.rest()  # the time of a packet is that at which its batch began
        before = boottime()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.event(path, PathEvent.UNANSWERED)
        since = path.unanswered_since
        assert before <= since <= boottime()
        end.receive()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        assert path.check_unanswered() == since
        end.send(end.seal(b""))  # any authenticated packet answers
        rig.until(lambda: path.unanswered_since == 0)
        rig.events.clear()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.no_event(PathEvent.UNANSWERED)
        assert path.check_unanswered() > since
        end.send(end.seal(b""))
        rig.until(lambda: path.unanswered_since == 0)
        assert path.check_unanswered() == 0  # re-arms
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.event(path, PathEvent.UNANSWERED)


def test_r25_old_initiator_key_asks_for_rekey_and_still_sends() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32", created=boottime() - 121 * SECOND)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.event(path, PathEvent.REKEY)
        end.receive()
        rig.events.clear()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.no_event(PathEvent.REKEY)  # at most every REKEY_TIMEOUT


def test_r25_responder_does_not_rekey_by_age() -> None:
    with Rig() as rig:
        _, end, _ = rig.session(
            "10.0.0.2/32", created=boottime() - 121 * SECOND, initiator=False
        )
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.no_event(PathEvent.REKEY)


def test_r25_worn_key_asks_for_rekey_on_either_side() -> None:
    with Rig() as rig:
        path, end, keypair = rig.session("10.0.0.2/32", initiator=False)
        keypair.set_send_counter(2**60)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        assert end.receive()[0] == 2**60
        rig.event(path, PathEvent.REKEY)


def test_r27_expired_key_sends_nothing() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32", created=boottime() - 180 * SECOND)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.event(path, PathEvent.NEEDS_SESSION)
        assert end.quiet()
        assert path.staged == 1


def test_r28_counter_limit_three_more_then_a_handshake() -> None:
    with Rig() as rig:
        path, end, keypair = rig.session("10.0.0.2/32")
        keypair.set_send_counter(REJECT_AFTER_MESSAGES - 3)
        for i in range(8):
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))
        got = [end.receive()[0] for _ in range(3)]
        assert got == [REJECT_AFTER_MESSAGES - 3 + i for i in range(3)]
        rig.event(path, PathEvent.NEEDS_SESSION)
        rig.until(lambda: path.staged == 5)
        assert end.quiet()


def test_r67_invalidated_key_no_longer_sends_but_receives() -> None:
    with Rig() as rig:
        path, end, keypair = rig.session("10.0.0.2/32")
        keypair.invalidate_sending()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.event(path, PathEvent.NEEDS_SESSION)
        packet = ipv4("10.0.0.2", "10.0.0.1", b"in")
        end.send(end.seal(packet))
        assert rig.read() == packet


def test_r56_inner_ecn_goes_out_and_dscp_does_not() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        end.socket.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x", tos=0xB8 | 2))
        _, control, _, _ = end.socket.recvmsg(2000, 100)
        assert [data[0] for _, kind, data in control if kind == socket.IP_TOS] == [2]


def test_ipv6_outside_and_inside() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("fd00::/64", host="::1")
        packet = ipv6("fd00::1", "fd00::2", b"hello")
        rig.write(packet)
        assert end.receive()[1][: len(packet)] == packet
        back = ipv6("fd00::2", "fd00::1", b"back")
        end.send(end.seal(back))
        assert rig.read() == back


def test_two_peers_by_longest_prefix() -> None:
    with Rig() as rig:
        _, wide, _ = rig.session("10.0.0.0/8")
        _, narrow, _ = rig.session("10.1.0.0/16")
        for i in range(64):
            rig.write(ipv4("10.9.9.9", "10.1.0.1" if i % 2 else "10.2.0.1", bytes([i])))
        assert [narrow.receive()[1][20] for _ in range(32)] == list(range(1, 64, 2))
        assert [wide.receive()[1][20] for _ in range(32)] == list(range(0, 64, 2))


def test_no_socket_of_the_family_is_counted() -> None:
    with Rig() as rig:
        rig.session("fd00::/64", host="::1")
        with rig.pump.begin() as t:
            t.set_sockets(rig.udp4.fileno(), -1)
        rig.settle()
        rig.write(ipv6("fd00::1", "fd00::2", b"x"))
        rig.dropped("tx_no_socket")


def test_too_large_for_udp_is_dropped_alone() -> None:
    with Rig(mtu=65_535) as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes(65_500)))
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"next"))
        assert end.receive()[1][20:24] == b"next"
        rig.dropped("tx_socket")
