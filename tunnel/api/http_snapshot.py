"""What the reading routes show: one look at the tunnel for all who ask at about the
same time, so that however many ask, the control thread looks twice a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from tunnel.api.http_history import totals
from tunnel.api.metrics import Reloads
from tunnel.api.problems import Refusal
from tunnel.reloads import ReloadEvent
from tunnel.status import DeviceStatus

__all__ = ["FRESH", "Snapshot", "Snapshots", "look"]

T = TypeVar("T")

FRESH: Final = 0.5  # seconds for which a look is shown


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The tunnel at one moment; `documents` are made of it, each when it is asked for
    first, in the HTTP thread. `left` and `refusal` as in `Trial`."""

    status: DeviceStatus
    left: float | None
    path: Path | None
    events: tuple[ReloadEvent, ...]
    reloads: Reloads
    refusal: str = ""
    documents: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[Snapshot], T]) -> T:
        """What `make` made of this snapshot under this key; there are few keys."""
        if key not in self.documents:
            self.documents[key] = make(self)
        found: T = self.documents[key]
        return found


def look(device: Any, manager: Any) -> Snapshot:
    """In the control thread."""
    return Snapshot(
        status=device.status(),
        left=manager.trial.left,
        path=manager.file.path,
        events=tuple(manager.history),
        reloads=totals(manager.history),
        refusal=manager.trial.refusal,
    )


class Snapshots:
    """The last look, or a new one; used in the HTTP thread.

    `take` looks, or raises Refusal; `generation` is that of the running configuration.
    There is one look at a time, and who waits for it shares it.
    """

    def __init__(
        self,
        take: Callable[[], Awaitable[Snapshot]],
        generation: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._take = take
        self._generation = generation
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: Snapshot | Refusal | None = None
        self._begun = float("-inf")
        self._forgotten = float("-inf")

    async def get(self) -> Snapshot:
        """Begun at most `FRESH` before this call, and not before the last change;
        Refusal when the look failed that this call waited for."""
        asked = self._clock()
        async with self._lock:
            found = self._last
            if found is None or not self._answers(found, asked):
                begun = self._clock()
                try:
                    found = await self._take()
                except Refusal as refusal:
                    found = refusal
                self._last, self._begun = found, begun
        if isinstance(found, Refusal):
            raise found
        return found

    def _answers(self, found: Snapshot | Refusal, asked: float) -> bool:
        if self._begun <= self._forgotten:
            return False
        if isinstance(found, Refusal):
            return self._begun >= asked
        same = found.status.generation == self._generation()
        return same and self._begun >= asked - FRESH

    def forget(self) -> None:
        """Something was changed: what was looked at before is not shown again."""
        self._forgotten = self._clock()
