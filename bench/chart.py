"""Draws a file of results: `python bench/chart.py bench/results/bench-....json`.

A panel for each figure, a bar for each contender, ours in its own colour. Needs
matplotlib (the extra `bench`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["draw"]

PANELS = (
    ("system", "tcp1"),
    ("system", "tcp4"),
    ("system", "udp64"),
    ("system", "udp1390"),
    ("system", "rtt.p50"),
    ("system", "loaded.p99"),
    ("system", "tcp1.cpu"),
    ("system", "tcp4.memory"),
    ("system", "handshakes.rate"),
    ("system", "idle.per_peer"),
    ("ciphers", "seal1420"),
    ("ciphers", "seal64"),
)
COLUMNS = 4
OURS, CEILING, OTHERS = "#c44e52", "#b8b8b8", "#4c72b0"
LEFT_OUT = {"avx512", "avx2", "scalar"}  # one of them is `ours`


def _colour(name: str) -> str:
    if name == "ours":
        return OURS
    return CEILING if name in {"forwarder", "veth"} else OTHERS


def _panel(axes: Any, part: dict[str, Any], key: str) -> None:
    figure = part["figures"][key]
    bars = [
        (name, found["medians"][key])
        for name, found in part["contenders"].items()
        if key in found["medians"] and name not in LEFT_OUT
    ]
    names, values = [name for name, _ in bars], [value for _, value in bars]
    drawn = axes.barh(names, values, color=[_colour(name) for name in names])
    labels = [f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in values]
    axes.bar_label(drawn, labels=labels, padding=2, fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.locator_params(axis="x", nbins=5)
    better = "more" if figure["more_is_better"] else "less"
    axes.set_title(f"{figure['title']} [{figure['unit']}]", fontsize=9)
    axes.set_xlabel(f"{better} is better", fontsize=7)
    axes.tick_params(labelsize=7)


def _measured(part: dict[str, Any], key: str) -> bool:
    return any(key in found["medians"] for found in part["contenders"].values())


def draw(results: Path) -> Path | None:
    """A PNG beside the JSON; None without matplotlib or without anything to draw."""
    try:
        from matplotlib import pyplot as plt
    except ImportError:
        print("no chart: pip install matplotlib", file=sys.stderr)
        return None
    report = json.loads(results.read_text())
    found = [
        (report[part], key)
        for part, key in PANELS
        if part in report and _measured(report[part], key)
    ]
    if not found:
        return None
    lines = -(-len(found) // COLUMNS)
    plt.switch_backend("Agg")
    page, grid = plt.subplots(
        lines, COLUMNS, figsize=(4 * COLUMNS, 2.6 * lines), squeeze=False
    )
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (part, key) in zip(grid.flat, found, strict=False):
        _panel(axes, part, key)
    where = report["environment"]
    commit = (where["commit"] or "uncommitted")[:12]
    title = f"{where['cpu']}, {where['cores']} cores, Linux {where['kernel']}, {commit}"
    page.suptitle(f"{title}, medians of {report['rounds']} rounds", fontsize=10)
    page.tight_layout()
    target = results.with_suffix(".png")
    page.savefig(target, dpi=120)
    plt.close(page)
    return target


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(draw(Path(each)))
