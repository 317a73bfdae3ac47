"""`make bench`: every benchmark, one after the other, one table, results on disk.

    python bench/run.py [--rounds N] [--seconds S] [--engines a,b] [--only micro|system]

Micro benchmarks run anywhere; the comparison of whole engines needs root and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.report import RESULTS, environment, save, table

HERE = Path(__file__).resolve().parent


def run_micro() -> list[dict[str, Any]]:
    """pytest-benchmark over bench/micro; its statistics, one dict per benchmark."""
    with tempfile.TemporaryDirectory() as where:
        output = Path(where) / "micro.json"
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--benchmark-enable"),
                *("--benchmark-only", f"--benchmark-json={output}"),
                *("--benchmark-max-time=0.5", "--timeout=600", str(HERE / "micro")),
            ],
            check=True,
            cwd=HERE.parent,
            stdout=subprocess.DEVNULL,
        )
        found: list[dict[str, Any]] = json.loads(output.read_text())["benchmarks"]
    return found


def described(benchmark: dict[str, Any]) -> dict[str, Any]:
    stats = benchmark["stats"]
    return {
        "group": benchmark["group"],
        "name": benchmark["name"],
        "median_us": stats["median"] * 1e6,
        "min_us": stats["min"] * 1e6,
        "rounds": stats["rounds"],
        **benchmark["extra_info"],
    }


def rows(benchmarks: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Within a group everything is compared with its first line."""
    first: dict[str | None, float] = {}
    for found in sorted(benchmarks, key=lambda b: str(b["group"])):
        reference = first.setdefault(found["group"], found["median_us"])
        yield [
            f"{found['group'] or ''}: {found['name']}",
            f"{found['median_us']:,.2f}",
            f"{found['median_us'] / reference:.2f}",
        ]


def micro() -> None:
    benchmarks = [described(found) for found in run_micro()]
    print(table(["micro", "median us", "x first"], rows(benchmarks)))
    report = {"environment": environment(), "benchmarks": benchmarks}
    print(f"\n{save('micro', report, RESULTS)}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("micro", "system"))
    chosen, system_options = parser.parse_known_args()
    if chosen.only != "system":
        micro()
    if chosen.only == "micro":
        return 0
    if os.geteuid() != 0:
        print("the comparison of engines needs root: sudo make bench", file=sys.stderr)
        return 1
    return subprocess.run(
        [sys.executable, str(HERE / "system.py"), *system_options], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
