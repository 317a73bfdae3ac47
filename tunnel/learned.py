"""Whose source addresses wait to be judged, and whose rest (see `sticky.py`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tunnel._fastpath.pump import Path

__all__ = ["Learned"]

_REST: Final = 200_000_000  # between two looks at what one peer's packets taught


class Learned:
    """Peers of which a worker learned a source, in order of arrival. After a look each
    one rests: who comes in by two ways has another source with every packet."""

    def __init__(self) -> None:
        self.ready: dict[Path, None] = {}
        self._resting: dict[Path, bool] = {}  # whether one was learned meanwhile
        self._until: deque[tuple[int, Path]] = deque()

    def add(self, paths: Iterable[Path]) -> None:
        for path in paths:
            if path in self._resting:
                self._resting[path] = True
            else:
                self.ready[path] = None

    def take(self, now: int, most: int) -> list[Path]:
        """Those to look at now."""
        while self._until and self._until[0][0] <= now:
            path = self._until.popleft()[1]
            if self._resting.pop(path):
                self.ready[path] = None
        some = list(islice(self.ready, most))
        for path in some:
            del self.ready[path]
            self._resting[path] = False
            self._until.append((now + _REST, path))
        return some

    def next_look(self, not_before: int) -> int | None:
        """When to take the next ones, if there may be any."""
        if self.ready:
            return not_before
        return max(not_before, self._until[0][0]) if self._until else None

    def clear(self) -> None:
        self.ready.clear()
        self._resting.clear()
        self._until.clear()
