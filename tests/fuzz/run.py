"""`make fuzz`: random input to every parser for as long as you like.

    python tests/fuzz/run.py --seconds 600 [--target config] [--seed N]

Ends with exit code 1 and the seed of the input that broke something.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import targets


def fuzz(name: str, seconds: float, first: int) -> int:
    """Inputs of one target until the time is over; how many there were."""
    target, deadline = targets.TARGETS[name], time.monotonic() + seconds
    seed = first
    while time.monotonic() < deadline:
        try:
            target(random.Random(seed))
        except Exception:
            print(f"{name}: repeat with --target {name} --seed {seed}")
            raise
        seed += 1
    return seed - first


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="for all targets")
    parser.add_argument("--target", choices=targets.TARGETS, action="append")
    parser.add_argument(
        "--seed", type=int, default=random.SystemRandom().getrandbits(48)
    )
    chosen = parser.parse_args()
    names = chosen.target or list(targets.TARGETS)
    try:
        for name in names:
            count = fuzz(name, chosen.seconds / len(names), chosen.seed)
            print(f"{name}: {count:,} inputs, nothing found")
    except Exception:  # noqa: BLE001 - whatever it is, it is a finding
        traceback.print_exc()
        return 1
    finally:
        targets.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
