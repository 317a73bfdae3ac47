"""Results as plain text, and as what a file of results holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lab.report import table

from side_by_side.figures import Figure, Result
from side_by_side.targets import verdicts

__all__ = ["described", "figure_table", "target_table"]


def figure_table(results: Mapping[str, Result], figures: Sequence[Figure]) -> str:
    """A line for each figure that anybody has, a column for each contender."""
    rows = []
    for figure in figures:
        values = [result.value(figure.key) for result in results.values()]
        if any(value is not None for value in values):
            cells = (figure.text(value) for value in values)
            rows.append([f"{figure.title} [{figure.unit}]", *cells])
    return table(["medians", *results], rows)


def target_table(results: Mapping[str, Result], figures: Sequence[Figure]) -> str:
    titles = {figure.key: figure.title for figure in figures}
    rows = [
        [
            titles.get(verdict.target.key, verdict.target.key),
            verdict.target.text,
            "" if verdict.found is None else f"{verdict.found:.2f}",
            verdict.text,
        ]
        for verdict in verdicts(results)
    ]
    return table(["figure of ours", "wanted", "is", ""], rows)


def described(
    results: Mapping[str, Result], figures: Sequence[Figure]
) -> dict[str, Any]:
    """Every sample, the medians, and the targets with what was found."""
    return {
        "figures": {
            figure.key: {
                "title": figure.title,
                "unit": figure.unit,
                "more_is_better": figure.more_is_better,
            }
            for figure in figures
        },
        "contenders": {name: result.described() for name, result in results.items()},
        "targets": [
            {
                "figure": verdict.target.key,
                "wanted": verdict.target.text,
                "is": verdict.found,
                "verdict": verdict.text,
            }
            for verdict in verdicts(results)
        ],
    }
