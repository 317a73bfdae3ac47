"""Inbound packets and their session: window, age, confirmation, roaming, timers."""

from __future__ import annotations

import random
import select
import socket
import struct

from tunnel._fastpath.pump import Path, PathEvent

from .rig import SECOND, Rig, boottime, ipv4

REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1


def test_r31_window_does_not_move_on_a_forged_packet() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        forged = bytearray(end.seal(b"", counter=1 << 40))
        forged[-1] ^= 1
        end.send(bytes(forged))
        rig.dropped("rx_auth")
        packet = ipv4("10.0.0.2", "10.0.0.1", b"ok")
        end.send(end.seal(packet, counter=0))
        assert rig.read() == packet


def test_r32_replays_and_old_counters(seed: int) -> None:
    rng = random.Random(seed)
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.2", "10.0.0.1", b"once")
        counters = [*range(20_000, 20_050), 20_000 - 8000]
        rng.shuffle(counters)
        for counter in [20_049, *(c for c in counters if c != 20_049)]:
            end.send(end.seal(packet, counter=counter))
            assert rig.read() == packet
        for counter in counters:
            end.send(end.seal(packet, counter=counter))
        rig.dropped("rx_replay", 51)
        end.send(end.seal(packet, counter=20_049 - 8129))
        rig.dropped("rx_too_old")
        assert rig.silent()


def test_r28_counter_limit_inbound() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        packet = ipv4("10.0.0.2", "10.0.0.1", b"last")
        end.send(end.seal(packet, counter=REJECT_AFTER_MESSAGES))
        rig.dropped("rx_counter")
        end.send(end.seal(packet, counter=REJECT_AFTER_MESSAGES - 1))
        assert rig.read() == packet


def test_r27_expired_key_receives_nothing() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32", created=boottime() - 180 * SECOND)
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1")))
        rig.dropped("rx_expired")
        assert path.last_received == 0


def test_r26_last_minute_is_told_once() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32", created=boottime() - 166 * SECOND)
        end.send(end.seal(b""))
        rig.event(path, PathEvent.LAST_MINUTE)
        rig.events.clear()
        end.send(end.seal(b""))
        rig.no_event(PathEvent.LAST_MINUTE)


def test_r21_first_data_confirms_a_waiting_keypair() -> None:
    with Rig() as rig:
        path, end = rig.peer("10.0.0.2/32")
        keypair = end.keypair(path, initiator=False, await_confirmation=True)
        assert not keypair.confirmed
        forged = bytearray(end.seal(b""))
        forged[-1] ^= 1
        end.send(bytes(forged))
        rig.dropped("rx_auth")
        rig.no_event(PathEvent.CONFIRMED, 0.02)
        assert not keypair.confirmed
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"waits"))
        rig.until(lambda: path.staged == 1)
        end.send(end.seal(b""))
        rig.event(path, PathEvent.CONFIRMED)
        assert keypair.confirmed
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"at once"))
        assert end.receive()[1][20:25] == b"waits"
        assert end.receive()[1][20:27] == b"at once"


def test_r21_answer_uses_the_new_keypair_without_asking_anybody() -> None:
    """A restarted peer's first data gets its answer under the new session."""
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        old = end.index, end.send_key, end.receive_key
        end.index, end.send_key, end.receive_key = 7, b"n" * 32, b"m" * 32
        end.keypair(path, initiator=False, await_confirmation=True)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"old"))
        datagram = end.socket.recv(2000)
        assert struct.unpack_from("<I", datagram, 4) == (old[0],)
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", b"hello")))
        rig.read()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"new"))
        assert end.receive()[1][20:23] == b"new"


def test_r22_a_dropped_or_replaced_keypair_is_not_switched_to() -> None:
    with Rig() as rig:
        path, end, current = rig.session("10.0.0.2/32", created=boottime())
        first = end.index, end.send_key, end.receive_key
        end.index, end.send_key, end.receive_key = 7, b"n" * 32, b"m" * 32
        waiting = end.keypair(path, initiator=False, await_confirmation=True)
        end.index, end.send_key, end.receive_key = 8, b"x" * 32, b"y" * 32
        newest = end.keypair(path, created=boottime() + 1)
        path.use_for_sending(newest)
        end.index, end.send_key, end.receive_key = 7, b"n" * 32, b"m" * 32
        end.send(end.seal(b""))
        rig.event(path, PathEvent.CONFIRMED)
        end.index, end.send_key, end.receive_key = 8, b"x" * 32, b"y" * 32
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"newest"))
        assert end.receive()[1][20:26] == b"newest"
        path.drop_keypair(newest)
        path.drop_keypair(waiting)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"staged"))
        rig.until(lambda: path.staged == 1)
        path.use_for_sending(current)
        path.flush(keepalive=False)
        end.index, end.send_key, end.receive_key = first
        assert end.receive()[1][20:26] == b"staged"


def test_r34_unreplied_only_for_data() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        end.send(end.seal(b""))
        rig.until(lambda: path.last_received > 0)
        rig.no_event(PathEvent.UNREPLIED)
        assert path.check_unreplied() == (0, False)
        packet = ipv4("10.0.0.2", "10.0.0.1", b"x")
        end.send(end.seal(packet))
        rig.event(path, PathEvent.UNREPLIED)
        since = path.unreplied_since
        assert path.check_unreplied() == (since, False)
        end.send(end.seal(packet))
        rig.until(lambda: path.unreplied_again)
        assert path.check_unreplied() == (since, True)
        path.clear_unreplied_again()
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"reply"))
        rig.until(lambda: path.unreplied_since == 0)
        assert path.check_unreplied() == (0, False)


def test_r54_roaming_by_authenticated_packets_only() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        first = end.seal(ipv4("10.0.0.2", "10.0.0.1", b"x"))
        end.send(first)
        rig.read()
        home = path.endpoint
        other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with other:
            other.bind(("127.0.0.1", 0))
            to = rig.udp4.getsockname()
            other.sendto(first, to)  # a replay
            rig.dropped("rx_replay")
            forged = bytearray(end.seal(b""))
            forged[-1] ^= 1
            other.sendto(bytes(forged), to)
            rig.dropped("rx_auth")
            assert path.endpoint == home
            # a disallowed inner source still moves it (kernel netns.sh)
            other.sendto(end.seal(ipv4("9.9.9.9", "10.0.0.1", b"x")), to)
            rig.event(path, PathEvent.ROAMED)
            assert path.endpoint == (
                socket.inet_aton("127.0.0.1"),
                other.getsockname()[1],
                0,
            )


def test_r62_answer_leaves_from_the_address_it_came_to() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        wild = Rig.bound(socket.AF_INET, "0.0.0.0")
        with wild:
            with rig.pump.begin() as t:
                t.set_sockets(wild.fileno(), -1)
            rig.settle()
            port = wild.getsockname()[1]
            end.socket.sendto(end.seal(b""), ("127.0.0.5", port))
            rig.until(lambda: path.source == (socket.inet_aton("127.0.0.5"), 1))
            rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
            _, sender = end.socket.recvfrom(2000)
            assert sender == ("127.0.0.5", port)
            path.clear_source()  # R20
            rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
            _, sender = end.socket.recvfrom(2000)
            assert sender == ("127.0.0.1", port)


def test_r62_a_source_found_bad_is_not_learned_again() -> None:
    """Until it is found good, or the peer is elsewhere."""
    here, there = (socket.inet_aton("10.1.0.1"), 2), (socket.inet_aton("10.2.0.1"), 3)
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        elsewhere = (end.endpoint[0], 9, 0)
        path.clear_source()
        assert path.source_questions() == []
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.source_questions() == [(end.endpoint, here)]
        assert not path.judge_source(there, good=False)  # another one by now
        assert not path.judge_source(here, good=True)
        assert path.source == here

        assert path.judge_source(here, good=False)
        path.note_received(boottime(), 0, end.endpoint, here)
        assert (path.source, path.endpoint) == (None, end.endpoint)
        assert path.source_questions() == [(end.endpoint, here)]
        path.note_received(boottime(), 0, end.endpoint, there)
        assert path.source == there
        assert path.judge_source(here, good=True)
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.source == here

        assert path.judge_source(here, good=False)
        path.note_received(boottime(), 0, elsewhere, here)
        assert path.source == here
        assert path.judge_source(here, good=False)
        path.set_endpoint(end.endpoint)
        assert path.source_questions() == []
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.source == here


def test_r62_a_refused_source_is_in_question_beside_the_one_in_use() -> None:
    """Both may become right at once, by rules that look at the source."""
    here, there = (socket.inet_aton("10.1.0.1"), 2), (socket.inet_aton("10.2.0.1"), 3)
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.judge_source(here, good=False)
        path.note_received(boottime(), 0, end.endpoint, there)
        questions = [(end.endpoint, there), (end.endpoint, here)]
        assert path.source_questions() == questions
        assert path.judge_source(here, good=True)
        assert path.source == there
        assert path.source_questions() == questions[:1]


def test_r62_a_source_that_is_right_again_is_remembered_again() -> None:
    """As if nobody had looked meanwhile; but not in place of a later one."""
    here = socket.inet_aton("10.1.0.1"), 2
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.judge_source(here, good=False)
        path.clear_source()  # R20: a retry of the handshake
        assert path.source_questions() == [(end.endpoint, here)]  # refused as before
        assert path.judge_source(here, good=True)
        assert (path.source, path.endpoint) == (here, end.endpoint)
        assert path.source_questions() == [(end.endpoint, here)]


def test_r72_with_the_sockets_all_verdicts_about_sources_are_forgotten() -> None:
    here = socket.inet_aton("10.1.0.1"), 2
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.judge_source(here, good=False)
        path.forget_source()
        assert path.source_questions() == []
        assert path.endpoint == end.endpoint
        path.note_received(boottime(), 0, end.endpoint, here)
        assert path.source == here
        path.forget_source()
        assert path.source is None


def test_r62_the_packet_path_does_not_learn_a_bad_source() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        end.send(end.seal(b""))
        rig.until(lambda: path.source is not None)
        source = path.source
        assert source is not None
        assert path.judge_source(source, good=False)
        for n in range(2, 5):
            end.send(end.seal(b""))
            rig.until(lambda n=n: rig.pump.counters()["udp_received"] == n)
            assert path.source is None
        assert path.judge_source(source, good=True)
        end.send(end.seal(b""))
        rig.until(lambda: path.source == source)


def test_r62_a_source_is_to_be_judged_when_it_is_learned() -> None:
    """Of IPv4 only: IPv6 has no rule about the interface."""
    here, there = (socket.inet_aton("10.1.0.1"), 2), (socket.inet_aton("10.1.0.1"), 3)
    ours = (socket.inet_pton(socket.AF_INET6, "fd00::1"), 2)
    told: list[tuple[list[Path], bool]] = []
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        path.note_received(boottime(), 0, end.endpoint, here)  # nobody to tell
        rig.pump.on_sources = lambda paths, at_once: told.append((paths, at_once))
        for source, times in ((here, 0), (there, 1), (there, 0), (None, 0), (here, 1)):
            path.note_received(boottime(), 0, end.endpoint, source)
            assert told == [([path], True)] * times
            told.clear()
        path.note_received(boottime(), 0, (end.endpoint[0], 9, 0), here)
        assert told.pop() == ([path], True)  # the way to another place
        path.judge_source(here, good=False)
        path.note_received(boottime(), 0, (end.endpoint[0], 9, 0), here)
        assert told == []  # it is refused already
        path.note_received(boottime(), 0, end.endpoint, ours)
        assert (path.source, told) == (ours, [])


def test_r62_a_source_that_the_packet_path_learns_is_to_be_judged() -> None:
    told: list[tuple[list[Path], bool]] = []
    with Rig() as rig:
        paths, ends = [], []
        for number, host in ((2, "127.0.0.1"), (3, "127.0.0.1"), (4, "::1")):
            path, end, _ = rig.session(f"10.0.0.{number}/32", host=host)
            paths.append(path)
            ends.append(end)
        rig.pump.on_sources = lambda paths, at_once: told.append((paths, at_once))
        for _ in range(2):
            for number, end in enumerate(ends, 2):
                end.send(end.seal(ipv4(f"10.0.0.{number}", "10.0.0.1")))
            for _ in ends:
                rig.read()  # it comes after what is told
            assert all(path.source for path in paths)
            rig.drain()
        learned = [path for some, _ in told for path in some]
        assert sorted(map(id, learned)) == sorted(map(id, paths[:2]))
        assert not any(at_once for _, at_once in told)
        assert all(bits in set(PathEvent) for _, bits in rig.events)


def test_r62_a_peer_with_two_ways_wakes_nobody_with_each_packet() -> None:
    """One that comes in by another way each time is told of once until somebody asks
    about it; what comes next is told again."""
    told: list[list[Path]] = []
    woken = 0
    with Rig() as rig, Rig.bound(socket.AF_INET, "0.0.0.0") as wild:
        path, end, _ = rig.session("10.0.0.2/32")
        with rig.pump.begin() as t:
            t.set_sockets(wild.fileno(), -1)
        rig.settle()
        port = wild.getsockname()[1]
        rig.pump.on_sources = lambda paths, _: told.append(paths)
        for asked in range(1, 4):
            for n in range(50):
                address = socket.inet_aton(f"127.0.0.{5 + n % 2}")
                end.socket.sendto(end.seal(b""), (socket.inet_ntoa(address), port))
                rig.until(lambda a=address: path.source == (a, 1))
                if select.select([rig.pump.event_fd], [], [], 0.002)[0]:
                    woken += 1
                    rig.drain()
            assert told == [[path]] * asked
            assert woken == asked
            assert path.source_questions() == [(end.endpoint, (address, 1))]


def test_r54_a_peer_that_roams_with_each_packet_is_told_of_once_a_second() -> None:
    with Rig() as rig, Rig.bound(socket.AF_INET, "127.0.0.1") as other:
        path, end, _ = rig.session("10.0.0.2/32")
        rig.rest()
        started = boottime()
        for n in range(60):
            sender = (other, end.socket)[n % 2]
            sender.sendto(end.seal(b""), rig.udp4.getsockname())
            port = sender.getsockname()[1]
            rig.until(
                lambda p=port: path.endpoint is not None and path.endpoint[1] == p
            )
            rig.drain()
        rig.event(path, PathEvent.ROAMED)
        told = sum(1 for _, bits in rig.events if bits & PathEvent.ROAMED)
        assert told <= 1 + (boottime() - started) // SECOND


def test_sticky_source_that_is_gone_is_forgotten() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        path.note_received(
            boottime(), 0, end.endpoint, (socket.inet_aton("9.9.9.9"), 1)
        )
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        assert end.receive()[1][20:21] == b"x"
        rig.until(lambda: path.source is None)
