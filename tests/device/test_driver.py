"""The driver's two clocks: a suspend is noticed (R41), a pause is not taken for one."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tunnel import driver as module
from tunnel.driver import Driver

SECOND = 1_000_000_000


class Clocks:
    """In place of the loop and of `time`."""

    def __init__(self) -> None:
        self.boot = self.monotonic = 1000 * SECOND
        self.pauses: list[int] = []  # of the thread after it read CLOCK_BOOTTIME
        self.alarm: Callable[[], None] | None = None

    def passes(self, awake: int, asleep: int = 0) -> None:
        self.monotonic += awake
        self.boot += awake + asleep

    def now(self) -> int:
        now = self.boot
        if self.pauses:
            self.passes(self.pauses.pop())
        return now

    def monotonic_ns(self) -> int:
        return self.monotonic

    def call_at(self, when: int, callback: Callable[[], None]) -> Any:
        self.alarm = callback
        return SimpleNamespace(when=when, cancel=lambda: None)


class Host:
    """A driver whose node only counts how often the machine slept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clocks, self.resumed = Clocks(), 0
        monkeypatch.setattr(
            module,
            "time",
            SimpleNamespace(monotonic_ns=self.clocks.monotonic_ns, time_ns=lambda: 0),
        )
        self.happened: list[str] = []
        node = SimpleNamespace(
            resumed=self._resumed,
            receive_many=lambda *_, queued: self.happened.append("handshakes"),
            handle_deadline=lambda now, wall: None,
            to_send=list,
            next_event=lambda: None,
            next_deadline=lambda: self.clocks.boot + SECOND,
        )
        pump: Any = SimpleNamespace(
            hold=lambda: None,
            release=lambda: None,
            drain=lambda _: ([], [b"initiation"]),
            failure=None,
            handshakes_waiting=0,
        )
        loop: Any = self.clocks
        self.driver = Driver(loop, pump, node, lambda _: None)  # type: ignore[arg-type]
        self.driver.flush()

    def _resumed(self, now: int) -> None:
        self.resumed += 1
        self.happened.append("resumed")

    def look(self, *pauses: int) -> int:
        """The alarm goes off; how often the machine has slept so far."""
        self.clocks.pauses = list(pauses)
        assert self.clocks.alarm is not None
        self.clocks.alarm()
        return self.resumed


@pytest.mark.parametrize("pauses", [(7 * SECOND // 10,), (7 * SECOND // 10,) * 99])
def test_a_pause_between_the_clocks_is_no_suspend(
    pauses: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(monkeypatch)
    assert host.look(*pauses) == 0
    assert host.look() == 0
    host.clocks.passes(SECOND, asleep=SECOND)
    assert host.look() == 1
    assert host.look() == 1


def test_r41_each_suspend_is_noticed_once_whatever_pauses(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Also when it ends just before a pause; suspends are short and long."""
    rng, host, slept = random.Random(seed), Host(monkeypatch), 0
    for _ in range(2000):
        sleeps = rng.random() < 0.1
        slept += sleeps
        asleep = SECOND * rng.choice((1, 5, 9000)) if sleeps else 0
        host.clocks.passes(rng.randint(0, 200 * SECOND), asleep)
        pauses = [rng.randint(0, 5 * SECOND) for _ in range(rng.randint(0, 3))]
        assert host.look(*pauses) == slept, f"seed {seed}"
    assert slept > 100


def test_r41_keys_of_before_are_forgotten_before_a_handshake_makes_new_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may be the first thing that is heard after a suspend."""
    host = Host(monkeypatch)
    host.clocks.passes(SECOND, asleep=9000 * SECOND)
    host.driver._on_pump()
    assert host.happened == ["resumed", "handshakes"]
