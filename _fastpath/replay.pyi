"""Types of the anti-replay window (see replay.pyx)."""

from enum import IntEnum

WINDOW: int  # how far behind the newest counter one is still judged: 8128

class ReplayVerdict(IntEnum):
    """What the window says of a counter."""

    OK = 0
    DUPLICATE = 1
    TOO_OLD = 2
    LIMIT = 3

class ReplayWindow:
    """The window of one session; counters from `reject_after` on are refused.

    Without it: the paper's REJECT_AFTER_MESSAGES, 2**64 - 2**13 - 1.
    """

    def __init__(self, reject_after: int = ...) -> None: ...
    def verdict(self, counter: int) -> ReplayVerdict:
        """Judges `counter` and, when it is OK, marks it as seen."""

    def accept(self, counter: int) -> bool:
        """Whether `verdict` is OK."""
