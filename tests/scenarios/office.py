"""A server and its clients in this process, with traffic that counts what it loses.

The server's operating system is played by a thread: it answers packets for the server
itself and forwards the others, as a kernel with `ip_forward` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Self

from lab.process import wait_until

from tests.device.rig import Running, host, inner, number_of, packet
from tunnel.io.memory import TunUser
from tunnel.state.model import PeerState, Prefix

SERVER = 1
SUBNET: Prefix = (bytes([10, 0, 0, 0]), 24)
PAUSE = 0.001  # seconds between two packets of a flow
LEAST = 20  # packets of each flow before a change, and again after it


class Reader:
    """Reads what arrives at one interface, in a thread; the numbers are kept unless
    `handle` does something else with a packet."""

    def __init__(
        self, packets: TunUser, handle: Callable[[bytes], None] | None = None
    ) -> None:
        self.numbers: set[int] = set()
        self._packets = packets
        self._handle = handle or (lambda data: self.numbers.add(number_of(data)))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                data = self._packets.recv(0.02)
            except TimeoutError:
                continue
            self._handle(data)

    def got(self, number: int, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while number not in self.numbers:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.002)
        return True

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)


class Office:
    """`with Office(2, 3) as office`: a server and the clients 2 and 3, connected.

    A client's interface has one reader, so ask `readers[n]` what has arrived.
    """

    def __init__(self, *clients: int, subnet: bool = True) -> None:
        self._first = clients
        self._subnet = subnet
        self._stack = ExitStack()
        self.numbers = count()
        self.forwarded = 0
        self.clients: dict[int, Running] = {}
        self.readers: dict[int, Reader] = {}

    def __enter__(self) -> Self:
        self.server = self._stack.enter_context(Running(SERVER))
        system = Reader(self.server.packets, self._play_system)
        self._stack.callback(system.close)
        try:
            for n in self._first:
                self.connect(self.start(n))
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _play_system(self, data: bytes) -> None:
        if data[16:20] != inner(SERVER):
            self.forwarded += 1
            self.server.packets.send(data)
            return
        answer = bytearray(data)
        answer[12:16], answer[16:20] = data[16:20], data[12:16]
        self.server.packets.send(bytes(answer))

    def start(self, n: int) -> Running:
        """A client that knows the server; the server does not know it yet."""
        client = self.clients[n] = self._stack.enter_context(Running(n))
        reader = self.readers[n] = Reader(client.packets)
        self._stack.callback(reader.close)
        client.add(self.to_server(n))
        return client

    def to_server(self, n: int) -> PeerState:
        """The server as client `n` configures it."""
        allowed = (SUBNET,) if self._subnet else (host(SERVER),)
        return self.clients[n].peer(self.server, name="server", allowed_ips=allowed)

    def entry(self, n: int, **fields: object) -> PeerState:
        """Client `n` as the server configures it: without an endpoint."""
        known = PeerState(
            self.clients[n].public, name=f"client{n}", allowed_ips=(host(n),)
        )
        return replace(known, **fields)  # type: ignore[arg-type]

    def connect(self, client: Running) -> None:
        self.server.add(self.entry(client.n))
        assert self.reaches(client.n)

    def reaches(
        self, n: int, target: int = SERVER, *, source: int = 0, seconds: float = 15
    ) -> bool:
        """Whether a packet of client `n` is answered by the server, or arrives at
        another client, within that time; it is sent at once, and again and again."""
        arrived = self.readers[n if target == SERVER else target]
        deadline, number = time.monotonic() + seconds, next(self.numbers)
        while True:
            self.clients[n].packets.send(packet(source or n, target, number))
            if arrived.got(number, 0.1):
                return True
            if time.monotonic() > deadline:
                return False

    def sessions(self, n: int) -> int:
        """Handshakes that client `n` has made."""
        return self.clients[n].handshakes()

    @contextmanager
    def traffic(self, *clients: int) -> Iterator[dict[int, Flow]]:
        """Packets of these clients to the server and back, all the time, LEAST of each
        before the block and after it; then what is still under way is waited for."""
        flows = {n: Flow(self, n) for n in clients}
        threads = [threading.Thread(target=f.run, daemon=True) for f in flows.values()]
        for thread in threads:
            thread.start()
        try:
            more_of_each(flows)
            yield flows
            more_of_each(flows)
        finally:
            for flow in flows.values():
                flow.stopping.set()
            for thread in threads:
                thread.join(20)


@dataclass
class Flow:
    """What one client sent; what was answered is with its reader."""

    office: Office
    client: int
    sent: list[int] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> int:
        return len(set(self.sent) - self.office.readers[self.client].numbers)

    def run(self) -> None:
        packets = self.office.clients[self.client].packets
        while not self.stopping.is_set():
            number = next(self.office.numbers)
            self.sent.append(number)
            packets.send(packet(self.client, SERVER, number))
            time.sleep(PAUSE)
        deadline = time.monotonic() + 10
        while self.lost and time.monotonic() < deadline:
            time.sleep(0.01)


def more_of_each(flows: dict[int, Flow]) -> None:
    for flow in flows.values():
        enough = len(flow.sent) + LEAST
        wait_until("traffic", lambda f=flow, n=enough: len(f.sent) >= n, timeout=20)


def assert_lossless(flows: dict[int, Flow], least: int = 2 * LEAST) -> None:
    """0 of N packets lost, in every flow, and N is at least `least`."""
    lost = {n: f"{f.lost} of {len(f.sent)}" for n, f in flows.items() if f.lost}
    assert not lost
    assert all(len(flow.sent) >= least for flow in flows.values())
