"""What all peers of one device share: identity, indices, randomness, what goes out."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunnel.protocol.admission import Admission
from tunnel.protocol.deadlines import DeadlineHeap
from tunnel.protocol.events import Event
from tunnel.protocol.index import IndexTable
from tunnel.protocol.noise import Identity
from tunnel.protocol.types import Datagram, Jitter, Timing

if TYPE_CHECKING:
    from tunnel.protocol.peer import Peer

EVENTS_KEPT = 1024  # for a driver that does not read them


class Local:
    """Made by Node; each Peer holds a reference."""

    __slots__ = (
        "_rng",
        "admission",
        "counters",
        "deadlines",
        "events",
        "identity",
        "indices",
        "outbox",
        "random_bytes",
        "timing",
        "up",
    )

    def __init__(
        self, timing: Timing, rng: Jitter, random_bytes: Callable[[int], bytes]
    ) -> None:
        self.timing = timing
        self.admission = Admission(timing.reject_after_time)
        self._rng = rng
        self.random_bytes = random_bytes
        self.identity: Identity | None = None
        self.up = False
        self.indices: IndexTable[Peer] = IndexTable(random_bytes)
        self.deadlines: DeadlineHeap[Peer] = DeadlineHeap()
        self.outbox: list[Datagram] = []
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.counters: Counter[str] = Counter()

    def jitter(self) -> int:
        """Uniform below the maximum; devices that start together drift apart (R42)."""
        limit = self.timing.rekey_jitter_max
        return self._rng.randrange(limit) if limit > 0 else 0
