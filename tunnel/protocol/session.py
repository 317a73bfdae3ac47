"""The three keypair slots of a peer and their rotation (K noise.c add_new_keypair).

Pure bookkeeping: a change returns the sessions that lost their slot, and the caller
takes those out of the packet path and the index table.
"""

from __future__ import annotations

from tunnel.constants import REJECT_AFTER_MESSAGES
from tunnel.protocol.path import PathKeypair
from tunnel.protocol.types import Timing, elapsed


class Session:
    """A keypair of the packet path, and whether it may still be sent with (R67)."""

    __slots__ = ("keypair", "sending_valid")

    def __init__(self, keypair: PathKeypair) -> None:
        self.keypair = keypair
        self.sending_valid = True

    def __repr__(self) -> str:
        return f"<Session {self.keypair.local_index:08x}>"

    def invalidate_sending(self) -> None:
        """What arrives under it stays welcome."""
        self.sending_valid = False
        self.keypair.invalidate_sending()

    def can_send(self, now: int, timing: Timing) -> bool:
        """R27, R28."""
        return (
            self.sending_valid
            and elapsed(self.keypair.created, now) < timing.reject_after_time
            and self.keypair.send_counter < REJECT_AFTER_MESSAGES
        )

    def wants_rekey(self, now: int, timing: Timing) -> bool:
        """Asked when something is sent under it (R25)."""
        if not self.sending_valid:
            return False
        if self.keypair.send_counter > timing.rekey_after_messages:
            return True
        age = elapsed(self.keypair.created, now)
        return self.keypair.initiator and age >= timing.rekey_after_time

    def in_last_minute(self, now: int, timing: Timing) -> bool:
        """Asked when something is received (R26)."""
        if not self.sending_valid or not self.keypair.initiator:
            return False
        return elapsed(self.keypair.created, now) >= timing.last_minute


class Slots:
    """previous: still received with; current: sent with; next: not confirmed yet."""

    __slots__ = ("current", "next", "previous")

    def __init__(self) -> None:
        self.previous: Session | None = None
        self.current: Session | None = None
        self.next: Session | None = None

    def add_initiated(self, new: Session) -> list[Session]:
        """We initiated, and the response is here: `new` is in use at once (R22)."""
        if self.next is not None:
            dropped = [self.current, self.previous]
            self.previous, self.next = self.next, None
        else:
            dropped = [self.previous]
            self.previous = self.current
        self.current = new
        return _present(dropped)

    def add_responded(self, new: Session) -> list[Session]:
        """We responded: `new` waits in next for its first data packet (R21, R22)."""
        dropped = [self.next, self.previous]
        self.next, self.previous = new, None
        return _present(dropped)

    def confirm(self) -> list[Session]:
        """The first data packet under next arrived (R22)."""
        dropped = [self.previous]
        self.previous, self.current, self.next = self.current, self.next, None
        return _present(dropped)

    def clear(self) -> list[Session]:
        dropped = [self.next, self.previous, self.current]
        self.next = self.previous = self.current = None
        return _present(dropped)


def _present(sessions: list[Session | None]) -> list[Session]:
    return [session for session in sessions if session is not None]
