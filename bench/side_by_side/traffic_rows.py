"""Rows that send traffic through a tunnel between two hosts.

Every row is a function of a rig and of how long a stream lasts; it returns the samples
of one round.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from lab.process import LabError
from lab.rate import lossless_rate
from lab.rigs import Rig
from lab.traffic import Transfer, iperf3, ping
from lab.usage import Usage

from side_by_side.figures import Figure, Samples

__all__ = ["TRAFFIC_FIGURES", "TRAFFIC_ROWS", "Row"]

Row = Callable[[Rig, float], Samples]

IDLE_PINGS = 500
IDLE_INTERVAL_S = 0.003
LOADED_INTERVAL_S = 0.005
HEAD_START_S = 0.3  # of the load before the first echo request
TRIAL_S = 0.3  # of one rate in a search


def _transfer(rig: Rig, seconds: float, streams: int, back: bool) -> Transfer:
    return iperf3(
        rig.left.host,
        rig.right.host,
        rig.right.address,
        seconds=seconds,
        parallel=streams,
        reverse=back,
    )


def _tcp(key: str, streams: int, back: bool = False) -> Row:
    def measure(rig: Rig, seconds: float) -> Samples:
        with Usage(rig.processes) as usage:
            done = _transfer(rig, seconds, streams, back)
        found = {key: done.bits_per_second / 1e6}
        if rig.processes:
            found[f"{key}.cpu"] = usage.cpu_seconds / (done.bytes / 1e9)
            found[f"{key}.memory"] = usage.resident_bytes / 1e6
        return found

    return measure


def idle_round_trips(rig: Rig, seconds: float) -> Samples:
    found = ping(
        rig.left.host, rig.right.address, count=IDLE_PINGS, interval=IDLE_INTERVAL_S
    )
    return {
        "rtt.p50": found.percentile_ms(50) * 1e3,
        "rtt.p99": found.percentile_ms(99) * 1e3,
    }


def loaded_round_trips(rig: Rig, seconds: float) -> Samples:
    """Echo requests beside one TCP stream in the same direction."""
    failures: list[LabError] = []

    def load() -> None:
        try:
            _transfer(rig, seconds + 2 * HEAD_START_S, 1, back=False)
        except LabError as error:
            failures.append(error)

    stream = threading.Thread(target=load)
    stream.start()
    try:
        stream.join(HEAD_START_S)
        found = ping(
            rig.left.host,
            rig.right.address,
            count=round(seconds / LOADED_INTERVAL_S),
            interval=LOADED_INTERVAL_S,
        )
    finally:
        stream.join()
    if failures:
        raise failures[0]
    if not found.received:
        raise LabError("no echo reply came back under load")
    return {
        "loaded.p50": found.percentile_ms(50) * 1e3,
        "loaded.p99": found.percentile_ms(99) * 1e3,
        "loaded.lost": 100 * found.lost / found.sent,
    }


def _udp(key: str, size: int) -> Row:
    def measure(rig: Rig, seconds: float) -> Samples:
        rate = lossless_rate(
            rig.left.host, rig.right.host, rig.right.address, size=size, seconds=TRIAL_S
        )
        return {key: rate / 1e3}

    return measure


TRAFFIC_ROWS: dict[str, Row] = {
    "tcp1": _tcp("tcp1", 1),
    "tcp1-back": _tcp("tcp1-back", 1, back=True),
    "tcp4": _tcp("tcp4", 4),
    "tcp4-back": _tcp("tcp4-back", 4, back=True),
    "udp64": _udp("udp64", 64),
    "udp1390": _udp("udp1390", 1390),
    "rtt": idle_round_trips,
    "loaded": loaded_round_trips,
}

TRAFFIC_FIGURES = (
    Figure("tcp1", "TCP, 1 stream", "Mbit/s"),
    Figure("tcp1-back", "TCP, 1 stream, other way", "Mbit/s"),
    Figure("tcp4", "TCP, 4 streams", "Mbit/s"),
    Figure("tcp4-back", "TCP, 4 streams, other way", "Mbit/s"),
    Figure("udp64", "UDP 64 B, lossless", "kpps", 1),
    Figure("udp1390", "UDP 1390 B, lossless", "kpps", 1),
    Figure("rtt.p50", "round trip, idle, p50", "us", more_is_better=False),
    Figure("rtt.p99", "round trip, idle, p99", "us", more_is_better=False),
    Figure("loaded.p50", "round trip beside TCP, p50", "us", more_is_better=False),
    Figure("loaded.p99", "round trip beside TCP, p99", "us", more_is_better=False),
    Figure("loaded.lost", "echoes lost beside TCP", "%", 1, more_is_better=False),
    Figure("tcp1.cpu", "CPU of both ends, TCP 1", "s/GB", 2, more_is_better=False),
    Figure("tcp4.cpu", "CPU of both ends, TCP 4", "s/GB", 2, more_is_better=False),
    Figure("tcp4.memory", "memory under load (TCP 4)", "MB", 1, more_is_better=False),
)
