"""What a commit says about packets between peers and about the age of sessions."""

from __future__ import annotations

import random
import socket
import struct
from ipaddress import ip_address

import pytest

from tunnel._fastpath.pump import PathEvent

from .linear_table import LinearTable, random_address, random_prefix
from .rig import SECOND, Rig, boottime, checksum, ipv4, ipv6


def isolate(rig: Rig, *own: str) -> None:
    with rig.pump.begin() as t:
        t.set_isolation([ip_address(text).packed for text in own])
    rig.settle()


def share(rig: Rig) -> None:
    with rig.pump.begin() as t:
        t.set_isolation(None)
    rig.settle()


# --- isolation


def test_a_peer_s_packet_for_another_peer_is_not_sent() -> None:
    with Rig() as rig:
        _, two, _ = rig.session("10.0.0.2/32")
        _, three, _ = rig.session("10.0.0.3/32")
        packet = ipv4("10.0.0.2", "10.0.0.3", b"between peers")
        rig.write(packet)
        assert three.receive()[1].startswith(packet)
        isolate(rig)
        rig.write(packet)
        rig.dropped("tx_isolated")
        assert three.quiet()
        share(rig)
        rig.write(packet)
        assert three.receive()[1].startswith(packet)
        assert rig.silent()
        assert two.receive()[1][9] == 1  # the ICMP answer to the second, see below


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_whose_packet_was_not_sent_is_told(workers: int) -> None:
    """From the address it wanted to reach, as if that had answered; also where the two
    peers belong to different workers."""
    with Rig(workers=workers) as rig:
        _, two, _ = rig.session("10.0.0.2/32")
        rig.session("10.0.0.3/32")
        isolate(rig)
        packet = ipv4("10.0.0.2", "10.0.0.3", b"between peers")
        rig.write(packet)
        _, answer = two.receive()
        answer = answer[: struct.unpack_from(">H", answer, 2)[0]]
        assert checksum(answer[:20]) == 0
        assert checksum(answer[20:]) == 0
        assert answer[12:20] == socket.inet_aton("10.0.0.3") + socket.inet_aton(
            "10.0.0.2"
        )
        assert answer[20:22] == b"\x03\x0d"  # administratively prohibited
        assert answer[28:] == packet


def test_ipv6_is_told_too() -> None:
    with Rig() as rig:
        _, two, _ = rig.session("fd00::2/128")
        rig.session("fd00::3/128")
        isolate(rig, "fd00::1")
        packet = ipv6("fd00::2", "fd00::3", b"between peers")
        rig.write(packet)
        _, answer = two.receive()
        assert answer[40:42] == b"\x01\x01"
        assert answer[48:].startswith(packet)
        rig.dropped("tx_isolated")


def test_who_has_no_session_is_not_told_and_nothing_waits() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        rig.session("10.0.0.3/32")
        isolate(rig)
        rig.write(ipv4("10.0.0.2", "10.0.0.3", b"x"))
        rig.dropped("tx_isolated")
        assert end.quiet()
        assert path.staged == 0


def test_answers_are_limited_and_errors_are_not_answered() -> None:
    with Rig() as rig:
        _, two, _ = rig.session("10.0.0.2/32")
        rig.session("10.0.0.3/32")
        isolate(rig)
        rig.write(ipv4("10.0.0.2", "10.0.0.3", b"\x03\0\0\0error", proto=1))
        rig.dropped("tx_isolated")
        assert two.quiet()
        began = boottime()
        for _ in range(400):
            rig.write(ipv4("10.0.0.2", "10.0.0.3", b"x"))
        rig.dropped("tx_isolated", 401)
        seconds = (boottime() - began) // SECOND
        answers = 0
        while not two.quiet():
            two.receive()
            answers += 1
        # 100 a second, and another second may begin meanwhile
        assert 1 <= answers <= 100 * (2 + seconds)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("10.0.0.3", "the same peer: both ends are behind it"),
        ("10.0.0.1", "the host's own address, though a peer's allowed IPs hold it"),
        ("192.168.0.9", "only a peer's default route holds it"),
        ("172.16.0.1", "the host's own address"),
    ],
)
def test_what_isolation_leaves_alone(source: str, why: str) -> None:
    with Rig() as rig:
        rig.session("10.0.0.0/24", "0.0.0.0/0")
        _, three, _ = rig.session("10.0.0.3/32", "10.0.0.4/32")
        isolate(rig, "10.0.0.1", "fd00::1", "172.16.0.1")
        packet = ipv4(source, "10.0.0.4", b"x")
        rig.write(packet)
        assert three.receive()[1].startswith(packet), why


def test_to_a_peer_s_default_route_from_another_peer() -> None:
    """A way out through a peer is another peer as well."""
    with Rig() as rig:
        rig.session("10.0.0.2/32")
        _, exit_, _ = rig.session("0.0.0.0/0")
        isolate(rig)
        rig.write(ipv4("10.0.0.2", "192.0.2.9", b"x"))
        rig.dropped("tx_isolated")
        assert exit_.quiet()


def test_an_aborted_change_isolates_nobody() -> None:
    with Rig() as rig:
        rig.session("10.0.0.2/32")
        _, three, _ = rig.session("10.0.0.3/32")
        change = rig.pump.begin()
        change.set_isolation([bytes(4)])
        change.set_isolation([bytes(16)])
        with pytest.raises(ValueError, match="4 or 16 bytes"):
            change.set_isolation([b"short"])
        change.abort()
        rig.write(ipv4("10.0.0.2", "10.0.0.3", b"x"))
        three.receive()


def test_what_a_toggle_replaces_is_freed() -> None:
    with Rig() as rig:
        for _ in range(200):
            isolate(rig, *(f"10.0.0.{n}" for n in range(1, 20)))
            share(rig)
        rig.until(lambda: rig.drain() or rig.pump.retired == 0)


def test_toggled_under_traffic_what_is_allowed_is_not_lost() -> None:
    with Rig() as rig:
        rig.session("10.0.0.2/32")
        _, three, _ = rig.session("10.0.0.3/32")
        for number in range(300):
            if number % 3 == 0:
                isolate(rig, "10.0.0.1")
            elif number % 3 == 1:
                share(rig)
            packet = ipv4("10.0.0.1", "10.0.0.3", struct.pack(">I", number))
            rig.write(packet)
            assert three.receive()[1].startswith(packet)


def test_isolation_against_a_list_that_is_searched(seed: int) -> None:
    """Twin: both owners by linear search, the source's without default routes."""
    rng = random.Random(seed)
    with Rig() as rig:
        paths = [rig.pump.add_peer(n) for n in range(5)]
        for path in paths:
            path.set_endpoint((bytes([127, 0, 0, 1]), 9, 0))
        table, known = LinearTable(), [(bytes(4), 0), (bytes(16), 0)]
        with rig.pump.begin() as t:
            known += [random_prefix(rng, known) for _ in range(25)]
            for address, cidr in known:
                owner = rng.randrange(len(paths))
                t.insert_prefix(address, cidr, paths[owner])
                table.insert(address, cidr, owner)
        own = [random_address(rng, known) for _ in range(6)]
        isolate(rig, *(str(ip_address(address)) for address in own))
        specific = LinearTable({k: v for k, v in table.values.items() if k.prefixlen})
        expected = 0
        for count in range(1, 301):
            source = rng.choice([*own, *(random_address(rng, known) for _ in range(9))])
            target = random_address(rng, known)
            while len(target) != len(source):
                target = random_address(rng, known)
            build = ipv4 if len(source) == 4 else ipv6
            rig.write(build(str(ip_address(source)), str(ip_address(target)), b"x"))
            sender = None if source in own else specific.lookup(source)
            expected += sender is not None and sender != table.lookup(target)
            rig.until(lambda n=count: rig.pump.counters()["tun_read"] == n)
            # with several workers the reader is not the one who drops
            rig.dropped("tx_isolated", expected)
        assert expected > 10


# --- rekey limits


def limit(rig: Rig, seconds: int, messages: int) -> None:
    with rig.pump.begin() as t:
        t.set_rekey_limits(seconds * SECOND, messages)
    rig.settle()


def test_r25_a_lower_age_is_in_force_with_the_next_packet() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32", created=boottime() - 31 * SECOND)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.no_event(PathEvent.REKEY)
        limit(rig, 30, 2**60)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.event(path, PathEvent.REKEY)


def test_r25_a_lower_number_of_messages_is_in_force_with_the_next_packet() -> None:
    with Rig() as rig:
        path, end, keypair = rig.session("10.0.0.2/32", initiator=False)
        keypair.set_send_counter(1024)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.no_event(PathEvent.REKEY)
        limit(rig, 120, 1024)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        end.receive()
        rig.event(path, PathEvent.REKEY)


def test_r25_the_protocol_s_limits_cannot_be_raised() -> None:
    with Rig() as rig:
        limit(rig, 10_000, 2**63)
        old, end, _ = rig.session("10.0.0.2/32", created=boottime() - 121 * SECOND)
        worn, far, keypair = rig.session("10.0.0.3/32")
        keypair.set_send_counter(2**60)
        for target in ("10.0.0.2", "10.0.0.3"):
            rig.write(ipv4("10.0.0.1", target, b"x"))
        end.receive()
        far.receive()
        rig.event(old, PathEvent.REKEY)
        rig.event(worn, PathEvent.REKEY)
