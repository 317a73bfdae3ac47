"""Callbacks at a time, the earliest first. No clock here: times are arguments (ns)."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

__all__ = ["Timer", "TimerQueue"]

_TIDY_MIN: Final = 64


class Timer:
    """A callback at a time; `cancel` is idempotent."""

    __slots__ = ("_callback", "when")

    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when = when
        self._callback: Callable[[], None] | None = callback

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when

    @property
    def cancelled(self) -> bool:
        return self._callback is None

    def cancel(self) -> None:
        self._callback = None

    def run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class TimerQueue:
    """A heap; what was cancelled stays in it for a while."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._tidy_at = _TIDY_MIN

    def __len__(self) -> int:
        """How many there are, cancelled ones included."""
        return len(self._heap)

    def add(self, timer: Timer) -> None:
        if len(self._heap) >= self._tidy_at:
            self._tidy()
        heapq.heappush(self._heap, timer)

    def _tidy(self) -> None:
        """Forgets the cancelled timers, which may be due in a long time only."""
        self._heap = [each for each in self._heap if not each.cancelled]
        heapq.heapify(self._heap)
        self._tidy_at = max(_TIDY_MIN, 2 * len(self._heap))

    def next(self) -> int | None:
        """When one is due next; None: there is none."""
        while self._heap and self._heap[0].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0].when if self._heap else None

    def take_due(self, now: int) -> list[Timer]:
        """Those that are due, in order. One that cancels another of them is heard."""
        due: list[Timer] = []
        while self._heap and self._heap[0].when <= now:
            due.append(heapq.heappop(self._heap))
        return due
