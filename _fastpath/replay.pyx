"""The anti-replay window of replay.h for Python: what the packet pump runs."""

from enum import IntEnum

from libc.stdint cimport UINT64_MAX, uint64_t

cdef extern from "replay.h":
    cdef enum replay_verdict:
        REPLAY_OK
        REPLAY_DUPLICATE
        REPLAY_TOO_OLD
        REPLAY_LIMIT
    enum:
        REPLAY_WINDOW
    cdef struct replay_window:
        pass
    void replay_init(replay_window *w) noexcept nogil
    replay_verdict replay_check_and_update(
        replay_window *w, uint64_t counter, uint64_t reject_after) noexcept nogil

WINDOW = REPLAY_WINDOW


class ReplayVerdict(IntEnum):
    """What the window says of a counter; mirrors `enum replay_verdict`."""

    OK = REPLAY_OK
    DUPLICATE = REPLAY_DUPLICATE
    TOO_OLD = REPLAY_TOO_OLD
    LIMIT = REPLAY_LIMIT


cdef class ReplayWindow:
    """The window of one session; counters from `reject_after` on are refused."""

    cdef replay_window _window
    cdef uint64_t _reject_after

    def __cinit__(self, reject_after=2**64 - 2**13 - 1):
        self._reject_after = _counter(reject_after, "reject_after")
        replay_init(&self._window)

    def verdict(self, counter) -> ReplayVerdict:
        """Judges `counter` and, when it is OK, marks it as seen."""
        return ReplayVerdict(
            replay_check_and_update(
                &self._window, _counter(counter, "counter"), self._reject_after
            )
        )

    def accept(self, counter) -> bool:
        """Whether `verdict` is OK."""
        return self.verdict(counter) is ReplayVerdict.OK


cdef uint64_t _counter(object counter, str name) except *:
    if not isinstance(counter, int):
        raise TypeError(f"{name} must be an int, not {type(counter).__name__}")
    if not 0 <= counter <= UINT64_MAX:
        raise ValueError(f"{name} must be in 0..2**64-1")
    return counter
