"""Several workers: all that holds for one, and what they hand to each other.

The tests of the other files run again with three workers, of which the first reads the
TUN and the sockets for all, so that two peers of three are another worker's.
"""

from __future__ import annotations

import socket
import struct
import threading

import pytest
from lab.held import open_descriptors

from tunnel._fastpath.pump import Path, Pump
from tunnel.io.sockopt import set_buffers
from tunnel.io.steering_linux import queue_of, steer_sockets

from . import rig as rig_module
from .rig import PATIENCE, FarEnd, Rig, ipv4, prefix
from .test_pump_control import *  # noqa: F403
from .test_pump_cookies import *  # noqa: F403
from .test_pump_helper import *  # noqa: F403
from .test_pump_inbound import *  # noqa: F403
from .test_pump_inbound import handshake
from .test_pump_limits import *  # noqa: F403
from .test_pump_outbound import *  # noqa: F403
from .test_pump_session import *  # noqa: F403


@pytest.fixture(autouse=True)
def three_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig_module, "WORKERS", 3)


def number(packet: bytes) -> int:
    return int(struct.unpack_from(">I", packet, 20)[0])


def numbered(source: str, target: str, n: int, size: int = 0) -> bytes:
    return ipv4(source, target, struct.pack(">I", n) + bytes(size))


def test_peers_are_spread_and_keep_their_worker() -> None:
    with Rig(workers=3) as rig:
        paths = [rig.peer()[0] for _ in range(7)]
        assert [p.worker for p in paths] == [0, 1, 2, 0, 1, 2, 0]
        with rig.pump.begin() as t:
            t.remove_peer(paths[1])
            t.remove_peer(paths[4])
        assert [rig.peer()[0].worker for _ in range(3)] == [1, 1, 1]
        assert rig.pump.add_peer(None, bytes([10, 0, 0, 9])).worker == 2


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 16])
def test_an_index_names_the_worker_and_stays_random(workers: int, seed: int) -> None:
    with Rig(workers=workers) as rig:
        for path in [rig.peer()[0] for _ in range(workers)]:
            for index in (0, 0xFF, 0xFFFFFFFF, seed & 0xFFFFFFFF, 0x123456FE):
                own = path.own_index(index)
                assert own >> 8 == index >> 8
                assert (own & 0xFF) % workers == path.worker
                assert abs((own & 0xFF) - (index & 0xFF)) < max(workers, 2)


def test_wrong_arguments_say_which() -> None:
    with Rig(workers=2) as rig:
        with pytest.raises(ValueError, match="more: "), rig.pump.begin() as t:
            t.set_sockets(-1, -1, more=[(-1, -1), (-1, -1)])
        for workers in (0, 17):
            with pytest.raises(ValueError, match=f"workers: {workers} is not 1"):
                Pump(rig.tun.fileno(), workers=workers)
        with pytest.raises(ValueError, match="more_queues: one for each"):
            Pump(rig.tun.fileno(), workers=3, more_queues=[rig.tun.fileno()])


def test_many_peers_both_ways_in_order(seed: int) -> None:
    """Eight peers of three workers; the packets of each keep their order."""
    with Rig(workers=3) as rig:
        set_buffers(rig.tun, 1 << 22, 1 << 22)
        peers = [rig.session(f"10.0.1.{n}/32") for n in range(8)]
        rounds = 300
        out: list[list[tuple[int, int]]] = [[] for _ in peers]
        back: list[list[int]] = [[] for _ in peers]

        def receive(n: int, end: FarEnd) -> None:
            for i in range(rounds):
                counter, inner = end.receive()
                out[n].append((counter, number(inner)))
                end.send(end.seal(numbered(f"10.0.1.{n}", "10.0.0.1", i)))

        threads = [
            threading.Thread(target=receive, args=(n, end))
            for n, (_, end, _) in enumerate(peers)
        ]
        for thread in threads:
            thread.start()
        for i in range(rounds):
            for n in range(8):
                rig.write(numbered("10.0.0.1", f"10.0.1.{n}", i))
            for _ in range(8):
                packet = rig.read()
                back[packet[15]].append(number(packet))
        for thread in threads:
            thread.join()
        assert out == [[(i, i) for i in range(rounds)]] * 8
        assert back == [list(range(rounds))] * 8
        counters = rig.pump.counters()
        assert counters["handed_over"] == 2 * rounds * 5  # of workers 1 and 2
        assert sum(n for name, n in counters.items() if name.startswith("drop")) == 0


class Group:
    """Sockets of one port for all workers, as `UdpSockets` makes them."""

    def __init__(self, rig: Rig, *, steered: bool) -> None:
        self.first = Rig.bound(socket.AF_INET, "127.0.0.1")
        self.first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.more = []
        for _ in range(1, rig.pump.workers):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(self.first.getsockname())
            self.more.append(sock)
        assert not steered or steer_sockets(self.first, rig.pump.workers)
        with rig.pump.begin() as t:
            t.set_sockets(
                self.first.fileno(), -1, more=[(s.fileno(), -1) for s in self.more]
            )
        rig.settle()
        rig.udp4.close()
        rig.udp4 = self.first

    def close(self) -> None:
        for sock in self.more:
            sock.close()


def session_of(rig: Rig, n: int) -> tuple[Path, FarEnd]:
    """A peer whose keypair has an index of its worker."""
    path, end = rig.peer(f"10.0.1.{n}/32")
    end.drawn = path.own_index(end.local_index)
    path.use_for_sending(end.keypair(path))
    return path, end


@pytest.mark.parametrize("steered", [True, False])
def test_sockets_of_each_worker(steered: bool) -> None:
    """By the receiver index nothing is handed over; without it the strays arrive."""
    with Rig(workers=3) as rig:
        group = Group(rig, steered=steered)
        peers = [session_of(rig, n) for n in range(12)]
        for i in range(40):
            for n, (_, end) in enumerate(peers):
                end.send(end.seal(numbered(f"10.0.1.{n}", "10.0.0.1", i)))
            got = sorted((p[15], number(p)) for p in (rig.read() for _ in peers))
            assert got == [(n, i) for n in range(12)]
        handed = rig.pump.counters()["handed_over"]
        assert (handed == 0) is steered
        for n, (path, end) in enumerate(peers):
            rig.write(numbered("10.0.0.1", f"10.0.1.{n}", 7))
            assert number(end.receive()[1]) == 7
            path.flush(keepalive=True)
            assert end.receive()[1] == b""
        group.close()


def test_handshakes_come_through_any_socket() -> None:
    with Rig(workers=3) as rig:
        group = Group(rig, steered=True)
        with rig.pump.begin() as t:
            t.set_public_key(bytes(32))
        rig.settle()
        ends = [rig.peer()[1] for _ in range(24)]  # the kernel chooses by the sender
        message = handshake(1, public=bytes(32))
        for end in ends:
            end.send(message)

        def all_there() -> bool:
            rig.drain()
            return len(rig.handshakes) == len(ends)

        rig.until(all_there)
        ports = {e.endpoint[1] for e in ends}
        assert {h.endpoint[1] for h in rig.handshakes} == ports
        group.close()


def test_a_full_ring_drops_with_its_reason_and_recovers() -> None:
    """The second worker's socket is full, so it stands still; the first goes on."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far, Rig(workers=2) as rig:
        set_buffers(rig.tun, 1 << 22, 1 << 22)
        _, first, _ = rig.session("10.0.1.1/32")
        _, second, _ = rig.session("10.0.1.2/32")
        with rig.pump.begin() as t:
            t.set_sockets(near.fileno(), -1, connected=first.endpoint)
        rig.settle()
        near.setblocking(False)
        sent = 0
        while not rig.pump.counters()["drop.tx_lane_full"]:
            rig.write(numbered("10.0.0.1", "10.0.1.2", sent, 60_000))
            sent += 1
            assert sent < 5000
        far.settimeout(PATIENCE)
        seen: list[int] = []

        def drain() -> None:
            while not seen or seen[-1] != 1 << 31:
                seen.append(number(second.open(far.recv(70_000))[1]))

        def lost() -> int:
            counters = rig.pump.counters()
            return counters["drop.tx_lane_full"] + counters["drop.tx_socket"]

        thread = threading.Thread(target=drain)
        thread.start()
        rig.until(lambda: len(seen) + lost() == sent)  # the ring is empty
        rig.write(numbered("10.0.0.1", "10.0.1.2", 1 << 31))
        thread.join()
        assert seen[-1] == 1 << 31
        assert seen == sorted(seen)
        assert len(seen) + lost() == sent + 1


def test_what_moves_to_a_peer_of_another_worker_follows_it() -> None:
    with Rig(workers=3) as rig:
        ends = [rig.session()[:2] for _ in range(3)]
        for n in range(60):
            path, end = ends[n % 3]
            with rig.pump.begin() as t:
                t.insert_prefix(*prefix("10.0.0.2/32"), path)
            rig.settle()
            rig.write(numbered("10.0.0.1", "10.0.0.2", n))
            assert number(end.receive()[1]) == n
            end.send(end.seal(numbered("10.0.0.2", "10.0.0.1", n)))
            assert number(rig.read()) == n


def test_descriptors_and_threads_come_back() -> None:
    with Rig(workers=1):
        pass
    before = open_descriptors()
    for workers in (2, 16):
        with Rig(workers=workers) as rig:
            assert len(rig.threads) == 2 * workers
            rig.session("10.0.1.1/32")
        assert open_descriptors() == before
        assert not any(thread.is_alive() for thread in rig.threads)


def test_queue_of_spreads_neighbours() -> None:
    for queues in (2, 3, 8, 16):
        counts = [0] * queues
        for n in range(512):
            counts[queue_of(bytes([10, 0, n >> 8, n & 255]), queues)] += 1
        assert min(counts) > 512 // queues // 2, counts
