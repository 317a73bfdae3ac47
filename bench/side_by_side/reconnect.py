"""Ten thousand peers come back at once, while another one's traffic goes on.

Three hosts on one Ethernet: `hub`, whose engine is measured, `far`, an established peer
that sends it a stream through the tunnel, and `clients`, where everybody else is
(storm.py). All of them call at the same moment. The stream's rate is read off the hub's
interface, before and while they come back.
"""

from __future__ import annotations

import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from lab.engines import Engine, EngineKind, Identity, PeerConfig
from lab.native import BENCH, compiled
from lab.network import Lab, Namespace
from lab.process import LabError
from lab.traffic import ping

from side_by_side.clients import INSIDE, OUTSIDE, Client, make_clients
from side_by_side.figures import Figure, Samples
from side_by_side.storm import Storm

__all__ = ["RECONNECT_FIGURES", "Meter", "reconnect"]

CLIENTS = 10_000
PORT = 51820
WITHIN_S = 30.0
CONFIRM_S = 10.0
RAMP_S = 1.5  # of the stream, before its rate counts
BEFORE_S = 2.0
STREAM_S = 120  # more than all the rest takes
STREAM_PORT = 7200
DATAGRAM_BYTES = 1390
PACED = 20_000  # datagrams per second: what every engine can carry
TICK_S = 0.01
LEAST_S = 5 * TICK_S  # shorter times have too few samples for a rate


@dataclass(slots=True)
class Meter:
    """Bytes that an interface handed to its system, sampled in a thread."""

    host: Namespace
    interface: str
    samples: list[tuple[float, int]] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def _bytes(self) -> int:
        for line in Path(f"/proc/{self.host.pid}/net/dev").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name.strip() == self.interface:
                return int(rest.split()[0])
        raise LabError(f"{self.interface} is gone")

    def _sample(self) -> None:
        while not self._done.wait(TICK_S):
            self.samples.append((time.perf_counter(), self._bytes()))

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def rate(self, start: float, end: float) -> float:
        """Bytes per second between two times (time.perf_counter)."""
        return rate_between(self.samples, start, end)

    def longest_gap(self, start: float, end: float) -> float:
        """The longest time without a byte, in seconds."""
        return longest_gap(self.samples, start, end)


def rate_between(samples: list[tuple[float, int]], start: float, end: float) -> float:
    inside = [each for each in samples if start <= each[0] <= end]
    if len(inside) < 2:
        raise LabError("the stream was looked at too rarely")
    (first, low), (last, high) = inside[0], inside[-1]
    return (high - low) / (last - first)


def longest_gap(samples: list[tuple[float, int]], start: float, end: float) -> float:
    longest, since, known = 0.0, start, -1
    for when, count in samples:
        if start <= when <= end and count != known:
            longest = max(longest, when - since)
            since, known = when, count
    return max(longest, end - since)


@cache
def prepared(count: int) -> tuple[Identity, list[Client]]:
    """A hub's identity and its clients: made once, for every engine and round."""
    identity = Identity.new()
    return identity, make_clients(count, b64decode(identity.public_key))


def fresh(clients: list[Client]) -> list[Client]:
    for client in clients:
        client.caller.response = client.cookie = b""
        client.caller.attempts = 0
        client.echoed = False
    return clients


@dataclass(slots=True)
class Office:
    clients: Namespace
    hub: Engine
    far: Engine
    inside: str  # the hub's address in the tunnel


@contextmanager
def office(
    kind: EngineKind, identity: Identity, clients: list[Client]
) -> Iterator[Office]:
    """Configured, with a session between hub and far."""
    with Lab("clients", "hub", "far") as (outside, host, far):
        hub, other = Engine(kind, host), Engine(kind, far)
        theirs = Identity.new()
        peers = [
            PeerConfig(client.caller.public_key, [f"{client.inside}/32"])
            for client in clients
        ]
        peers.append(PeerConfig(theirs.public_key, ["10.77.0.3/32"]))
        hub.setconf(identity, peers, listen_port=PORT)
        hub.addresses("10.77.0.1/24")
        host.ip("route", "add", INSIDE, "dev", hub.interface)
        host.ip("route", "add", OUTSIDE, "via", outside.ipv4)
        server = PeerConfig(
            identity.public_key, ["10.77.0.0/24"], f"{host.ipv4}:{PORT}"
        )
        other.setconf(theirs, [server])
        other.addresses("10.77.0.3/24")
        if ping(far, "10.77.0.1", count=10).lost == 10:
            raise LabError(f"{kind.name}: no session before the storm")
        yield Office(outside, hub, other, "10.77.0.1")


@contextmanager
def stream(found: Office, saturating: bool) -> Iterator[None]:
    """From far to hub: datagrams at a steady rate, or TCP as fast as it goes."""
    near, far = found.far.host, found.hub.host
    program = str(compiled(BENCH / "lab" / "rate.c"))
    if saturating:
        receiver, sender = ("iperf3", "-s", "-1"), ("iperf3", "-c", found.inside)
        sender += ("-t", str(STREAM_S))
    else:
        numbers = map(str, (STREAM_PORT, DATAGRAM_BYTES, PACED, STREAM_S * 1000))
        receiver = (program, "receive", str(STREAM_PORT))
        sender = (program, "send", found.inside, *numbers)
    with ExitStack() as stack:
        stack.callback(far.popen(*receiver).end)
        time.sleep(0.3)
        client = near.popen(*sender)
        stack.callback(client.end)
        yield
        if not client.running:
            raise LabError(f"the stream ended: {client.output()}")


def reconnect(
    kind: EngineKind, count: int = CLIENTS, *, saturating: bool = False
) -> Samples:
    """All of them call at once; see RECONNECT_FIGURES."""
    identity, clients = prepared(count)
    with office(kind, identity, fresh(clients)) as found, ExitStack() as stack:
        server = (found.hub.host.ipv4, PORT)
        public = b64decode(identity.public_key)
        storm = Storm(clients, server, public, found.clients)
        stack.callback(storm.close)
        meter = stack.enter_context(Meter(found.hub.host, found.hub.interface))
        stack.enter_context(stream(found, saturating))
        time.sleep(RAMP_S + BEFORE_S)
        return judged(storm, meter, found.inside)


def judged(storm: Storm, meter: Meter, target: str) -> Samples:
    """Lets them call, then confirm, beside a stream that has its rate by now."""
    count, start = len(storm.clients), time.perf_counter()
    seconds = storm.run(WITHIN_S)
    if storm.answered < count:
        return {"reconnect.answered": 100 * storm.answered / count}
    sessions, confirming = storm.sessions(), time.perf_counter()
    confirmed = storm.confirm(sessions, target, CONFIRM_S)
    time.sleep(LEAST_S)
    before = meter.rate(start - BEFORE_S, start)

    def share(since: float, until: float) -> float:
        return 100 * meter.rate(since, max(until, since + LEAST_S)) / before

    return {
        "reconnect.answered": 100.0,
        "reconnect.nearly": storm.nearly - start,
        "reconnect.seconds": seconds,
        "reconnect.total": seconds + confirmed,
        "reconnect.echoed": 100 * storm.echoed / count,
        "reconnect.cookies": float(storm.cookies),
        "reconnect.calls": storm.calls / count,
        "reconnect.before": before * 8 / 1e6,
        "reconnect.share": share(start, storm.nearly),
        "reconnect.confirming": share(confirming, confirming + confirmed),
        "reconnect.gap": 1e3 * meter.longest_gap(start, start + seconds),
    }


RECONNECT_FIGURES = (
    Figure("reconnect.answered", "peers with a response", "%", 1),
    Figure("reconnect.nearly", "until 98 % have one", "s", 2, more_is_better=False),
    Figure("reconnect.seconds", "until all have one", "s", 2, more_is_better=False),
    Figure("reconnect.total", "until all are heard", "s", 2, more_is_better=False),
    Figure("reconnect.echoed", "peers that are heard", "%", 1),
    Figure("reconnect.calls", "initiations per peer", "", 2, more_is_better=False),
    Figure("reconnect.cookies", "cookies", "", 0, more_is_better=False),
    Figure("reconnect.before", "stream before", "Mbit/s"),
    Figure("reconnect.share", "stream until 98 %, of before", "%", 0),
    Figure("reconnect.confirming", "stream at their first packets", "%", 0),
    Figure("reconnect.gap", "its longest silence", "ms", 0, more_is_better=False),
)
