"""The timestamp of initiations: TAI64N, coarse, strictly increasing (R11, R14)."""

from __future__ import annotations

from struct import Struct

from tunnel.constants import SECOND, TAI64N_EPOCH, TAI64N_STEP

_LABEL = Struct(">QI")


def whiten(wall: int) -> int:
    """Unix ns with the part below a second rounded down to a multiple of 2^24 ns."""
    seconds, rest = divmod(max(wall, 0), SECOND)
    return seconds * SECOND + rest // TAI64N_STEP * TAI64N_STEP


def later(stamp: int) -> int:
    """The next possible stamp after a whitened one."""
    seconds, rest = divmod(stamp, SECOND)
    rest += TAI64N_STEP
    return (seconds + 1) * SECOND if rest >= SECOND else seconds * SECOND + rest


def label(stamp: int) -> bytes:
    """The 12 bytes of a stamp; compare them as bytes (R12)."""
    seconds, rest = divmod(stamp, SECOND)
    return _LABEL.pack(TAI64N_EPOCH + seconds, rest)


class Clock:
    """Stamps for one peer, strictly increasing even if the wall clock steps back."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = -1

    def stamp(self, wall: int) -> bytes:
        self._last = max(whiten(wall), later(self._last) if self._last >= 0 else 0)
        return label(self._last)
