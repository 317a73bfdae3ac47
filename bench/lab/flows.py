"""Many marked flows across many namespaces from one process: `send` or `receive`.

    python flows.py send|receive SPECIFICATION

The specification is a JSON file: `rate` packets per second and flow, `count` of each,
`size` in bytes, `port`, and `flows`, each with the `flow`'s number, the `node` it is
for, the `source` and `target` addresses, and the processes `near` and `far` whose
network the two ends are in. One process can be everywhere, because a socket stays in
the network it was made in; so the machine is not kept busy by the measuring itself.

A packet carries what `flow.py` says. Latency is from just before the send to the
kernel's receive stamp (SO_TIMESTAMPNS), so that it does not include the receiver's
own queue; it comes out as a histogram in microseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import select
import socket
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

# run by its path: the directory of this file is not a package then
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.flow import DRAIN_S, HEADER, MAGIC, SO_RCVBUFFORCE, Pace, Stop, _packed

__all__ = ["main"]

BUFFER_BYTES = 32 << 20
CLONE_NEWNET = 0x40000000
SO_TIMESTAMPNS = 35
CONTROL_BYTES = 64
TICK_S = 0.0005
STAMP = struct.Struct("@qq")


def socket_in(pid: int, family: int) -> socket.socket:
    """A UDP socket in the network of process `pid`."""
    made: list[socket.socket] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def inside() -> None:
        with Path(f"/proc/{pid}/ns/net").open("rb") as net:
            if libc.setns(net.fileno(), CLONE_NEWNET) == 0:
                made.append(socket.socket(family, socket.SOCK_DGRAM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if not made:
        raise OSError(f"no socket in the network of process {pid}")
    return made[0]


class Outgoing:
    """One flow's sending end."""

    def __init__(self, spec: dict[str, Any], port: int, size: int) -> None:
        family = socket.AF_INET6 if ":" in spec["source"] else socket.AF_INET
        self.socket = socket_in(spec["near"], family)
        self.socket.bind((spec["source"], 0))
        self.socket.connect((spec["target"], port))
        self.socket.setblocking(False)
        self.mark = (MAGIC, spec["flow"], spec["node"])
        self.source = _packed(spec["source"])
        self.padding = b"\xa5" * max(0, size - HEADER.size)
        self.errors = 0

    def send(self, number: int) -> None:
        head = HEADER.pack(*self.mark, number, time.time_ns(), self.source)
        try:
            self.socket.send(head + self.padding)
        except OSError:
            self.errors += 1


def send(spec: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """One packet of every flow in turn, `rate` turns per second (see `Pace`)."""
    flows = [Outgoing(flow, spec["port"], spec["size"]) for flow in spec["flows"]]
    print("ready", flush=True)
    sent, start = 0, time.monotonic_ns()
    pace = Pace(spec["rate"], start)
    while sent < spec["count"] and not stop.asked:
        due = pace.due(sent, time.monotonic_ns())
        for number in range(sent, min(due, spec["count"])):
            for flow in flows:
                flow.send(number)
            sent += 1
        time.sleep(TICK_S)
    return {
        "sent": sent,
        "errors": sum(flow.errors for flow in flows),
        "seconds": (time.monotonic_ns() - start) / 1e9,
    }


class Seen:
    """What arrived of one flow; the numbers as a bitmap."""

    def __init__(self, count: int) -> None:
        self.arrived = bytearray(count)
        self.duplicated = self.misrouted = self.reordered = 0
        self.last = -1
        self.latencies: Counter[int] = Counter()

    def report(self) -> dict[str, Any]:
        return {
            "received": sum(self.arrived),
            "duplicated": self.duplicated,
            "misrouted": self.misrouted,
            "reordered": self.reordered,
            "latency_us": dict(sorted(self.latencies.items())),
        }


class Incoming:
    """One namespace's receiving end, for every flow to its node."""

    def __init__(self, pid: int, node: int, port: int, flows: dict[int, Seen]) -> None:
        self.node = node
        self.flows = flows
        self.foreign = 0
        self.socket = socket_in(pid, socket.AF_INET6)
        options = self.socket
        options.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        options.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        with contextlib.suppress(OSError):
            options.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        options.bind(("::", port))
        options.setblocking(False)

    def drain(self) -> None:
        receive = self.socket.recvmsg
        with contextlib.suppress(BlockingIOError):
            while True:
                data, control, _, address = receive(2048, CONTROL_BYTES)
                seconds, nanoseconds = STAMP.unpack_from(control[0][2])
                self.take(data, seconds * 1_000_000_000 + nanoseconds, address[0])

    def take(self, data: bytes, now: int, address: str) -> None:
        if len(data) < HEADER.size or not data.startswith(MAGIC):
            self.foreign += 1
            return
        _, flow, node, number, sent, source = HEADER.unpack_from(data)
        seen = self.flows[flow]
        if node != self.node or source != _packed(address):
            seen.misrouted += 1
        seen.reordered += number < seen.last
        seen.last = number
        if seen.arrived[number]:
            seen.duplicated += 1
        else:
            seen.arrived[number] = 1
            seen.latencies[(now - sent) // 1000] += 1


def receive(spec: dict[str, Any], stop: Stop) -> dict[str, Any]:
    """Until SIGTERM and a little longer; a report per flow."""
    flows = {flow["flow"]: Seen(spec["count"]) for flow in spec["flows"]}
    ends: dict[int, Incoming] = {}
    for pid, node in {(flow["far"], flow["node"]) for flow in spec["flows"]}:
        end = Incoming(pid, node, spec["port"], flows)
        ends[end.socket.fileno()] = end
    poll = select.epoll()
    for fd in ends:
        poll.register(fd, select.EPOLLIN)
    print("ready", flush=True)
    deadline: float | None = None
    while deadline is None or time.monotonic() < deadline:
        if stop.asked and deadline is None:
            deadline = time.monotonic() + DRAIN_S
        for fd, _ in poll.poll(0.05):
            ends[fd].drain()
    return {
        "flows": {number: seen.report() for number, seen in flows.items()},
        "foreign": sum(end.foreign for end in ends.values()),
    }


def main() -> None:
    spec = json.loads(Path(sys.argv[2]).read_text())
    work = {"send": send, "receive": receive}[sys.argv[1]]
    print(json.dumps(work(spec, Stop())), flush=True)


if __name__ == "__main__":
    main()
