"""What the control thread does to the packet path: commits, removal, life cycle."""

from __future__ import annotations

import gc
import random
import socket
import threading
import time

import pytest
from lab.held import open_descriptors

from tunnel._fastpath.pump import Pump

from .rig import PATIENCE, Rig, boottime, ipv4, prefix


def test_transaction_is_invisible_until_commit_and_gone_after_abort() -> None:
    with Rig() as rig:
        _, first, _ = rig.session("10.0.0.0/24")
        path, second, _ = rig.session()
        packet = ipv4("10.9.9.9", "10.0.0.1", b"x")
        t = rig.pump.begin()
        assert t.insert_prefix(*prefix("10.0.0.1/32"), path) is None
        rig.write(packet)
        first.receive()
        t.abort()
        rig.write(packet)
        first.receive()
        with rig.pump.begin() as t:
            t.insert_prefix(*prefix("10.0.0.1/32"), path)
        rig.settle()
        rig.write(packet)
        second.receive()


def test_only_one_transaction_and_none_after_the_end() -> None:
    with Rig() as rig:
        t = rig.pump.begin()
        with pytest.raises(RuntimeError, match="open already"):
            rig.pump.begin()
        t.abort()
        with pytest.raises(RuntimeError, match="over"):
            t.set_mtu(1)
        generation = rig.pump.generation
        assert rig.pump.begin().commit() == generation + 1


def test_an_exception_aborts() -> None:
    with Rig() as rig:
        generation = rig.pump.generation
        with pytest.raises(KeyError), rig.pump.begin() as t:
            t.set_mtu(5)
            raise KeyError
        assert rig.pump.generation == generation


@pytest.mark.parametrize(
    ("address", "cidr", "word"), [(b"123", 8, "address"), (bytes(4), 33, "cidr")]
)
def test_bad_prefix_names_the_argument(address: bytes, cidr: int, word: str) -> None:
    with Rig() as rig:
        path, _ = rig.peer()
        with (
            pytest.raises(ValueError, match=word),
            rig.pump.begin() as t,
        ):
            t.insert_prefix(address, cidr, path)


def test_r71_prefix_moves_and_tells_who_had_it() -> None:
    with Rig() as rig:
        first, _ = rig.peer("10.0.0.0/24")
        second, _ = rig.peer()
        with rig.pump.begin() as t:
            assert t.insert_prefix(*prefix("10.0.0.0/24"), second) is first
            assert t.remove_prefix(*prefix("10.0.0.0/24")) is second
            assert t.remove_prefix(*prefix("10.0.0.0/24")) is None


def test_r76_removed_peer_is_gone_and_its_memory_comes_back() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        end.send(end.seal(b""))
        rig.until(lambda: path.last_received > 0)
        with rig.pump.begin() as t:
            t.remove_prefix(*prefix("10.0.0.2/32"))
            t.remove_peer(path)
        rig.settle()
        end.send(end.seal(b""))
        rig.dropped("rx_index")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
        rig.dropped("tx_no_route")
        assert path.endpoint is None
        assert path.rx_bytes == 0
        with pytest.raises(RuntimeError):
            end.keypair(path)

        def reclaimed() -> bool:
            rig.drain()
            return rig.pump.retired == 0

        rig.until(reclaimed)


def test_removed_peer_with_staged_packets_and_pending_events() -> None:
    with Rig() as rig:
        for _ in range(50):
            path, _ = rig.peer("10.0.0.2/32")
            for _ in range(10):
                rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
            rig.until(lambda path=path: path.staged == 10)
            with rig.pump.begin() as t:
                t.remove_prefix(*prefix("10.0.0.2/32"))
                t.remove_peer(path)
        rig.dropped("tx_purged", 500)

        def reclaimed() -> bool:
            rig.drain()
            return rig.pump.retired == 0

        rig.until(reclaimed)


def test_sockets_swap_under_traffic_loses_nothing() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        received: list[bytes] = []
        stop = threading.Event()

        def feed() -> None:
            i = 0
            while not stop.is_set():
                rig.write(ipv4("10.0.0.1", "10.0.0.2", i.to_bytes(4, "big")))
                i += 1
                received.append(end.receive()[1][20:24])

        thread = threading.Thread(target=feed)
        thread.start()
        extra = [Rig.bound(socket.AF_INET, "127.0.0.1") for _ in range(2)]
        before = open_descriptors()
        for n in range(200):
            with rig.pump.begin() as t:
                t.set_sockets(extra[n % 2].fileno(), rig.udp6.fileno())
            rig.drain()
        stop.set()
        thread.join()
        for s in extra:
            s.close()
        assert received == [i.to_bytes(4, "big") for i in range(len(received))]
        rig.until(lambda: rig.drain() or rig.pump.retired == 0)
        assert open_descriptors() == before - 2


def test_commits_by_the_thousand_under_traffic_misroute_nothing(seed: int) -> None:
    """Every snapshot routes 10.0.0.2 to one peer; noise changes around it."""
    rng = random.Random(seed)
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        noise = [rig.peer()[0] for _ in range(4)]
        stop = threading.Event()
        count = 0

        def feed() -> None:
            nonlocal count
            while not stop.is_set():
                rig.write(ipv4("10.0.0.1", "10.0.0.2", count.to_bytes(4, "big")))
                assert end.receive()[1][20:24] == count.to_bytes(4, "big")
                count += 1

        thread = threading.Thread(target=feed)
        thread.start()
        rig.until(lambda: count > 0)
        before = count
        worst = 0
        for _ in range(3000):
            with rig.pump.begin() as t:
                for _ in range(3):
                    cidr = rng.randrange(8, 32)
                    where = bytes([10, 0, 0, rng.randrange(256)])
                    if rng.random() < 0.6:
                        t.insert_prefix(where, cidr, rng.choice(noise))
                    else:
                        t.remove_prefix(where, cidr)
            rig.drain()
            worst = max(worst, rig.pump.retired_snapshots)
        rig.until(lambda: count > before)
        stop.set()
        thread.join()
        assert worst <= 64
        assert rig.pump.counters()["drop.tx_no_route"] == 0


def test_keypair_churn_keeps_the_index_table_sound(seed: int) -> None:
    """Thousands of keypairs come and go; the live ones are always found."""
    rng = random.Random(seed)
    with Rig() as rig:
        path, end, keypair = rig.session("10.0.0.2/32")
        live = []
        for _ in range(4000):
            if live and rng.random() < 0.45:
                path.drop_keypair(live.pop(rng.randrange(len(live))))
            else:
                live.append(
                    path.add_keypair(
                        rng.getrandbits(32) | 1 << 31,
                        1,
                        bytes(32),
                        bytes(32),
                        created=boottime(),
                        initiator=True,
                        await_confirmation=False,
                    )
                )
            rig.drain()
        packet = ipv4("10.0.0.2", "10.0.0.1", b"found")
        end.send(end.seal(packet))
        assert rig.read() == packet
        path.drop_keypair(keypair)
        rig.settle()
        end.send(end.seal(packet))
        rig.dropped("rx_index")


def test_events_of_two_peers_are_both_told() -> None:
    with Rig() as rig:
        first, _ = rig.peer("10.0.0.1/32")
        second, _ = rig.peer("10.0.0.2/32")
        rig.write(ipv4("10.9.9.9", "10.0.0.1", b"x"))
        rig.write(ipv4("10.9.9.9", "10.0.0.2", b"x"))

        def both() -> bool:
            rig.drain()
            return {p for p, _ in rig.events} == {first, second}

        rig.until(both)


def test_gone_tun_is_reported_and_the_wire_goes_on() -> None:
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        rig.tun.close()
        rig.until(lambda: rig.pump.failure != "")
        assert rig.pump.failure == "the TUN device is gone"
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", b"x")))
        rig.until(lambda: rig.pump.counters()["udp_received"] == 1)


def test_idle_pump_uses_no_time() -> None:
    with Rig() as rig:
        rig.session("10.0.0.2/32")
        clocks = [time.pthread_getcpuclockid(one.ident or 0) for one in rig.threads]
        rig.rest()
        before = sum(map(time.clock_gettime_ns, clocks))
        time.sleep(0.5)
        assert sum(map(time.clock_gettime_ns, clocks)) - before < 20_000_000


def test_connected_transport_needs_no_addresses() -> None:
    """Two ends of a socketpair instead of UDP sockets."""
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        wire, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with wire, inner:
            wire.settimeout(PATIENCE)
            with rig.pump.begin() as t:
                t.set_sockets(inner.fileno(), -1, connected=(b"\x01\x02\x03\x04", 9, 0))
            rig.settle()
            rig.write(ipv4("10.0.0.1", "10.0.0.2", b"out"))
            assert end.open(wire.recv(2000))[1][20:23] == b"out"
            packet = ipv4("10.0.0.2", "10.0.0.1", b"in")
            wire.send(end.seal(packet))
            assert rig.read() == packet
            assert path.endpoint == (b"\x01\x02\x03\x04", 9, 0)


def test_stop_is_idempotent_and_leaks_nothing() -> None:
    before = open_descriptors()
    for _ in range(50):
        with Rig() as rig:
            path, end, keypair = rig.session("10.0.0.2/32")
            rig.write(ipv4("10.0.0.1", "10.0.0.2", b"x"))
            end.receive()
        rig.pump.stop()
        assert not any(thread.is_alive() for thread in rig.threads)
        assert path.last_sent == 0
        assert keypair.send_counter == 0
        assert rig.pump.drain() == ([], [])
        with pytest.raises(RuntimeError):
            rig.pump.begin()
        with pytest.raises(RuntimeError):
            rig.pump.add_peer(None)
    assert open_descriptors() == before


def test_pump_whose_second_queue_is_none_leaves_nothing_open() -> None:
    before = open_descriptors()
    a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with a, b:
        for _ in range(20):
            with pytest.raises(OSError, match="Bad file descriptor"):
                Pump(a.fileno(), workers=2, more_queues=[10**6])
    assert open_descriptors() == before


def test_removing_a_peer_twice_in_a_transaction_removes_it_once() -> None:
    with Rig() as rig:
        path, end, _ = rig.session("10.0.0.2/32")
        with rig.pump.begin() as t:
            t.remove_prefix(*prefix("10.0.0.2/32"))
            t.remove_peer(path)
            t.remove_peer(path)
        _, end, _ = rig.session("10.0.0.2/32")
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"on"))
        assert end.receive()[1][20:22] == b"on"


def test_pump_that_never_started_frees_itself() -> None:
    before = open_descriptors()
    for _ in range(20):
        a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with a, b:
            pump = Pump(a.fileno())
            pump.add_peer(None)
            del pump
    gc.collect()
    assert open_descriptors() == before


def test_secrets_do_not_show() -> None:
    with Rig() as rig:
        _, end, keypair = rig.session("10.0.0.2/32")
        text = repr(keypair)
        assert end.send_key.hex() not in text
        assert text == f"<Keypair {end.index + 0x1000:08x}>"


def test_held_commands_wake_the_worker_once_and_are_not_lost() -> None:
    with Rig() as rig:
        pairs = [rig.session() for _ in range(5)]
        rig.rest()
        rig.pump.hold()
        for path, _, _ in pairs:
            path.flush(keepalive=True)
        for _, end, _ in pairs:
            assert end.quiet(0.02)  # it sleeps, and nobody told it
        rig.pump.release()
        for _, end, _ in pairs:
            assert end.receive() == (0, b"")
        rig.pump.release()  # nothing was held
        pairs[0][0].flush(keepalive=True)
        assert pairs[0][1].receive() == (1, b"")


def test_commands_may_be_held_when_the_pump_stops() -> None:
    with Rig() as rig:
        path, _, _ = rig.session()
        rig.pump.hold()
        path.flush(keepalive=True)
        rig.pump.stop()
        rig.pump.release()


def test_a_command_that_comes_while_one_runs_is_not_left_lying() -> None:
    """Each one is given the moment its predecessor's packet is there, when the worker
    has not put the command away yet; it must not go to sleep on the next one."""
    with Rig() as rig:
        path, end, _ = rig.session()
        for n in range(3000):
            path.flush(keepalive=True)
            assert end.receive() == (n, b"")
