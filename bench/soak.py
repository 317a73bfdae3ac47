"""`make soak`: traffic for as long as you like while the configuration changes.

    python bench/soak.py --seconds 3600

Two of our engines in two namespaces, a steady flow of marked packets both ways, and on
one end peers that come, change hands of a prefix and go, as fast as one connection to
the control socket allows at a steady pace. At the end every packet must have arrived,
and memory, descriptors and threads of both processes must be what they were early on.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.engines import Engine, engine_kind
from lab.pair import Exchange, Pair, tunnel_pair
from lab.process import LabError
from lab.report import environment, save
from lab.requirements import missing
from lab.uapi import request

RATE = 1000  # packets a second and direction
PAUSE = 0.02  # seconds between rounds of changes
GROWTH_MAX = 2 << 20  # bytes of resident memory
WARM_UP = 60  # seconds, or a third of the whole


@dataclass(frozen=True, slots=True)
class Usage:
    """What one engine's process holds."""

    resident_bytes: int
    descriptors: int
    threads: int


def usage(engine: Engine) -> Usage:
    process = engine.process
    return Usage(process.resident_bytes(), process.descriptors(), process.threads())


def change_peers(engine: Engine) -> int:
    """A guest arrives, loses its prefix to another, both leave; how many changes."""
    one, two = os.urandom(32).hex(), os.urandom(32).hex()
    net = f"10.{os.urandom(1)[0]}.0.0/16"
    for text in (
        f"set=1\npublic_key={one}\nallowed_ip={net}\n\n",
        f"set=1\npublic_key={two}\nallowed_ip={net}\n\n",
        f"set=1\npublic_key={one}\nremove=true\npublic_key={two}\nremove=true\n\n",
    ):
        if not request(engine.socket_path, text).endswith("errno=0\n\n"):
            raise LabError("a change was refused")
    return 3


def soak(pair: Pair, seconds: float) -> dict[str, Any]:
    engines = (pair.left.engine, pair.right.engine)
    changes, settled = 0, [usage(engine) for engine in engines]
    exchange = Exchange(pair, count=int(seconds * RATE), rate=RATE)
    began, warm = time.monotonic(), False
    while exchange.running:
        changes += change_peers(engines[0])
        if not warm and time.monotonic() - began > min(WARM_UP, seconds / 3):
            time.sleep(0.5)  # the last client of the control socket is gone
            settled, warm = [usage(engine) for engine in engines], True
        time.sleep(PAUSE)
    flows = exchange.finish()
    time.sleep(1)
    final = [usage(engine) for engine in engines]
    return {
        "seconds": seconds,
        "changes": changes,
        "sent": sum(sent for sent, _ in flows),
        "lost": sum(sent - (seen.received if seen else 0) for sent, seen in flows),
        "settled": [asdict(u) for u in settled],
        "final": [asdict(u) for u in final],
    }


def complaints(found: dict[str, Any]) -> list[str]:
    """What a soak must not show; empty when all is well."""
    said = []
    if found["lost"]:
        said.append(f"{found['lost']} of {found['sent']} packets lost")
    for end, before, after in zip("ab", found["settled"], found["final"], strict=True):
        grown = after["resident_bytes"] - before["resident_bytes"]
        if grown > GROWTH_MAX:
            said.append(f"memory of end {end} grew by {grown:,} bytes")
        said += [
            f"{what} of end {end}: {before[what]} before, {after[what]} after"
            for what in ("descriptors", "threads")
            if before[what] != after[what]
        ]
    return said


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    if reasons := missing():
        print("\n".join(reasons), file=sys.stderr)
        return 1
    where, ours = environment(), engine_kind("ours")
    with tunnel_pair(ours, ours) as pair:
        found = soak(pair, chosen.seconds)
    print(f"{found['sent']:,} packets, {found['changes']:,} changes")
    print(save("soak", {"environment": where, **found}))
    if said := complaints(found):
        print("\n".join(f"FAIL: {line}" for line in said))
        return 1
    print("PASS: nothing lost, nothing grown")
    return 0


if __name__ == "__main__":
    sys.exit(main())
