"""A large packet from one peer to another, of two workers, while it is decided whether
they may reach each other: dropped or split, never sent as it is."""

from __future__ import annotations

import socket
import threading
import time

from tunnel._fastpath.pump import Pump

from .rig import boottime
from .test_offload import finished, tcp, vnet

SECONDS = 3
WORKERS = 3
LOCALHOST = bytes([127, 0, 0, 1])
LARGE = bytearray(tcp(4, 5, bytes(14_000)))
LARGE[12:20] = bytes([10, 0, 1, 1, 10, 0, 1, 2])
PACKET = vnet(1, 1380, 20, 16, hdr=40) + finished(bytes(LARGE), 20, 6)


class Sizes:
    """Of the datagrams that arrive, until `close`."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.1)
        self.small = self.large = 0
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def endpoint(self) -> tuple[bytes, int, int]:
        return LOCALHOST, self.socket.getsockname()[1], 0

    def _run(self) -> None:
        while not self._ended:
            try:
                size = len(self.socket.recv(70_000))
            except TimeoutError:
                continue
            self.small += size <= 1500
            self.large += size > 1500

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self.socket.close()


def fill(pump: Pump, near: socket.socket, far: Sizes) -> None:
    """A peer with a session for each worker."""
    with pump.begin() as change:
        change.set_sockets(near.fileno(), -1)
        change.set_mtu(1420)
        for n in range(WORKERS):
            path = pump.add_peer(None)
            path.set_endpoint(far.endpoint)
            keypair = path.add_keypair(
                path.own_index(n << 8), n, bytes(32), bytes(32),
                created=boottime(), initiator=True, await_confirmation=False,
            )  # fmt: skip
            path.use_for_sending(keypair)
            change.insert_prefix(bytes([10, 0, 1, n]), 32, path)


def test_it_never_leaves_larger_than_the_mtu() -> None:
    tun, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near.bind(("127.0.0.1", 0))
    far = Sizes()
    pump = Pump(inner.fileno(), workers=WORKERS, tcp_offload=True)
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.0003):
            tun.send(PACKET)

    sender = threading.Thread(target=send)
    try:
        fill(pump, near, far)
        pump.start()
        sender.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for own in (None, [bytes([10, 0, 0, 1])]):
                with pump.begin() as change:
                    change.set_isolation(own)
                time.sleep(0.001)
            pump.drain()
    finally:
        ended.set()
        if sender.ident:
            sender.join()
        pump.stop()
        far.close()
        for one in (tun, inner, near):
            one.close()
    assert far.small > 0
    assert far.large == 0
