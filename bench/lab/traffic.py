"""Traffic between namespaces: ping, iperf3 and paced, marked UDP flows."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.network import Namespace
from lab.process import LabError, Process, wait_until

__all__ = [
    "FlowReport",
    "Ping",
    "Receiver",
    "Sender",
    "Transfer",
    "iperf3",
    "listens",
    "ping",
]

PORT = 7000  # of marked flows
_FLOW = str(Path(__file__).with_name("flow.py"))


@dataclass(frozen=True, slots=True)
class Ping:
    sent: int
    received: int
    rtts_ms: Sequence[float]

    @property
    def lost(self) -> int:
        return self.sent - self.received

    def percentile_ms(self, percent: int) -> float:
        ordered = sorted(self.rtts_ms)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def ping(
    host: Namespace,
    address: str,
    *,
    count: int = 5,
    interval: float = 0.05,
    size: int = 56,
    wait: int = 2,
) -> Ping:
    """ICMP echo, `size` bytes after its header, never fragmented."""
    done = host.run(
        *("ping", "-n", "-M", "do", "-c", str(count), "-i", str(interval)),
        *("-s", str(size), "-W", str(wait), address),
        check=False,
        timeout=count * interval + wait + 20,
    )
    totals = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    if totals is None:
        raise LabError(f"ping {address}: {done.stdout}{done.stderr}")
    rtts = [float(each) for each in re.findall(r"time=([\d.]+) ms", done.stdout)]
    return Ping(int(totals[1]), int(totals[2]), rtts)


@dataclass(frozen=True, slots=True)
class Transfer:
    """What iperf3 measured at the receiving side."""

    bits_per_second: float
    bytes: int
    packets: int = 0  # UDP only, as are the next two
    lost: int = 0
    retransmits: int = 0  # TCP only
    report: dict[str, Any] = field(default_factory=dict, repr=False)


def iperf3(
    client: Namespace,
    server: Namespace,
    address: str,
    *,
    seconds: float = 2,
    udp_bits_per_second: int | None = None,
    reverse: bool = False,
    parallel: int = 1,
    length: int | None = None,
    port: int = 5201,
) -> Transfer:
    """One run to `address` (of `server`); TCP unless a UDP rate is given."""
    daemon = server.popen("iperf3", "-s", "-1", "-p", str(port), "--forceflush")
    wait_until("iperf3 server", lambda: listens(server, port), timeout=20)
    argv = ["iperf3", "-c", address, "-p", str(port), "-J", "-t", f"{seconds:g}"]
    argv += ["--connect-timeout", "5000", "-P", str(parallel)]
    if udp_bits_per_second is not None:
        argv += ["-u", "-b", str(udp_bits_per_second)]
    if length is not None:
        argv += ["-l", str(length)]
    if reverse:
        argv.append("-R")
    done = client.run(*argv, check=False, timeout=seconds + 30)
    daemon.end()
    try:
        report = json.loads(done.stdout)
    except ValueError as error:
        raise LabError(f"iperf3 {address}: {done.stdout}{done.stderr}") from error
    if "error" in report:
        raise LabError(f"iperf3 {address}: {report['error']}")
    return _transfer(report["end"], report)


def listens(host: Namespace, port: int) -> bool:
    """On TCP; connections that have ended are in the table for a minute, too."""
    rows = Path(f"/proc/{host.pid}/net/tcp6").read_text().splitlines()[1:]
    found = ((row[1], row[3]) for row in map(str.split, rows))
    return any(at.endswith(f":{port:04X}") and state == "0A" for at, state in found)


def _transfer(end: dict[str, Any], report: dict[str, Any]) -> Transfer:
    if "sum_received" in end and "packets" not in end["sum_received"]:
        got = end["sum_received"]
        return Transfer(
            got["bits_per_second"],
            got["bytes"],
            retransmits=end["sum_sent"].get("retransmits", 0),
            report=report,
        )
    got = end.get("sum_received", end["sum"])
    total = end["sum"]
    return Transfer(
        got["bits_per_second"],
        got["bytes"],
        packets=total["packets"],
        lost=total["lost_packets"],
        report=report,
    )


@dataclass(frozen=True, slots=True)
class FlowReport:
    """What a receiver saw of one flow; `arrivals_ns` only when traced."""

    received: int
    duplicated: int
    misrouted: int
    p50_us: float | None
    p99_us: float | None
    max_us: float | None
    longest_gap_s: float
    arrivals_ns: Sequence[int] = ()


def _ready(host: Namespace, argv: Sequence[str]) -> Process:
    """flow.py, once it has its socket."""
    process = host.popen(*argv)

    def ready() -> bool:
        if not process.running:
            raise LabError(process.output())
        return "ready" in process.output()

    wait_until("the flow", ready, timeout=10, interval=0.002)
    return process


class Receiver:
    """Receives marked packets on a port of a namespace until `finish`."""

    def __init__(
        self, host: Namespace, *, port: int = PORT, node: int = 1, trace: bool = False
    ) -> None:
        self.foreign = 0  # packets without a mark
        argv = [sys.executable, _FLOW, "receive", "--port", str(port)]
        argv += ["--node", str(node), *(["--trace"] if trace else [])]
        self._process = _ready(host, argv)

    def finish(self) -> dict[int, FlowReport]:
        """Ends it; the report of every flow of which anything arrived."""
        self._process.signal(signal.SIGTERM)
        if self._process.wait(10):
            raise LabError(self._process.output())
        answer = json.loads(self._process.output().splitlines()[-1])
        self.foreign = answer["foreign"]
        return {int(k): FlowReport(**flow) for k, flow in answer["flows"].items()}


class Sender:
    """Sends marked packets at a steady rate; `source` is an address of `host`.

    `port` and `node` are those of the receiver, `rate` is per second, `size` bytes.
    """

    def __init__(
        self,
        host: Namespace,
        *,
        source: str,
        to: str,
        port: int = PORT,
        node: int = 1,
        flow: int = 1,
        rate: int = 1000,
        count: int,
        size: int = 64,
    ) -> None:
        self.count = count
        self.errors = 0
        self._seconds = count / rate
        numbers = {
            "port": port,
            "node": node,
            "flow": flow,
            "rate": rate,
            "count": count,
            "size": size,
        }
        argv = [sys.executable, _FLOW, "send", "--to", to, "--source", source]
        for name, value in numbers.items():
            argv += [f"--{name}", str(value)]
        self._process = _ready(host, argv)

    @property
    def running(self) -> bool:
        return self._process.running

    def finish(self, *, early: bool = False) -> int:
        """Waits for the end (or ends it); how many packets were sent."""
        if early:
            self._process.signal(signal.SIGTERM)
        if self._process.wait(self._seconds + 20):
            raise LabError(self._process.output())
        answer = json.loads(self._process.output().splitlines()[-1])
        self.errors = answer["errors"]
        return int(answer["sent"])
