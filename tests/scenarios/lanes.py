"""Engines of this process in network namespaces, so that a test can look at them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lab.network import Lab, Namespace
from lab.process import wait_until
from lab.streams import Stream

from tunnel.engine import Engine
from tunnel.protocol.primitives import PrivateKey
from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Secret,
    canonical_prefixes,
    clamp,
)

T = TypeVar("T")
PORT = 51820


def packed(text: str) -> bytes:
    return bytes(map(int, text.split(".")))


class Member:
    """A tunnel with several workers; its engine runs in a thread in its namespace."""

    def __init__(self, host: Namespace, workers: int, seed: bytes) -> None:
        self.host = host
        self.secret = Secret(clamp(seed))
        self.public = PrivateKey(self.secret.reveal()).public
        interface = InterfaceState(name="wg0", workers=workers)
        self.state = DeviceState(
            private_key=self.secret, listen_port=PORT, interface=interface
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: host.call(self._run))
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        try:
            self.engine = Engine(self.state.interface)
            self.engine.start(None)
        finally:
            self._ready.set()
        try:
            self.engine.run()
        finally:
            self.engine.close()

    def close(self) -> None:
        self.engine.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def call(self, function: Callable[[Engine], T]) -> T:
        return self.engine.submit(lambda: function(self.engine)).result(20)

    def change(self, **fields: object) -> None:
        """Plans and applies the state with these fields replaced."""
        self.state = replace(self.state, **fields)  # type: ignore[arg-type]
        wanted = replace(
            self.state,
            interface=replace(
                self.state.interface,
                name=self.engine.tun.name,
                mtu=self.engine.device.state.interface.mtu,
            ),
        )
        self.call(lambda engine: engine.apply(engine.plan(wanted)))

    def counters(self) -> dict[str, int]:
        """With what the batches that are under way have done."""

        def settled(engine: Engine) -> dict[str, int]:
            engine.device.pump.settle()
            return dict(engine.device.pump.counters())

        return self.call(settled)

    def drops(self) -> dict[str, int]:
        """But for what the system itself sends to addresses that nobody has."""
        found = self.counters()
        found.pop("drop.tx_no_route")
        return {n: c for n, c in found.items() if c and n.startswith("drop.")}


class Star:
    """A hub with clients; client `n` has 10.77.n.1 and 10.77.n.2 inside."""

    def __init__(self, hub: Member, clients: Sequence[Member]) -> None:
        self.hub = hub
        self.clients = clients

    def inside(self, member: Member) -> tuple[str, str]:
        number = member.host.number
        return f"10.77.{number}.1", f"10.77.{number}.2"

    def peer(self, member: Member, **fields: object) -> PeerState:
        known = [(packed(a), 32) for a in self.inside(member)]
        if member is self.hub:
            known = [(packed("10.77.0.0"), 16)]
        state = PeerState(
            member.public,
            endpoint=(packed(member.host.ipv4), PORT, 0),
            allowed_ips=canonical_prefixes(known),
        )
        return replace(state, **fields)  # type: ignore[arg-type]

    def connect(self) -> None:
        for member in (self.hub, *self.clients):
            others = self.clients if member is self.hub else [self.hub]
            member.change(peers={m.public: self.peer(m) for m in others})
            for address in self.inside(member):
                member.host.ip("address", "add", f"{address}/16", "dev", "wg0")
            member.host.ip("link", "set", "wg0", "up")
        for member in (self.hub, *self.clients):
            wait_until("the port", lambda m=member: m.engine.device.up, timeout=10)

    def streams(self, each: int) -> list[Stream]:
        """`each` flows from the hub to every client and as many back."""
        found = []
        for client in self.clients:
            ends = [self.hub, client]
            for n in range(each):
                for near, far in (ends, reversed(ends)):
                    source = self.inside(near)[n % 2]
                    target = self.inside(far)[n // 2 % 2]
                    node = far.host.number
                    found.append(Stream(near.host, source, far.host, target, node))
        return found


@contextmanager
def star(workers: int, clients: int) -> Iterator[Star]:
    """Connected; the hub and its first client have `workers`, the others one."""
    names = ["hub", *(f"client{n}" for n in range(1, clients + 1))]
    with Lab(*names) as lab, ExitStack() as stack:
        members = []
        for n, host in enumerate(lab):
            count = workers if n < 2 else 1
            members.append(Member(host, count, bytes([n + 1]) * 32))
            stack.callback(members[-1].close)
        found = Star(members[0], members[1:])
        found.connect()
        yield found


def voluntary_switches(threads: Sequence[int]) -> int:
    """How often these threads of this process have gone to sleep."""
    total = 0
    for number in threads:
        for line in Path(f"/proc/self/task/{number}/status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total
