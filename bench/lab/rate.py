"""The highest rate of UDP datagrams at which next to nothing is lost, by search."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from lab.native import BENCH, compiled
from lab.network import Namespace
from lab.process import LabError, Process, wait_until

__all__ = ["Trial", "lossless_rate", "search", "trial"]

PORT = 7100
LOSS_MAX = 0.001
ATTEMPTS = 4  # at one rate
KEPT_UP = 0.95  # of the asked rate, or the sender itself is the limit
FIRST_RATE = 20_000
PRECISION = 1.04  # the search ends when limits differ by less


@dataclass(frozen=True, slots=True)
class Trial:
    """`rate` is what was really sent per second."""

    asked: float
    rate: float
    sent: int
    received: int

    @property
    def lossless(self) -> bool:
        return self.received >= self.sent * (1 - LOSS_MAX)

    @property
    def kept_up(self) -> bool:
        return self.rate >= self.asked * KEPT_UP


def _ready(process: Process) -> bool:
    if not process.running:
        raise LabError(process.output())
    return "ready" in process.output()


def trial(
    sender: Namespace,
    receiver: Namespace,
    address: str,
    *,
    size: int,
    rate: float,
    seconds: float,
) -> Trial:
    """`size` bytes of payload each, to `address` (of `receiver`)."""
    program = str(compiled(BENCH / "lab" / "rate.c"))
    counting = receiver.popen(program, "receive", str(PORT))
    wait_until("the receiver", lambda: _ready(counting), timeout=5, interval=0.002)
    numbers = (PORT, size, round(rate), round(seconds * 1000))
    done = sender.run(program, "send", address, *map(str, numbers), timeout=seconds + 9)
    counting.signal(signal.SIGTERM)
    if counting.wait(10):
        raise LabError(counting.output())
    said = [int(n) for n in re.findall(r"\d+", done.stdout)]
    received = re.search(r"received (\d+)", counting.output())
    if len(said) != 3 or received is None:
        raise LabError(f"rate: {done.stdout}{counting.output()}")
    sent, duration, refused = said
    offered = sent + refused
    return Trial(rate, offered / (duration / 1e9), offered, int(received[1]))


def search(attempt: Callable[[float], Trial]) -> float:
    """Doubles the rate until something is lost each time, then halves the gap.

    Each rate has ATTEMPTS chances, because a hiccup of the machine is not the engine's.
    Returns the highest rate per second that was really sent without loss, 0 if none.
    """
    best = 0.0
    low, high = 0.0, 0.0
    rate = float(FIRST_RATE)
    while high == 0 or high > low * PRECISION:
        for _ in range(ATTEMPTS):
            found = attempt(rate)
            if found.lossless:
                break
        if found.lossless:
            best = max(best, found.rate)
        if found.lossless and found.kept_up:
            low = rate
        else:
            high = rate
        if high and high < 1000:
            break
        rate = low * 2 if high == 0 else (low * high) ** 0.5 if low else high / 2
    return best


def lossless_rate(
    sender: Namespace, receiver: Namespace, address: str, *, size: int, seconds: float
) -> float:
    """Datagrams per second; each trial lasts `seconds`."""

    def attempt(rate: float) -> Trial:
        return trial(sender, receiver, address, size=size, rate=rate, seconds=seconds)

    return search(attempt)
