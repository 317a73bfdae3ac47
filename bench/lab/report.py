"""What was measured, where and when: as JSON with every sample, and as plain text."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["environment", "percentile", "save", "table"]

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor()


def _git(*argv: str) -> str:
    """Output of a git command on the checkout, empty when that fails."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *argv], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def environment() -> dict[str, Any]:
    """The machine and the source that a result belongs to."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--verify", "HEAD") or None,
        "modified": bool(_git("status", "--porcelain")),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_1min": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def percentile(samples: Iterable[float], percent: float) -> float:
    """The smallest sample that `percent` of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def save(name: str, report: dict[str, Any], directory: Path = RESULTS) -> Path:
    """Writes NAME-DATE-COMMIT.json; `report` has an `environment`.

    Where the checkout lies is nobody's business: texts call it ".".
    """
    where = report["environment"]
    date = where["date"].replace(":", "").replace("-", "").partition("+")[0]
    commit = (where["commit"] or "uncommitted")[:12]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{date}Z-{commit}.json"
    path.write_text(json.dumps(report, indent=2).replace(str(ROOT), ".") + "\n")
    return path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need, the first to the left, the others to the right."""
    lines = [head, *rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if n == 0 else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
