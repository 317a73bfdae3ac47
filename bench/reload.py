"""`make bench-reload`: what a change of the configuration costs, against its targets.

    python bench/reload.py [--seconds 60] [--rate 1000] [--only uapi,api,...]

Measures, in this order: `inside` (one process), `saving` (a file), `kills` (amid
saving), `scale` (10,000 peers, side by side), `engines` (the script of changes through
`wg`, side by side), `goodput`, `uapi` and `api` (storms under traffic), `churn`. Every
one ends up in a file of its own under bench/results with all its samples. Needs root.

The measuring runs at a raised priority, the engines with it, so that other work on the
machine is not what is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.engines import ENGINES, EngineKind
from lab.process import LabError
from lab.report import RESULTS, environment, save, table
from lab.requirements import missing
from reload_lab import inside, measures
from reload_lab.churn import churn
from reload_lab.judge import Verdict, judge, rows
from reload_lab.kills import kill_saves
from reload_lab.saving import save_to_effect
from reload_lab.scale import Scale, compare

PRIORITY = -19
ENGINE_SECONDS = 5.0
KILLS = 1000
CHURN = 20_000  # `make soak-churn` is the whole of it, under AddressSanitizer


def installed() -> list[EngineKind]:
    """Ours first; what is missing is said on the way, with how to get it."""
    kinds = []
    for kind in ENGINES.values():
        found = kind.find()
        if found is None:
            print(f"without {kind.name}; to get it: {kind.install}")
        else:
            kinds.append(found)
    return kinds


def measure_inside(_: argparse.Namespace) -> dict[str, Any]:
    return {
        **inside.one_change_among_peers(),
        **inside.one_change_among_prefixes(),
    }


def measure_kills(_: argparse.Namespace) -> dict[str, Any]:
    seed = int.from_bytes(os.urandom(4), "big")
    with tempfile.TemporaryDirectory() as directory:
        return {"seed": seed, **asdict(kill_saves(Path(directory), KILLS, seed))}


def measure_scale(chosen: argparse.Namespace) -> list[Scale]:
    return compare(installed(), chosen.rounds)


def measure_engines(chosen: argparse.Namespace) -> list[dict[str, Any]]:
    return measures.engines_side_by_side(
        installed(), chosen.rate, min(ENGINE_SECONDS, chosen.seconds)
    )


def measure_churn(_: argparse.Namespace) -> dict[str, Any]:
    seed = int.from_bytes(os.urandom(4), "big")
    return {"seed": seed, **asdict(churn(CHURN, seed))}


MEASURES: dict[str, Callable[[argparse.Namespace], Any]] = {
    "inside": measure_inside,
    "saving": lambda _: save_to_effect(),
    "kills": measure_kills,
    "scale": measure_scale,
    "engines": measure_engines,
    "goodput": lambda c: measures.goodput(c.rate, min(5, c.seconds), 2 * c.rounds + 1),
    "uapi": lambda c: measures.uapi_storm(c.rate, c.seconds),
    "api": lambda c: measures.api_storm(c.rate, c.seconds),
    "churn": measure_churn,
}


def described(found: Any) -> Any:
    """As JSON can have it."""
    if isinstance(found, list):
        return [described(each) for each in found]
    if isinstance(found, Scale):
        return {**asdict(found), "kind": found.kind.name}
    return found


def run(name: str, chosen: argparse.Namespace) -> list[Verdict]:
    """One measure: its table, its file, its verdicts."""
    where = environment()
    print(f"{name} ...", flush=True)
    found = MEASURES[name](chosen)
    verdicts = judge({name: found})
    if name == "engines":
        head = ["", "changes/s", "", "lost, untouched", "p99 added us"]
        head += ["lost, changed", "p99 added us", "handshakes"]
        print(table(head, rows(found)))
    if verdicts:
        print(table(["", "target", "found", ""], _lines(verdicts)))
    report = {
        "environment": {**where, "load_after": os.getloadavg()[0]},
        "options": {k: v for k, v in vars(chosen).items() if k != "results"},
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "samples": described(found),
    }
    print(f"{save(f'reload-{name}', report, chosen.results)}\n", flush=True)
    return verdicts


def _lines(verdicts: Sequence[Verdict]) -> list[list[str]]:
    return [[v.name, v.target, v.found, "" if v.met else "MISSED"] for v in verdicts]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="of each storm")
    parser.add_argument("--rate", type=int, default=1000, help="reloads per second")
    parser.add_argument("--rounds", type=int, default=3, help="of comparisons")
    parser.add_argument(
        "--only", default=",".join(MEASURES), help="some of the measures"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory")
    chosen = parser.parse_args()
    if unknown := set(chosen.only.split(",")) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(sorted(unknown))}")
    return chosen


def main() -> int:
    chosen = options()
    if reasons := missing():
        print("\n".join(reasons), file=sys.stderr)
        return 1
    os.nice(PRIORITY)
    try:
        verdicts = [
            verdict for name in chosen.only.split(",") for verdict in run(name, chosen)
        ]
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    missed = [verdict for verdict in verdicts if not verdict.met]
    print(f"{len(verdicts) - len(missed)} of {len(verdicts)} targets met")
    for verdict in missed:
        print(f"MISSED: {verdict.name}: {verdict.found}, not {verdict.target}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
