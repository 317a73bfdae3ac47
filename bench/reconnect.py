"""Ten thousand peers come back at once: how long it takes, and what a stream feels.

    python bench/reconnect.py [--rounds 1] [--engines a,b] [--rows reconnect,outage]
                              [--clients N] [--saturating]

Needs root. `reconnect`: the hub is the responder and everybody else calls it at the
same moment, as after its restart; an established peer's stream goes on. It is paced, so
that every engine can carry it, or with `--saturating` TCP as fast as it goes: then a
call for which the engine's socket has no room is lost, and comes again after 5 s.
`outage`: the hub is the initiator, and a thousand peers that it called in vain are
there again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.engines import ENGINES, engine_kind
from lab.process import LabError
from lab.report import RESULTS, environment, save
from lab.requirements import missing
from side_by_side.figures import Figure, Result, Samples
from side_by_side.outage import OUTAGE_FIGURES, outage
from side_by_side.reconnect import CLIENTS, RECONNECT_FIGURES, reconnect
from side_by_side.tables import described, figure_table, target_table

__all__ = ["COMPARED", "measure"]

COMPARED = ("ours", "wireguard-go", "wireguard-go-newest", "gotatun")
PRIORITY = -10
ROWS = ("reconnect", "outage")
FIGURES: tuple[Figure, ...] = (*RECONNECT_FIGURES, *OUTAGE_FIGURES)


def measure(
    names: Sequence[str],
    rounds: int,
    rows: Sequence[str] = ROWS,
    clients: int = CLIENTS,
    *,
    saturating: bool = False,
) -> dict[str, Result]:
    """By engine. One that is missing or fails is told and left out; not ours."""
    results: dict[str, Result] = {}

    def turn(name: str, row: str) -> Samples:
        kind = engine_kind(name)
        if row == "outage":
            return outage(kind)
        return reconnect(kind, clients, saturating=saturating)

    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    try:
        for number, name, row in product(range(rounds), names, rows):
            print(f"round {number + 1} of {rounds}: {name}, {row}", file=sys.stderr)
            try:
                found = turn(name, row)
            except LabError as error:
                if name == "ours":
                    raise
                print(f"  left out: {error}", file=sys.stderr)
                continue
            results.setdefault(name, Result(name)).add(found)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--saturating", action="store_true", help="a TCP stream")
    parser.add_argument(
        *("--engines",),
        default=",".join(COMPARED),
        help=f"separated by commas, of: {', '.join(ENGINES)}",
    )
    parser.add_argument("--rows", default=",".join(ROWS), help="separated by commas")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory")
    chosen = parser.parse_args()
    names, rows = chosen.engines.split(","), chosen.rows.split(",")
    if unknown := set(names) - set(ENGINES):
        parser.error(f"--engines: no such engine: {', '.join(sorted(unknown))}")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"--rows: no such row: {', '.join(sorted(unknown))}")
    if chosen.rounds < 1 or not 1 <= chosen.clients <= 60_000:
        parser.error("--rounds: at least 1; --clients: 1 to 60000")
    if reasons := missing():
        print("\n".join(reasons), file=sys.stderr)
        return 1
    try:
        results = measure(
            names, chosen.rounds, rows, chosen.clients, saturating=chosen.saturating
        )
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(figure_table(results, FIGURES))
    print(f"\n{target_table(results, FIGURES)}")
    report = {"environment": environment(), "rounds": chosen.rounds}
    report |= {"clients": chosen.clients, "saturating": chosen.saturating}
    report |= described(results, FIGURES)
    print(f"\n{save('reconnect', report, chosen.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
