"""Peers that are removed and added again at random instants of their handshake.

    python bench/reload_lab/churn.py --count 200000 [--seed N] [--save]

Two whole devices in one thread, each with its packet path's worker and a real UDP
socket: a packet makes one of them start a handshake, and at a random instant of it
one end forgets the other. What was on its way then arrives for a peer that is gone,
or for its successor. Run it under AddressSanitizer (`make soak-churn`) to see that no
memory is used after it was freed; afterwards no receiver index may be taken, no timer
armed and no retired memory left.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

# run by its path: the directory of this file is not a package then
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab.report import environment, save

from reload_lab.churn_end import End, packet
from tunnel.loop import ControlLoop

__all__ = ["Churn", "Outcome", "churn"]

LONGEST_NS = 1_500_000  # of a pause: a whole handshake takes about a millisecond
GROWTH_MAX = 16 << 20  # bytes; AddressSanitizer keeps what was freed for a while
STAGES = ("idle", "initiated", "responded", "established")
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@dataclass(slots=True)
class Outcome:
    """What a run came to; `stages` counts where handshakes were cut off."""

    removals: int = 0
    seconds: float = 0.0
    stages: dict[str, int] = field(default_factory=dict)
    sessions: int = 0
    leftovers: list[dict[str, int]] = field(default_factory=list)
    resident_early: int = 0
    resident_late: int = 0

    def complaints(self, count: int) -> list[str]:
        """What such a run must not show; empty when all is well."""
        said = [
            f"end {end} kept {number} {what}"
            for end, each in zip("ab", self.leftovers, strict=True)
            for what, number in each.items()
            if number
        ]
        if self.removals < count or self.sessions == 0:
            said.append(f"{self.removals} removals, {self.sessions} sessions: too few")
        said += [
            f"no handshake was cut off when {stage}"
            for stage in STAGES
            if not self.stages.get(stage)
        ]
        grown = self.resident_late - self.resident_early
        if grown > GROWTH_MAX:
            said.append(f"memory grew by {grown:,} bytes after a quarter of the run")
        return said


class Churn:
    """Both ends and their loop."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = ControlLoop()
        self.ends = [End(number, self.loop, self.rng) for number in (1, 2)]

    def close(self) -> None:
        for end in self.ends:
            end.close()
        self.loop.close()

    def pause(self) -> None:
        """Lets everything go on for a random while, often none at all."""
        length = max(0, int(self.rng.uniform(-0.2, 1) * LONGEST_NS))
        self.loop.call_later(length, self.loop.stop)
        self.loop.run()

    def once(self, outcome: Outcome) -> None:
        """A fresh handshake; both ends forget the other in the middle of it."""
        order = self.rng.sample(self.ends, 2)
        for end, other in (order, order[::-1]):
            end.add(other)
        for end, other in (order, order[::-1]):
            end.packets.send(packet(end.number, other.number))
            if self.rng.random() < 0.8:
                break  # or else both start one, and they cross
        for end, other in (order, order[::-1]):
            self.pause()
            stage = end.stage(other)
            outcome.stages[stage] = outcome.stages.get(stage, 0) + 1
            end.remove()
            outcome.removals += 1
            if self.rng.random() < 0.5:  # late messages find its successor
                end.add(other)
                self.pause()
                end.remove()
                outcome.removals += 1
        for end in order:
            end.empty()

    def run(self, count: int) -> Outcome:
        outcome, start = Outcome(), time.monotonic()
        while outcome.removals < count:
            self.once(outcome)
            if not outcome.resident_early and outcome.removals > count // 4:
                outcome.resident_early = resident_bytes()
        outcome.leftovers = [end.leftovers() for end in self.ends]
        outcome.resident_late = resident_bytes()
        outcome.sessions = sum(
            end.device.node.counters["response.received"] for end in self.ends
        )
        outcome.seconds = time.monotonic() - start
        return outcome


def churn(count: int, seed: int) -> Outcome:
    """At least `count` removals."""
    both = Churn(seed)
    try:
        return both.run(count)
    finally:
        both.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200_000)
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(32)
    )
    parser.add_argument("--save", action="store_true", help="under bench/results")
    chosen = parser.parse_args()
    where, sanitized = environment(), "libasan" in os.environ.get("LD_PRELOAD", "")
    print(f"seed {chosen.seed}, AddressSanitizer: {'on' if sanitized else 'off'}")
    outcome = churn(chosen.count, chosen.seed)
    said = outcome.complaints(chosen.count)
    found = {"seed": chosen.seed, "address_sanitizer": sanitized, **asdict(outcome)}
    print(
        f"{outcome.removals:,} removals in {outcome.seconds:.0f} s, "
        f"{outcome.sessions:,} sessions; cut off when "
        + ", ".join(f"{stage} {n:,}" for stage, n in sorted(outcome.stages.items()))
    )
    if chosen.save:
        report = {"environment": where, "complaints": said, **found}
        print(save("soak-churn", report))
    if said:
        print("\n".join(f"FAIL: {line}" for line in said))
        return 1
    used = ", no memory used after it was freed" if sanitized else ""
    print(f"PASS: nothing left behind, nothing grown{used}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
