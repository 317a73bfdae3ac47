"""The helper: it takes the outbound direction over while both stay busy."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO

from tunnel.io.sockopt import set_buffers

from .preload import run_preloaded
from .rig import VNET, Rig, ipv4, prefix

# Processes of their own: threads of this one would take turns, and never keep both
# directions busy at once.
WRITER = """
import os, sys
fd, head, number = int(sys.argv[1]), bytes.fromhex(sys.argv[2]), 0
os.set_blocking(fd, True)
while os.read(0, 1):
    for _ in range(int(sys.argv[3])):
        os.write(fd, head + number.to_bytes(4, "big"))
        number += 1
"""
FLOOD = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", int(sys.argv[1])))
datagram = bytes.fromhex(sys.argv[2])
s.setsockopt(17, 103, len(datagram))  # SOL_UDP, UDP_SEGMENT: trains, as from a tunnel
while True:
    s.send(60 * datagram)
"""


WITHOUT_END = """
import os, sys
fd, packet = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
os.set_blocking(fd, True)
while True:
    os.write(fd, packet)
"""


@contextmanager
def child(program: str, *argv: str, fds: Sequence[int] = ()) -> Iterator[IO[bytes]]:
    """Its standard input."""
    command = [sys.executable, "-c", program, *argv]
    with Popen(command, stdin=PIPE, pass_fds=fds, bufsize=0) as process:
        assert process.stdin
        try:
            yield process.stdin
        finally:
            process.kill()


def test_helper_takes_over_under_load_and_order_holds() -> None:
    """Both directions busy: outbound goes to the helper and comes back, in order.

    The queues have room for many rounds of the worker, so that it finds something in
    both, whoever else has the processors meanwhile."""
    head = VNET + ipv4("10.0.0.1", "10.0.0.2", bytes(4))[:-4]
    with Rig() as rig:
        path, end, keypair = rig.session("10.0.0.2/32")
        for sock in (rig.tun, rig.udp4, end.socket):
            set_buffers(sock, 1 << 22, 1 << 22)
        room = end.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        burst = room // 4096  # they arrive, though nobody reads
        again = end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes(400)))
        end.send(again)  # from now on a replay, which has its way to go as well
        rig.read()
        port, tun = str(rig.udp4.getsockname()[1]), rig.tun.fileno()
        sent, deadline, handed = 0, time.monotonic() + 60, 0
        with (
            child(FLOOD, port, again.hex()),
            child(WRITER, str(tun), head.hex(), str(burst), fds=[tun]) as bursts,
        ):
            while handed < 5 and time.monotonic() < deadline:
                before = rig.pump.counters()["tun_read_by_helper"]
                bursts.write(b"*")
                for number in range(sent, sent + burst):
                    counter, inner = end.receive()
                    assert counter == number
                    assert inner[20:24] == number.to_bytes(4, "big")
                sent += burst
                handed += rig.pump.counters()["tun_read_by_helper"] > before
        assert handed >= 5
        assert keypair.send_counter == sent
        rig.rest()  # the helper gives the direction back
        read = rig.pump.counters()["tun_read_by_helper"]
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"alone"))
        assert end.receive()[1][20:25] == b"alone"
        assert rig.pump.counters()["tun_read_by_helper"] == read
        path.flush(keepalive=True)
        assert end.receive()[1] == b""


STOP = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from fastpath.rig import VNET, Rig, ipv4
from fastpath.test_pump_helper import FLOOD, WITHOUT_END, child
packet = VNET + ipv4("10.0.0.1", "10.0.0.2", bytes(1000))
with Rig() as rig:
    _, end, _ = rig.session("10.0.0.2/32")
    again = end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes(400)))
    port, tun = str(rig.udp4.getsockname()[1]), rig.tun.fileno()
    endless = [child(WITHOUT_END, str(tun), packet.hex(), fds=[tun]) for _ in range(2)]
    with child(FLOOD, port, again.hex()), endless[0], endless[1]:
        rig.until(lambda: rig.pump.counters()["tun_read_by_helper"] > 100, 30)
        before = rig.pump.counters()["tun_read"]
        rig.pump.stop()
        print(json.dumps(rig.pump.counters()["tun_read"] - before))
"""


def test_stop_ends_a_helper_that_always_has_something_to_send(shim: Path) -> None:
    """Each call takes 100 ms, in which the writers fill the queue (90 packets)."""
    assert run_preloaded(shim, STOP, shim_send_ms=100) < 1000


def test_a_peer_removed_under_load_leaves_no_packet_staged() -> None:
    """The round that purges may route by the snapshot before it once more."""
    packet = VNET + ipv4("10.0.0.1", "10.0.0.2", bytes(1200))
    with Rig() as rig:
        _, end, _ = rig.session("10.0.9.0/24")
        again = end.seal(ipv4("10.0.9.2", "10.0.0.1", bytes(400)))
        port, tun = str(rig.udp4.getsockname()[1]), rig.tun.fileno()
        with (
            child(FLOOD, port, again.hex()),
            child(WITHOUT_END, str(tun), packet.hex(), fds=[tun]),
        ):
            for _ in range(400):
                path = rig.pump.add_peer(None)
                path.set_endpoint(end.endpoint)
                with rig.pump.begin() as t:
                    t.insert_prefix(*prefix("10.0.0.2/32"), path)
                before = rig.pump.counters()["tun_read"]
                rig.until(lambda n=before: rig.pump.counters()["tun_read"] > n)
                with rig.pump.begin() as t:
                    t.remove_prefix(*prefix("10.0.0.2/32"))
                    t.remove_peer(path)
                rig.drain()

        def left() -> int:
            counters = rig.pump.counters()
            dropped = (n for name, n in counters.items() if name.startswith("drop.tx"))
            return counters["tun_read"] - sum(dropped)

        rig.until(lambda: left() == 0)
        assert rig.pump.counters()["drop.tx_purged"] > 0
