"""Figures: what a row's samples are called, their unit, and one number of many.

A sample is one round's value. What stands in a table is the median of all rounds; what
counts is the ratio of two medians of the same run.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Figure", "Result", "Samples"]

Samples = Mapping[str, float]  # by figure key, of one round


@dataclass(frozen=True, slots=True)
class Figure:
    key: str
    title: str
    unit: str
    digits: int = 0
    more_is_better: bool = True

    def text(self, value: float | None) -> str:
        return "" if value is None else f"{value:,.{self.digits}f}"


@dataclass(slots=True)
class Result:
    """Everything measured of one contender."""

    name: str
    version: str = ""
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, found: Samples) -> None:
        for key, value in found.items():
            self.samples.setdefault(key, []).append(value)

    def value(self, key: str) -> float | None:
        """The median of all rounds, None if it has none."""
        found = self.samples.get(key)
        return statistics.median(found) if found else None

    def described(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "medians": {key: self.value(key) for key in self.samples},
            "samples": self.samples,
        }
