"""Tunnels in this process: engines in threads of their own, over 127.0.0.1."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Self, TypeVar

from tunnel.engine import Engine
from tunnel.io.memory import TunUser
from tunnel.protocol.primitives import PrivateKey
from tunnel.protocol.types import Timing
from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Prefix,
    Secret,
    clamp,
)
from tunnel.state.plan import Plan

T = TypeVar("T")
LOCALHOST = bytes([127, 0, 0, 1])
EACH = 0.25  # seconds that a ping is waited for


def inner(n: int) -> bytes:
    """The address inside of tunnel number `n`."""
    return bytes([10, 0, 0, n])


def host(n: int) -> Prefix:
    return inner(n), 32


def packet(source: int, target: int, number: int = 0) -> bytes:
    """A whole IPv4 packet that carries a number."""
    payload = struct.pack(">Q", number) + bytes(32)
    return (
        struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, 253, 0)
        + inner(source)
        + inner(target)
        + payload
    )


def number_of(data: bytes) -> int:
    return int(struct.unpack_from(">Q", data, 20)[0])


class Running:
    """One loopback tunnel with private key `key`, its control loop in a thread."""

    def __init__(self, n: int, *, timing: Timing | None = None) -> None:
        self.n = n
        self.secret = Secret(clamp(os.urandom(32)))
        self.public = PrivateKey(self.secret.reveal()).public
        interface = InterfaceState(
            kind="loopback", name=f"memory{n}", addresses=((inner(n), 24),)
        )
        self.state = DeviceState(private_key=self.secret, interface=interface)
        self.failure: BaseException | None = None
        self._ready = threading.Event()
        self._timing = timing
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def _run(self) -> None:
        try:
            self.engine = Engine(self.state.interface, timing=self._timing)
            self.engine.start(self.state)
            self._ready.set()
            self.engine.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error
            self._ready.set()
        finally:
            self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.engine.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[Engine], T]) -> T:
        return self.engine.submit(lambda: function(self.engine)).result(10)

    def ended(self, timeout: float) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def packets(self) -> TunUser:
        end: TunUser = self.engine.packets
        return end

    @property
    def port(self) -> int:
        return self.call(lambda e: e.device.listen_port)

    def change(self, **fields: object) -> Plan:
        """Plans and applies the state with these fields replaced."""
        self.state = replace(self.state, **fields)  # type: ignore[arg-type]
        wanted = self.state

        def run(engine: Engine) -> Plan:
            plan = engine.plan(wanted)
            engine.apply(plan)
            return plan

        return self.call(run)

    def peer(self, far: Running, **fields: object) -> PeerState:
        return replace(
            PeerState(
                far.public,
                name=f"peer{far.n}",
                endpoint=(LOCALHOST, far.port, 0),
                allowed_ips=(host(far.n),),
            ),
            **fields,  # type: ignore[arg-type]
        )

    def add(self, *peers: PeerState) -> Plan:
        return self.change(
            peers={**self.state.peers, **{p.public_key: p for p in peers}}
        )

    def remove(self, key: bytes) -> Plan:
        return self.change(
            peers={k: p for k, p in self.state.peers.items() if k != key}
        )

    def handshakes(self) -> int:
        """Sessions made so far, in either role."""
        counters = self.call(lambda e: e.device.status().counters)
        return counters.get("initiation.received", 0) + counters.get(
            "response.received", 0
        )


def connect(a: Running, b: Running) -> None:
    a.add(a.peer(b))
    b.add(b.peer(a))


def ping(a: Running, b: Running, number: int = 1, timeout: float = 5) -> None:
    """One packet there and one back, sent anew every quarter of a second; what
    arrives late from before is passed over. `timeout` is what the tries take together:
    while the machine stands still none is made."""
    for one, far in ((a, b), (b, a)):
        tries = range(round(timeout / EACH))
        assert any(_sent(one, far, number) for _ in tries), (
            f"{one.n} does not reach {far.n}"
        )


def _sent(one: Running, far: Running, number: int) -> bool:
    one.packets.send(packet(one.n, far.n, number))
    try:
        while number_of(data := far.packets.recv(EACH)) != number:
            assert data[12:16] == inner(one.n)
    except TimeoutError:
        return False
    return True


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def strangers() -> Iterator[list[int]]:
    """Descriptors that take the lowest free numbers; nobody may write to one."""
    files = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(64)]
    try:
        yield files
        written = []
        for fd in files:
            try:
                written.append((fd, os.eventfd_read(fd)))
            except BlockingIOError:
                continue
        assert written == []
    finally:
        for fd in files:
            os.close(fd)
