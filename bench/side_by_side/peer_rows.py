"""Rows about peers rather than packets: what a handshake costs, and what peers cost
that are only there.

Each is a function of an engine; it returns the samples of one round.
"""

from __future__ import annotations

import socket
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lab.engines import Engine, EngineKind, Identity, PeerConfig
from lab.network import Lab, Namespace
from lab.process import LabError
from lab.usage import cpu_ns

from side_by_side.callers import Caller, call_all, confirm_all, make_callers
from side_by_side.figures import Figure, Samples

__all__ = ["PEER_FIGURES", "PEER_ROWS"]

PORT = 51820
CALLERS = 2000
CONNECTED = 1000
KEEPALIVE_S = 25
SETTLE_S = 1.0
IDLE_S = 8.0
# All clients have one address here; it gives each peer a socket connected to its own.
_EXTRA = {"boringtun": ("--disable-connected-udp",)}


@dataclass(slots=True)
class Hub:
    """An engine that knows every caller, and a socket connected to it."""

    engine: Engine
    identity: Identity
    clients: Namespace
    sock: socket.socket
    resident_before: int  # running, with its key, without peers

    @property
    def public_key(self) -> bytes:
        return b64decode(self.identity.public_key)

    def configure(self, callers: Sequence[Caller], *, keepalive: int = 0) -> None:
        peers = [
            PeerConfig(
                caller.public_key,
                [f"10.{100 + (number >> 8)}.{number & 255}.1/32"],
                keepalive=keepalive,
            )
            for number, caller in enumerate(callers)
        ]
        self.engine.setconf(self.identity, peers, listen_port=PORT)


@contextmanager
def hub(kind: EngineKind) -> Iterator[Hub]:
    with Lab("clients", "hub") as (clients, host):
        identity = Identity.new()
        argv = (*kind.argv, *_EXTRA.get(kind.name, ()))
        engine = Engine(replace(kind, argv=argv), host)
        engine.setconf(identity, [], listen_port=PORT)
        engine.addresses("10.77.0.1/24")
        with clients.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((host.ipv4, PORT))
            before = engine.process.resident_bytes()
            yield Hub(engine, identity, clients, sock, before)


def handshakes(kind: EngineKind) -> Samples:
    """As the responder: 2,000 clients call once each, 32 of them at a time."""
    with hub(kind) as found:
        callers = make_callers(CALLERS, found.public_key)
        found.configure(callers)
        used = cpu_ns(found.engine.process)
        calls = call_all(callers, found.sock, found.public_key)
        used = cpu_ns(found.engine.process) - used
    if not calls.answered:
        raise LabError(f"{kind.name} answered nobody")
    return {
        "handshakes.rate": calls.answered / calls.seconds,
        "handshakes.cpu": used / calls.answered / 1e3,
        "handshakes.answered": 100 * calls.answered / CALLERS,
        "handshakes.cookies": float(calls.cookies),
    }


def idle_peers(kind: EngineKind) -> Samples:
    """1,000 connected peers, each sent a keepalive every 25 s, and nothing else."""
    with hub(kind) as found:
        callers = make_callers(CONNECTED, found.public_key)
        found.configure(callers, keepalive=KEEPALIVE_S)
        call_all(callers, found.sock, found.public_key, persist=True)
        connected = confirm_all(callers, found.sock)
        if connected < CONNECTED:
            raise LabError(f"{kind.name}: {connected} of {CONNECTED} are connected")
        time.sleep(SETTLE_S)
        used, start = cpu_ns(found.engine.process), time.monotonic()
        time.sleep(IDLE_S)
        used = cpu_ns(found.engine.process) - used
        seconds = time.monotonic() - start
        resident = found.engine.process.resident_bytes()
    return {
        "idle.cpu": used / seconds / 1e7,  # ns per s -> percent
        "idle.memory": resident / 1e6,
        "idle.per_peer": (resident - found.resident_before) / CONNECTED / 1e3,
    }


PEER_ROWS: dict[str, Callable[[EngineKind], Samples]] = {
    "handshakes": handshakes,
    "idle": idle_peers,
}

PEER_FIGURES = (
    Figure("handshakes.rate", "handshakes answered", "1/s"),
    Figure("handshakes.cpu", "CPU per handshake", "us", more_is_better=False),
    Figure("handshakes.answered", "clients answered at once", "%"),
    Figure("idle.cpu", "CPU, 1000 idle peers", "%", 3, more_is_better=False),
    Figure("idle.memory", "memory, 1000 idle peers", "MB", 1, more_is_better=False),
    Figure("idle.per_peer", "memory per peer", "kB", 1, more_is_better=False),
)
