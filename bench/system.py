"""Compares whole engines side by side on this machine; needs root.

    python bench/system.py [--rounds 5] [--seconds 2] [--engines a,b] [--rows a,b]

Every engine tunnels between two network namespaces, against itself. Rounds alternate,
and in each of them every row does, some of them several times: all contenders have
their turns at it within a minute, first a different one each time, so that drift of
the machine meets all of them. Each turn has namespaces and processes of its own. The
forwarder (a tunnel without cryptography) and the bare network say what the machine
itself allows. What counts is the ratio of medians.

Everything runs at a raised priority, the engines too, so that other work on the machine
is not what is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.process import LabError
from lab.report import RESULTS, environment, save
from lab.requirements import missing
from lab.rigs import CONTENDERS, Contender, contender
from side_by_side.figures import Figure, Result, Samples
from side_by_side.peer_rows import PEER_FIGURES, PEER_ROWS
from side_by_side.tables import described, figure_table, target_table
from side_by_side.traffic_rows import TRAFFIC_FIGURES, TRAFFIC_ROWS

__all__ = ["FIGURES", "ROWS", "compare", "measure"]

ROWS = (*TRAFFIC_ROWS, *PEER_ROWS)
FIGURES: tuple[Figure, ...] = (*TRAFFIC_FIGURES, *PEER_FIGURES)
PRIORITY = -10
# Turns of a row in each round, of rows in which the machine's own ups and downs are as
# large as what is compared.
TURNS = {"tcp1": 3, "tcp1-back": 3, "rtt": 3}


def guarded(name: str, row: str, call: Callable[[], Samples]) -> Samples:
    """One failure of another engine is told and leaves a gap; one of ours ends all."""
    try:
        return call()
    except LabError as error:
        if name == "ours":
            raise
        print(f"  {name} {row}: {error}", file=sys.stderr)
        return {}


def one_turn(who: Contender, row: str, seconds: float) -> Samples:
    if row in TRAFFIC_ROWS:
        with who.open() as rig:
            return TRAFFIC_ROWS[row](rig, seconds)
    return PEER_ROWS[row](who.kind) if who.kind is not None else {}


def compare(
    contenders: Sequence[Contender],
    rows: Sequence[str],
    rounds: int,
    seconds: float,
    loads: list[float],
) -> dict[str, Result]:
    results = {who.name: Result(who.name, who.version()) for who in contenders}
    for number in range(rounds):
        turns = [row for row in rows for _ in range(TURNS.get(row, 1))]
        for place, row in enumerate(turns):
            start = (number + place) % len(contenders)
            began = time.monotonic()
            for who in [*contenders[start:], *contenders[:start]]:
                found = guarded(
                    who.name, row, lambda who=who, row=row: one_turn(who, row, seconds)
                )
                results[who.name].add(found)
                loads.append(os.getloadavg()[0])
            took = time.monotonic() - began
            text = f"round {number + 1} of {rounds}: {row}, {took:.0f} s"
            print(f"{text}, load {loads[-1]:.1f}", file=sys.stderr)
    return results


def installed(names: Sequence[str]) -> list[Contender]:
    """Those that are there; what is missing is said, with how to get it."""
    found = []
    for name in names:
        try:
            found.append(contender(name))
        except LabError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


def measure(
    names: Sequence[str],
    rows: Sequence[str],
    rounds: int,
    seconds: float,
    loads: list[float],
) -> dict[str, Result]:
    """By contender; LabError when ours fails. Adds the load averages to `loads`."""
    os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    try:
        return compare(installed(names), rows, rounds, seconds, loads)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def add_options(parser: argparse.ArgumentParser, rows: Sequence[str]) -> None:
    def names(text: str) -> list[str]:
        return text.split(",")

    engines = ", ".join(CONTENDERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of each stream")
    parser.add_argument(
        *("--engines",),
        type=names,
        default=list(CONTENDERS),
        help=f"separated by commas, of: {engines}",
    )
    parser.add_argument(
        *("--rows",),
        type=names,
        default=list(rows),
        help=f"separated by commas, of: {', '.join(rows)}",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory")


def parsed(parser: argparse.ArgumentParser, rows: Sequence[str]) -> argparse.Namespace:
    add_options(parser, rows)
    chosen = parser.parse_args()
    if unknown := set(chosen.engines) - set(CONTENDERS):
        parser.error(f"no such engine: {', '.join(sorted(unknown))}")
    if unknown := set(chosen.rows) - set(rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("at least one round and one second")
    return chosen


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    chosen = parsed(parser, ROWS)
    if reasons := missing():
        print("\n".join(reasons), file=sys.stderr)
        return 1
    report: dict[str, Any] = {"environment": environment()}
    loads: list[float] = []
    try:
        results = measure(
            chosen.engines, chosen.rows, chosen.rounds, chosen.seconds, loads
        )
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(figure_table(results, FIGURES))
    print(f"\n{target_table(results, FIGURES)}")
    report |= {"rounds": chosen.rounds, "seconds": chosen.seconds, "loads": loads}
    report |= described(results, FIGURES)
    print(f"\n{save('system', report, chosen.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
