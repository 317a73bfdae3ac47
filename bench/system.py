"""Compares whole engines side by side on this machine; needs root.

    python bench/system.py --rounds 3 --engines ours,wireguard-go --seconds 3

Every engine tunnels between two network namespaces, against itself. Rounds alternate:
in each one every engine has its turn, first a different one each time, so that drift
of the machine meets all of them. What counts is the ratio to the reference engine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.engines import ENGINES, EngineKind, engine_kind
from lab.pair import Pair, tunnel_pair
from lab.process import LabError, run
from lab.report import RESULTS, environment, percentile, save, table
from lab.requirements import missing
from lab.traffic import iperf3, ping

REFERENCE = "wireguard-go"
PINGS = 200
PING_INTERVAL_S = 0.005


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: samples of all rounds become one number in `unit`."""

    name: str
    unit: str
    key: str  # of the samples
    reduce: Callable[[Sequence[float]], float]
    scale: float = 1.0  # from the unit of the samples to `unit`


@dataclass(frozen=True, slots=True)
class Measure:
    """Something that is done once a round; returns samples by key."""

    run: Callable[[Pair, float], dict[str, list[float]]]
    figures: tuple[Figure, ...]


def tcp_one_stream(pair: Pair, seconds: float) -> dict[str, list[float]]:
    done = iperf3(pair.left.host, pair.right.host, pair.right.ipv4, seconds=seconds)
    return {"tcp_1_bits_per_second": [done.bits_per_second]}


def idle_round_trips(pair: Pair, seconds: float) -> dict[str, list[float]]:
    del seconds
    host, address = pair.left.host, pair.right.ipv4
    done = ping(host, address, count=PINGS, interval=PING_INTERVAL_S)
    return {"idle_rtt_ms": list(done.rtts_ms)}


def median_of(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def percentile_of(percent: float) -> Callable[[Sequence[float]], float]:
    return lambda samples: percentile(samples, percent)


TCP = Figure("TCP, 1 stream", "Mbit/s", "tcp_1_bits_per_second", median_of, 1e-6)
RTT_P50 = Figure("idle RTT p50", "us", "idle_rtt_ms", percentile_of(50), 1e3)
RTT_P99 = Figure("idle RTT p99", "us", "idle_rtt_ms", percentile_of(99), 1e3)

MEASURES = (
    Measure(tcp_one_stream, (TCP,)),
    Measure(idle_round_trips, (RTT_P50, RTT_P99)),
)


@dataclass(slots=True)
class Result:
    """All samples of one engine."""

    kind: EngineKind
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: dict[str, list[float]]) -> None:
        for key, values in found.items():
            self.samples.setdefault(key, []).extend(values)

    def value(self, figure: Figure) -> float:
        return figure.reduce(self.samples[figure.key]) * figure.scale


def version_of(kind: EngineKind) -> str:
    """The first line of what the program says about itself."""
    done = run([*kind.argv[:-1], "--version"], check=False, timeout=10)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else ""


def one_turn(result: Result, seconds: float) -> None:
    with tunnel_pair(result.kind, result.kind) as pair:
        if ping(pair.left.host, pair.right.ipv4, count=10, interval=0.01).lost:
            raise LabError(
                f"{result.kind.name}: packets are lost before anything began"
            )
        for measure in MEASURES:
            result.add(measure.run(pair, seconds))


def compare(kinds: Sequence[EngineKind], rounds: int, seconds: float) -> list[Result]:
    results = [Result(kind) for kind in kinds]
    for number in range(rounds):
        start = number % len(results)
        for result in results[start:] + results[:start]:
            print(
                f"round {number + 1} of {rounds}: {result.kind.name}", file=sys.stderr
            )
            one_turn(result, seconds)
    return results


def figures() -> Iterator[Figure]:
    for measure in MEASURES:
        yield from measure.figures


def ratio(result: Result, reference: Result | None, figure: Figure) -> float | None:
    if reference is None:
        return None
    return result.value(figure) / reference.value(figure)


def rows(results: Sequence[Result], reference: Result | None) -> Iterator[list[str]]:
    for figure in figures():
        for result in results:
            factor = ratio(result, reference, figure)
            yield [
                f"{figure.name} [{figure.unit}]",
                result.kind.name,
                f"{result.value(figure):,.0f}",
                "" if factor is None else f"{factor:.2f}",
            ]


def described(result: Result, reference: Result | None) -> dict[str, Any]:
    return {
        "version": version_of(result.kind),
        "figures": {
            figure.name: {
                "unit": figure.unit,
                "value": result.value(figure),
                "ratio": ratio(result, reference, figure),
            }
            for figure in figures()
        },
        "samples": result.samples,
    }


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of each stream")
    parser.add_argument(
        "--engines",
        default=f"ours,{REFERENCE}",
        help=f"separated by commas, of: {', '.join(ENGINES)}",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory")
    chosen = parser.parse_args()
    chosen.engines = chosen.engines.split(",")
    if unknown := set(chosen.engines) - set(ENGINES):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("at least one round and one second")
    return chosen


def main() -> int:
    chosen = options()
    if reasons := missing():
        print("\n".join(reasons), file=sys.stderr)
        return 1
    where = environment()
    try:
        kinds = [engine_kind(name) for name in chosen.engines]
        results = compare(kinds, chosen.rounds, chosen.seconds)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    reference = next((r for r in results if r.kind.name == REFERENCE), None)
    head = ["", "engine", "value", f"x {REFERENCE}"]
    print(table(head, rows(results, reference)))
    report = {
        "environment": where,
        "rounds": chosen.rounds,
        "seconds": chosen.seconds,
        "reference": REFERENCE,
        "engines": {r.kind.name: described(r, reference) for r in results},
    }
    print(f"\n{save('system', report, chosen.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
