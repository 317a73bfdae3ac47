"""The lazy timers send exactly what timers of the kernel's kind would, and when."""

from __future__ import annotations

import random

import pytest

from tunnel.constants import MILLISECOND, SECOND
from tunnel.protocol.session import Session

from .kernel_timers import KernelPeer, Key
from .scripted import Scripted
from .world import World

JITTER = 111 * MILLISECOND + 13
ENOUGH = 1_000  # seconds: everything has been erased or given up
GAPS = (0.05, 1.0, 4.0, 5.2, 9.0, 11.0, 16.0, 40.0, 110.0, 200.0, 600.0)
WEIGHTS = (12, 8, 5, 5, 4, 4, 4, 4, 3, 1, 0.4)
STEPS = ("send", "data", "keepalive", "initiation", "response")
STEP_WEIGHTS = (6, 6, 2, 1, 5)


class Twins:
    """Both models in lockstep."""

    def __init__(self, rng: random.Random, interval: int) -> None:
        self.rng = rng
        self.world = World(rng.getrandbits(32), jitter=JITTER)
        self.host = self.world.host()
        self.far = Scripted(self.world, self.host)
        self.far.peer.set_keepalive(interval, self.world.now, True)
        self.kernel = KernelPeer(
            self.world.timing,
            JITTER,
            interval * SECOND,
            self.world.now,
            yields=self.host.public < self.far.identity.public,
        )
        self.last_initiation = 0
        self.host.drain()
        if interval:
            self.kernel.send_keepalive()

    def wait(self, seconds: float) -> None:
        # odd nanoseconds: two things never happen at one instant
        self.world.run(seconds + self.rng.randrange(1_000_000) / SECOND)
        self.kernel.run(self.world.now)

    def step(self, what: str) -> None:
        getattr(self, f"step_{what}")()

    def step_send(self) -> None:
        self.far.path.send(b"out")
        self.host.drain()
        self.kernel.send_data()

    def step_initiation(self) -> None:
        since = self.world.now - self.last_initiation
        if since < self.world.timing.initiation_flood_gate:
            return
        self.last_initiation = self.world.now
        self.far.handshake()
        self.kernel.receive_initiation()

    def step_response(self) -> None:
        waits = self.far.peer.handshake.index is not None
        assert waits == self.kernel.initiation_waits
        if self.kernel.initiation_waits:
            self.far.answer()
            self.kernel.receive_response()

    def step_data(self) -> None:
        self._data(b"in")

    def step_keepalive(self) -> None:
        self._data(b"")

    def step_current(self) -> None:
        """Data under the session that is in use."""
        current, model = self.far.peer.slots.current, self.kernel.current
        assert current is not None
        assert model is not None
        self.far.send_data(current.keypair.local_index, b"in")
        self.kernel.receive_data(model, empty=False)

    def step_confirm(self) -> None:
        """The first packet, an empty one, under the session that waits in next."""
        session, model = self.far.peer.slots.next, self.kernel.next
        assert session is not None
        assert model is not None
        self.far.send_data(session.keypair.local_index, b"")
        self.kernel.receive_data(model, empty=True)

    def _data(self, payload: bytes) -> None:
        slots, kernel = self.far.peer.slots, self.kernel
        pairs: list[tuple[Session | None, Key | None]] = [
            (slots.previous, kernel.previous),
            (slots.current, kernel.current),
            (slots.next, kernel.next),
        ]
        assert all((real is None) == (model is None) for real, model in pairs)
        real, model = self.rng.choice(pairs)
        if real is not None and model is not None:
            self.far.send_data(real.keypair.local_index, payload)
            kernel.receive_data(model, empty=not payload)

    def trace(self) -> list[tuple[int, str]]:
        return [(packet.at, packet.kind) for packet in self.host.sent]


@pytest.mark.parametrize("interval", [0, 3, 7, 25, 130])
def test_r18_r33_r34_r36_twin_random_schedules(interval: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        twins = Twins(rng, interval)
        for _ in range(60):
            twins.wait(rng.choices(GAPS, WEIGHTS)[0] * rng.random())
            twins.step(rng.choices(STEPS, STEP_WEIGHTS)[0])
            assert twins.trace() == twins.kernel.trace
        twins.wait(ENOUGH)
        assert twins.trace() == twins.kernel.trace
        assert twins.trace(), "nothing was sent: the schedule tests nothing"


# Rare orders of events, as (seconds to wait, step).
SESSION = [(0.1, "send"), (0.1, "response")]
SCHEDULES = {
    "R34 data after the second keepalive was cancelled": [
        *SESSION,
        (1, "current"),
        (1, "current"),
        (10, "current"),
        (1, "send"),
        (1, "current"),
        (30, "send"),
    ],
    "R34 data while the second keepalive is pending": [
        *SESSION,
        (1, "current"),
        (1, "current"),
        (10, "current"),
        (40, "send"),
    ],
    "R19 giving up cancels the passive keepalive": [
        *SESSION,
        (20, "send"),  # unanswered: an initiation 15 s later, and no response
        *[(5, "current")] * 26,
    ],
    "R26 once for each session": [
        *SESSION,
        (166, "current"),
        (1, "current"),
        (1, "response"),
        (166, "current"),
        (1, "current"),
        (20, "current"),
    ],
    "R25 the responder does not rekey": [
        (0.1, "initiation"),
        (0.1, "confirm"),
        (130, "send"),
        (40, "current"),
        (20, "send"),
    ],
    "R17 crossing initiations": [
        (0.1, "send"),
        (0.1, "initiation"),
        (30, "response"),
    ],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_r17_r19_r25_r26_r34_twin_schedule(name: str) -> None:
    twins = Twins(random.Random(1), 0)
    for seconds, step in SCHEDULES[name]:
        twins.wait(seconds)
        twins.step(step)
        assert twins.trace() == twins.kernel.trace
    twins.wait(ENOUGH)
    assert twins.trace() == twins.kernel.trace


def test_r34_twin_busy_receiver(seed: int) -> None:
    """Dense one-sided traffic, where the second keepalive matters."""
    rng = random.Random(seed)
    twins = Twins(rng, 0)
    twins.step_send()
    twins.step_response()
    for _ in range(300):
        twins.wait(rng.choice((0.1, 2.0, 6.0, 12.0)) * rng.random())
        twins.step(rng.choices(("data", "send", "response"), (8, 1, 1))[0])
        assert twins.trace() == twins.kernel.trace
    assert "keepalive" in {kind for _, kind in twins.trace()}
