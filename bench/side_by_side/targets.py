"""What Tunnel is to reach, as ratios of medians of one run, or as plain limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from side_by_side.figures import Result

__all__ = ["TARGETS", "Target", "Verdict", "verdicts"]

OURS = "ours"
BEST_PEER = "best peer"
NOT_PEERS = (OURS, "forwarder", "veth")


@dataclass(frozen=True, slots=True)
class Target:
    """`ours / of` must be at least, or at most, `limit`; of nothing: ours itself.

    `times_faster`: figures are times, and it is `of / ours` that counts.
    """

    key: str
    limit: float
    of: str = ""
    at_least: bool = True
    times_faster: bool = False

    @property
    def text(self) -> str:
        sign = ">=" if self.at_least else "<="
        relation = " x as fast as " if self.times_faster else " x "
        return f"{sign} {self.limit:g}{relation + self.of if self.of else ''}"

    def ratio(self, ours: float, reference: float) -> float:
        return reference / ours if self.times_faster else ours / reference

    def met(self, found: float) -> bool:
        return found >= self.limit if self.at_least else found <= self.limit


@dataclass(frozen=True, slots=True)
class Verdict:
    target: Target
    found: float | None  # None: one of both was not measured

    @property
    def text(self) -> str:
        if self.found is None:
            return "not measured"
        return "met" if self.target.met(self.found) else "missed"


_GO = "wireguard-go-newest"
TARGETS = (
    Target("tcp1", 2.0, _GO),
    Target("tcp1", 0.70, "forwarder"),
    Target("tcp1-back", 2.0, _GO),
    Target("tcp1-back", 0.70, "forwarder"),
    Target("tcp4", 2.0, _GO),
    Target("tcp4-back", 2.0, _GO),
    Target("udp64", 1.3, "gotatun"),
    Target("udp64", 2.0, _GO),
    Target("udp1390", 1.2, "gotatun"),
    Target("udp1390", 1.6, _GO),
    Target("rtt.p50", 1.0, "boringtun", at_least=False),
    Target("rtt.p50", 0.6, _GO, at_least=False),
    Target("rtt.p99", 1.0, "boringtun", at_least=False),
    Target("rtt.p99", 0.6, _GO, at_least=False),
    Target("loaded.p99", 0.6, BEST_PEER, at_least=False),
    Target("tcp1.cpu", 0.5, _GO, at_least=False),
    Target("tcp1.cpu", 0.2, "gotatun", at_least=False),
    Target("tcp4.memory", 45, at_least=False),
    Target("handshakes.rate", 1.0, _GO),
    Target("handshakes.cpu", 0.8, _GO, at_least=False),
    Target("idle.cpu", 1.0, BEST_PEER, at_least=False),
    Target("reconnect.seconds", 5, at_least=False),
    Target("reconnect.share", 80),
    Target("outage.at_once", 20, at_least=False),
    Target("outage.share", 80),
    *(
        Target(f"{way}{size}", limit, other, times_faster=True)
        for size, limits in (("1420", (3, 1.5, 3)), ("64", (4, 4, 4)))
        for way in ("seal", "open")
        for other, limit in zip(("go", "ipsec-mb", "openssl"), limits, strict=True)
    ),
)


def _reference(
    target: Target, results: Mapping[str, Result], more_is_better: bool
) -> float | None:
    if target.of != BEST_PEER:
        found = results.get(target.of)
        return found.value(target.key) if found else None
    values = [
        value
        for name, result in results.items()
        if name not in NOT_PEERS and (value := result.value(target.key)) is not None
    ]
    return (max if more_is_better else min)(values, default=None)


def verdicts(results: Mapping[str, Result]) -> Iterator[Verdict]:
    """Of every target whose figure was measured of ours."""
    ours = results.get(OURS)
    for target in TARGETS:
        value = ours.value(target.key) if ours else None
        if value is None:
            continue
        if not target.of:
            yield Verdict(target, value)
            continue
        reference = _reference(target, results, target.at_least)
        yield Verdict(target, target.ratio(value, reference) if reference else None)
