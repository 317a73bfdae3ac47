"""`make bench`: every benchmark, one after the other, tables, a chart, results on disk.

    python bench/run.py [--rows a,b] [--rounds N] [--seconds S] [--engines a,b]

Rows: `micro` (single functions), `ciphers` (ChaCha20-Poly1305 in C and Go), those of
`bench/system.py`, which compares whole engines, and `reconnect` (ten thousand peers at
once; one round of `bench/reconnect.py`). All but the first two need root and say so.
Changes of the configuration under traffic have a program of their own
(`make bench-reload`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

import chart
import reconnect
import system
from lab.process import LabError
from lab.report import environment, save, table
from lab.requirements import missing
from side_by_side.ciphers import CIPHER_FIGURES, measure_ciphers
from side_by_side.reconnect import RECONNECT_FIGURES
from side_by_side.tables import described, figure_table, target_table

HERE = Path(__file__).resolve().parent
SINGLE = ("micro", "ciphers")
RECONNECT = "reconnect"


def run_micro() -> list[dict[str, Any]]:
    """pytest-benchmark over bench/micro; its statistics, one dict per benchmark."""
    with tempfile.TemporaryDirectory() as where:
        output = Path(where) / "micro.json"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--benchmark-enable"),
                *("--benchmark-only", f"--benchmark-json={output}"),
                *("--benchmark-max-time=0.3", "--timeout=600", str(HERE / "micro")),
            ],
            check=False,
            cwd=HERE.parent,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise LabError(f"bench/micro: {done.stdout}{done.stderr}")
        found: list[dict[str, Any]] = json.loads(output.read_text())["benchmarks"]
    return found


def summed_up(benchmark: dict[str, Any]) -> dict[str, Any]:
    stats = benchmark["stats"]
    return {
        "group": benchmark["group"],
        "name": benchmark["name"],
        "median_us": stats["median"] * 1e6,
        "min_us": stats["min"] * 1e6,
        "rounds": stats["rounds"],
        **benchmark["extra_info"],
    }


def in_its_unit(found: dict[str, Any]) -> float:
    """A row of `test_rows_bench.py` as its published figure is given."""
    ns: float = found["median_us"] * 1e3 / found["calls"]
    return found["size"] / ns * 1e3 if found["unit"] == "MB/s" else ns


def nine_rows(benchmarks: list[dict[str, Any]]) -> Iterator[list[str]]:
    for found in benchmarks:
        if found["group"] == "rows":
            name = found["name"].removeprefix("test_").replace("_", " ")
            value = f"{in_its_unit(found):,.0f}"
            yield [f"{name} [{found['unit']}]", value, f"{found['published']:,.0f}"]


def other_rows(benchmarks: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Within a group everything is compared with its first line."""
    first: dict[str, float] = {}
    others = [found for found in benchmarks if found["group"] != "rows"]
    for found in sorted(others, key=lambda b: str(b["group"])):
        group = str(found["group"] or "")
        ns = found["median_us"] * 1e3 / found.get("calls", 1)
        name = found["name"].removeprefix("test_")
        yield [
            f"{group}: {name}",
            f"{ns:,.1f}",
            f"{ns / first.setdefault(group, ns):.2f}",
        ]


def micro() -> tuple[str, dict[str, Any]]:
    benchmarks = [summed_up(found) for found in run_micro()]
    tables = [
        table(["micro", "ns each", "x first"], other_rows(benchmarks)),
        table(["nine rows, from Python", "ours", "published"], nine_rows(benchmarks)),
    ]
    return "\n\n".join(tables), {"benchmarks": benchmarks}


def ciphers(rounds: int) -> tuple[str, dict[str, Any]]:
    results = measure_ciphers(rounds)
    text = figure_table(results, CIPHER_FIGURES)
    text += f"\n\n{target_table(results, CIPHER_FIGURES)}"
    return text, described(results, CIPHER_FIGURES)


def whole_engines(
    chosen: argparse.Namespace, rows: list[str]
) -> tuple[str, dict[str, Any]]:
    loads: list[float] = []
    results = system.measure(chosen.engines, rows, chosen.rounds, chosen.seconds, loads)
    text = figure_table(results, system.FIGURES)
    text += f"\n\n{target_table(results, system.FIGURES)}"
    return text, {"loads": loads, **described(results, system.FIGURES)}


def reconnecting(engines: list[str]) -> tuple[str, dict[str, Any]]:
    names = [name for name in reconnect.COMPARED if name in engines]
    results = reconnect.measure(names, rounds=1, rows=[RECONNECT])
    text = figure_table(results, RECONNECT_FIGURES)
    text += f"\n\n{target_table(results, RECONNECT_FIGURES)}"
    return text, described(results, RECONNECT_FIGURES)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    chosen = system.parsed(parser, (*SINGLE, *system.ROWS, RECONNECT))
    rows = [row for row in chosen.rows if row in system.ROWS]
    if set(chosen.rows) - set(SINGLE) and (reasons := missing()):
        print("\n".join(reasons), file=sys.stderr)
        print("without root: --rows micro,ciphers", file=sys.stderr)
        return 1
    report: dict[str, Any] = {"environment": environment()}
    report |= {"rounds": chosen.rounds, "seconds": chosen.seconds}
    parts: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
        "micro": micro,
        "ciphers": lambda: ciphers(chosen.rounds),
        "system": lambda: whole_engines(chosen, rows),
        RECONNECT: lambda: reconnecting(chosen.engines),
    }
    wanted = [row for row in SINGLE if row in chosen.rows]
    if rows:
        wanted.append("system")
    if RECONNECT in chosen.rows:
        wanted.append(RECONNECT)
    texts = []
    for name in wanted:
        try:
            text, report[name] = parts[name]()
        except LabError as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{text}\n", flush=True)
        texts.append(text)
    path = save("bench", report, chosen.results)
    path.with_suffix(".txt").write_text("\n\n".join([*texts, ""]))
    print(path)
    if drawn := chart.draw(path):
        print(drawn)
    return 0


if __name__ == "__main__":
    sys.exit(main())
