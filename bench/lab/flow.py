"""A program that sends, or receives and judges, UDP packets with marked payloads.

Every payload says which flow it belongs to, which node it is for, which address it
was sent from, its number in the flow and when it was sent (CLOCK_MONOTONIC, so both
ends must be on one machine). The receiver can therefore tell lost, duplicated and
misrouted packets apart. Each side prints one JSON object when it ends; SIGTERM ends
it early and orderly. `traffic.Sender` and `traffic.Receiver` drive this.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import signal
import socket
import struct
import time
from dataclasses import dataclass, field
from types import FrameType

__all__ = ["HEADER", "MAGIC", "Pace", "main"]

MAGIC = b"tnl\x01"
HEADER = struct.Struct("!4sIIQQ16s")  # magic, flow, node, number, sent ns, source
DRAIN_S = 0.3  # how long the receiver still listens after SIGTERM
BURST_MS = 20  # of packets that are sent at once, at most
RECEIVE_BUFFER_BYTES = 8 << 20
SO_RCVBUFFORCE = 33


class Stop:
    """Set by SIGTERM."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True


class Pace:
    """When which packet is due. What a sender misses while the machine stands still is
    not made up for in one burst, which no queue would hold: all that follows is later.
    """

    def __init__(self, rate: int, start: int) -> None:
        self._rate = rate
        self._start = start
        self._burst = 1 + rate * BURST_MS // 1000

    def due(self, sent: int, now: int) -> int:
        """How many should have been sent by `now`, in ns: at most a burst more."""
        due = (now - self._start) * self._rate // 1_000_000_000 + 1
        late = max(0, due - sent - self._burst)
        self._start += late * 1_000_000_000 // self._rate
        return due - late


def _packed(address: str) -> bytes:
    """16 bytes, IPv4 in the mapped form."""
    return ipaddress.ip_address(address.removeprefix("::ffff:")).packed.rjust(16, b"\0")


def send(options: argparse.Namespace, stop: Stop) -> dict[str, object]:
    """Sends `count` packets, `rate` per second, without ever falling silent.

    After a standstill it goes on from there (`Pace`)."""
    family = socket.AF_INET6 if ":" in options.to else socket.AF_INET
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.bind((options.source, 0))
    print("ready", flush=True)
    source, target = _packed(options.source), (options.to, options.port)
    padding = b"\xa5" * max(0, options.size - HEADER.size)
    sent = errors = 0
    start = time.monotonic_ns()
    pace = Pace(options.rate, start)
    while sent < options.count and not stop.asked:
        due = pace.due(sent, time.monotonic_ns())
        for number in range(sent, min(due, options.count)):
            mark = (MAGIC, options.flow, options.node, number)
            head = HEADER.pack(*mark, time.monotonic_ns(), source)
            try:
                sender.sendto(head + padding, target)
            except OSError:  # an interface that is gone for a while
                errors += 1
            sent += 1
        time.sleep(0.0005)
    seconds = (time.monotonic_ns() - start) / 1e9
    return {"sent": sent, "errors": errors, "seconds": seconds}


@dataclass(slots=True)
class Seen:
    """What arrived of one flow."""

    numbers: set[int] = field(default_factory=set)
    duplicated: int = 0
    misrouted: int = 0
    latencies: list[int] = field(default_factory=list)
    arrivals: list[int] = field(default_factory=list)

    def add(self, number: int, sent: int, now: int) -> None:
        if number in self.numbers:
            self.duplicated += 1
            return
        self.numbers.add(number)
        self.latencies.append(now - sent)
        self.arrivals.append(now)

    def report(self, trace: bool) -> dict[str, object]:
        ordered = sorted(self.latencies)
        later = zip(self.arrivals[1:], self.arrivals, strict=False)
        found: dict[str, object] = {
            "received": len(self.numbers),
            "duplicated": self.duplicated,
            "misrouted": self.misrouted,
            "p50_us": ordered[len(ordered) // 2] / 1e3 if ordered else None,
            "p99_us": ordered[len(ordered) * 99 // 100] / 1e3 if ordered else None,
            "max_us": ordered[-1] / 1e3 if ordered else None,
            "longest_gap_s": max((a - b for a, b in later), default=0) / 1e9,
        }
        if trace:
            found["arrivals_ns"] = self.arrivals
        return found


def receive(options: argparse.Namespace, stop: Stop) -> dict[str, object]:
    """Receives until SIGTERM (and a little longer); a report per flow."""
    receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    with contextlib.suppress(OSError):
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    receiver.bind(("::", options.port))
    receiver.settimeout(0.05)
    print("ready", flush=True)
    flows: dict[int, Seen] = {}
    foreign = 0
    deadline: float | None = None
    while deadline is None or time.monotonic() < deadline:
        if stop.asked and deadline is None:
            deadline = time.monotonic() + DRAIN_S
        try:
            data, address = receiver.recvfrom(65535)
        except TimeoutError:
            continue
        now = time.monotonic_ns()
        if len(data) < HEADER.size or not data.startswith(MAGIC):
            foreign += 1
            continue
        _, flow, node, number, sent, source = HEADER.unpack_from(data)
        seen = flows.setdefault(flow, Seen())
        if node != options.node or source != _packed(address[0]):
            seen.misrouted += 1
        seen.add(number, sent, now)
    reports = {flow: seen.report(options.trace) for flow, seen in flows.items()}
    return {"flows": reports, "foreign": foreign}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    side = parser.add_subparsers(dest="side", required=True)
    sender = side.add_parser("send")
    sender.add_argument("--to", required=True)
    sender.add_argument("--source", required=True, help="address to send from")
    sender.add_argument("--flow", type=int, default=1)
    sender.add_argument("--rate", type=int, default=1000, help="packets per second")
    sender.add_argument("--count", type=int, required=True)
    sender.add_argument("--size", type=int, default=HEADER.size, help="payload bytes")
    receiver = side.add_parser("receive")
    receiver.add_argument("--trace", action="store_true", help="all arrival times")
    for each in (sender, receiver):
        each.add_argument("--port", type=int, required=True)
        each.add_argument("--node", type=int, default=1, help="id of the receiver")
    options = parser.parse_args()
    work = send if options.side == "send" else receive
    print(json.dumps(work(options, Stop())), flush=True)


if __name__ == "__main__":
    main()
