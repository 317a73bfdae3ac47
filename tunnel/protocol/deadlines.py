"""Whose deadline is next, among many peers of which most have none.

A heap with lazy invalidation: a peer has one valid entry, at a time not later than
its deadline. A deadline that moves later leaves the entry where it is; when it comes
up, the peer is looked at and finds nothing due. An idle peer has no entry.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, Protocol, TypeVar


class Scheduled(Protocol):
    """`scheduled` belongs to the heap: the time of the valid entry, 0 without one."""

    scheduled: int

    def next_deadline(self) -> int: ...


S = TypeVar("S", bound=Scheduled)

_TIDY_MIN = 64


class DeadlineHeap(Generic[S]):
    __slots__ = ("_entries", "_order", "_tidy_at")

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, S]] = []
        self._order = count()
        self._tidy_at = _TIDY_MIN

    def __len__(self) -> int:
        return len(self._entries)

    def update(self, item: S) -> None:
        """To be called whenever a deadline of `item` may have changed."""
        at = item.next_deadline()
        if at and (not item.scheduled or at < item.scheduled):
            if len(self._entries) >= self._tidy_at:
                self._tidy()
            heappush(self._entries, (at, next(self._order), item))
            item.scheduled = at

    def _tidy(self) -> None:
        """Lets go of the invalid entries, and so of peers that are long gone."""
        self._entries = [each for each in self._entries if each[0] == each[2].scheduled]
        heapify(self._entries)
        self._tidy_at = max(_TIDY_MIN, 2 * len(self._entries))

    def forget(self, item: S) -> None:
        item.scheduled = 0

    def next(self) -> int | None:
        entries = self._entries
        while entries and entries[0][0] != entries[0][2].scheduled:
            heappop(entries)
        return entries[0][0] if entries else None

    def pop_due(self, now: int) -> list[S]:
        """Those whose entry is due; each must be given to `update` afterwards."""
        due: list[S] = []
        while (at := self.next()) is not None and at <= now:
            item = heappop(self._entries)[2]
            item.scheduled = 0
            due.append(item)
        return due
