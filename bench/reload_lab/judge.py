"""The targets, and which of them the figures meet.

A target is about one number of a finished measure. What is compared with another
engine is compared with that engine in the same run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab.report import percentile

from reload_lab.scale import Scale

__all__ = ["Verdict", "judge", "rows"]

MIB = 1 << 20
RESIDENT_MAX = 2 * MIB
REFERENCES = ("wireguard-go-newest", "wireguard-go")


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line of the table: what was wanted, what was found."""

    name: str
    target: str
    found: str
    met: bool


def at_most(name: str, value: float, limit: float, unit: str) -> Verdict:
    return Verdict(name, f"<= {limit:g} {unit}", f"{value:.4g} {unit}", value <= limit)


def at_least(name: str, value: float, limit: float, unit: str) -> Verdict:
    return Verdict(name, f">= {limit:g} {unit}", f"{value:.4g} {unit}", value >= limit)


def _storm(name: str, data: dict[str, Any]) -> Iterator[Verdict]:
    reloads = data["reloads"]
    speed = reloads["changes"] / reloads["seconds"]
    yield at_least(f"{name}: reloads", speed, 0.99 * data["rate"], "/s")
    for who in ("untouched", "changed"):
        seen, quiet = data["storm"][who], data["calm"][who]
        lost = at_most(f"{name}: lost, {who}", seen["lost"], 0, "packets")
        aside = f" of {seen['sent']:,}"
        if quiet["lost"]:  # then the machine was too busy, whatever the engine did
            aside += f"; {quiet['lost']:,} of {quiet['sent']:,} without reloads"
        yield replace(lost, found=lost.found + aside)
        yield at_most(f"{name}: misrouted, {who}", seen["misrouted"], 0, "packets")
        added = (seen["p99_us"] - quiet["p99_us"]) / 1e3
        yield at_most(f"{name}: p99 latency added, {who}", added, 1, "ms")
    yield at_most(f"{name}: new handshakes", data["new_handshakes"], 0, "peers")
    yield at_most(f"{name}: counters back", data["counters_backwards"], 0, "times")
    grown = (data["resident_after"] - data["resident_before"]) / MIB
    yield at_most(f"{name}: memory grown", grown, RESIDENT_MAX / MIB, "MiB")
    if "retired_snapshots_max" in data:
        retired = data["retired_snapshots_max"]
        yield at_most(f"{name}: retired snapshots", retired, 64, "at most")


def _goodput(data: dict[str, Any]) -> Iterator[Verdict]:
    # one after the other, so that both met the same other work on the machine
    pairs = zip(data["with"], data["without"], strict=True)
    ratio = statistics.median(one / other for one, other in pairs)
    yield at_least("goodput with 1000 reloads/s", ratio * 100, 90, "%")


def _inside(data: dict[str, Any]) -> Iterator[Verdict]:
    yield at_most(
        "10,000 peers: commit", statistics.median(data["commit_us"]), 50, "us"
    )
    again, apply = (statistics.median(data[n]) for n in ("again_ms", "apply_ms"))
    yield at_most("10,000 peers: one changed, read again", again, 20, "ms")
    yield at_most("10,000 peers: one changed, applied", apply, 5, "ms")
    yield at_most(
        "1,000,000 prefixes: one change", percentile(data["table_us"], 99), 100, "us"
    )


def _saving(data: dict[str, Any]) -> Iterator[Verdict]:
    took = statistics.median(data["save_ms"])
    yield at_most("10,000 peers: save to effect", took, 150, "ms")


def _kills(data: dict[str, Any]) -> Iterator[Verdict]:
    what = f"killed while saving, {data['kills']:,} times"
    yield at_most(f"{what}: torn", data["torn"], 0, "files")
    yield at_most(f"{what}: left behind", data["left"], 0, "files")
    yield at_least(f"{what}: in the middle", data["in_the_middle"], 1, "times")


def _scale(data: Sequence[Scale]) -> Iterator[Verdict]:
    found = {each.kind.name: each for each in data}
    ours = found["ours"]
    memory = statistics.median(ours.bytes_per_peer)
    yield at_most("memory of an idle peer", memory, 4096, "bytes")
    for reference in (found[name] for name in REFERENCES if name in found):
        for field, limit in (("setconf_ms", 0.35), ("syncconf_ms", 1), ("dump_ms", 1)):
            one, other = getattr(ours, field), getattr(reference, field)
            if one and other:
                ratio = statistics.median(one) / statistics.median(other)
                what = f"{field.removesuffix('_ms')}, 10,000 peers"
                yield at_most(what, ratio, limit, f"x {reference.kind.name}")


def _churn(data: dict[str, Any]) -> Iterator[Verdict]:
    left = sum(sum(each.values()) for each in data["leftovers"])
    what = f"removed in handshakes, {data['removals']:,} times: left behind"
    yield at_most(what, left, 0, "entries")


def judge(found: dict[str, Any]) -> list[Verdict]:
    """Everything that was measured against its target."""
    judges = {
        "uapi": lambda data: _storm("UAPI storm", data),
        "api": lambda data: _storm("API storm", data),
        "goodput": _goodput,
        "inside": _inside,
        "saving": _saving,
        "kills": _kills,
        "scale": _scale,
        "churn": _churn,
    }
    return [
        verdict
        for name, data in found.items()
        if name in judges
        for verdict in judges[name](data)
    ]


def rows(engines: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The engines side by side: what each phase cost the traffic."""
    for engine in engines:
        quiet = engine["phases"]["calm"]
        for phase, data in engine["phases"].items():
            speed = data["changes"] / data["seconds"]
            refused = f"{data['refused']} refused" if data["refused"] else ""
            yield [
                f"{engine['engine']}: {phase}",
                f"{speed:,.0f}",
                "stopped answering" if data.get("hung") else refused,
                *_cost(data, quiet),
                str(data["new_handshakes"]),
            ]


def _cost(data: dict[str, Any], quiet: dict[str, Any]) -> Iterator[str]:
    for who in ("untouched", "changed"):
        seen = data[who]
        yield f"{seen['lost']:,} of {seen['sent']:,}"
        added = seen["p99_us"] - quiet[who]["p99_us"]
        yield f"{added:+,}" if seen["received"] else "-"
