"""The timer rules (K timers.c), as tables.

`RULES` says what an occasion does to a peer's timers. `DECIDE` says what an expired
timer does. Three of the five are lazy: the packet path does not touch a timer for each
packet, it records when things happened (`Facts`), and the deadline is computed from
that when the timer expires. A timer that turns out to be set too early waits again.

    RETRANSMIT     the initiation went unanswered: a new one, or give up (R18, R19)
    KEEPALIVE      data came and nothing went back: an empty packet (R34)   lazy
    NEW_HANDSHAKE  data went out and nothing came back: initiate (R33)      lazy
    ERASE          no new session for long: forget all keys (R38)
    PERSISTENT     nothing either way: an empty packet (R36)                lazy

The last two and KEEPALIVE wait for a time that many peers share (`shared_time`), so
that one wake-up serves all of them. The other two are exact: their jitter is there to
keep peers apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Final, NamedTuple

from tunnel.constants import TIMER_SLACK_MAX
from tunnel.protocol.types import Timing, elapsed


class Timer(IntEnum):
    RETRANSMIT = 0
    KEEPALIVE = 1
    NEW_HANDSHAKE = 2
    ERASE = 3
    PERSISTENT = 4


class Occasion(Enum):
    INITIATION_SENT = auto()
    SESSION_DERIVED = auto()
    HANDSHAKE_COMPLETE = auto()
    GIVEN_UP = auto()
    SUSPENDED = auto()
    STOPPED = auto()


class Effect(Enum):
    SET = auto()
    SET_UNLESS_PENDING = auto()
    CANCEL = auto()


class Rule(NamedTuple):
    timer: Timer
    effect: Effect
    delay: str = ""  # the attribute of Timing that says how long
    jitter: bool = False
    shared: bool = False


RULES: Final[dict[Occasion, tuple[Rule, ...]]] = {
    Occasion.INITIATION_SENT: (
        Rule(Timer.RETRANSMIT, Effect.SET, "rekey_timeout", jitter=True),
    ),
    Occasion.SESSION_DERIVED: (
        Rule(Timer.ERASE, Effect.SET, "key_erase_time", shared=True),
    ),
    Occasion.HANDSHAKE_COMPLETE: (Rule(Timer.RETRANSMIT, Effect.CANCEL),),
    Occasion.GIVEN_UP: (
        Rule(Timer.KEEPALIVE, Effect.CANCEL),
        Rule(Timer.ERASE, Effect.SET_UNLESS_PENDING, "key_erase_time", shared=True),
    ),
    Occasion.SUSPENDED: (Rule(Timer.ERASE, Effect.CANCEL),),
    Occasion.STOPPED: tuple(Rule(timer, Effect.CANCEL) for timer in Timer),
}


class Timers:
    """The five deadlines of a peer; 0 is "not pending"."""

    __slots__ = ("_due", "_jitter", "_timing")

    def __init__(self, timing: Timing, jitter: Callable[[], int]) -> None:
        self._timing = timing
        self._jitter = jitter
        self._due = [0] * len(Timer)

    def on(self, occasion: Occasion, now: int) -> None:
        for timer, effect, name, jitter, shared in RULES[occasion]:
            if effect is Effect.CANCEL:
                self._due[timer] = 0
            elif effect is Effect.SET or not self._due[timer]:
                delay = int(getattr(self._timing, name))
                at = now + delay + (self._jitter() if jitter else 0)
                self._due[timer] = (
                    shared_time(at, delay, self._timing) if shared else at
                )

    def set(self, timer: Timer, at: int) -> None:
        """`at` 0 cancels."""
        self._due[timer] = at

    def pending(self, timer: Timer) -> bool:
        return self._due[timer] != 0

    def due(self, timer: Timer, now: int) -> bool:
        return 0 < self._due[timer] <= now

    def next(self) -> int:
        """The earliest deadline, or 0."""
        return min((at for at in self._due if at), default=0)

    def take_expired(self, now: int) -> list[Timer]:
        """Those due, no longer pending, in the order of their deadlines."""
        expired = [timer for timer in Timer if 0 < self._due[timer] <= now]
        expired.sort(key=self._due.__getitem__)
        for timer in expired:
            self._due[timer] = 0
        return expired


def shared_time(at: int, delay: int, timing: Timing) -> int:
    """`at`, or the next later time that other deadlines with this delay have too.

    At most a 40th of the delay later; the kernel's timers (kernel/time/timer.c) are
    up to an eighth of it late, for the same reason.
    """
    if not timing.slack_parts:
        return at
    tick = min(delay // timing.slack_parts, TIMER_SLACK_MAX)
    return -(-at // tick) * tick if tick else at


@dataclass(slots=True)
class Facts:
    """What the decisions depend on; those a timer does not read may be left out."""

    now: int
    attempts: int = 0
    last_handshake: int | None = None  # when we last sent a handshake message
    yields: bool = False  # to the peer, where both try the same thing at once
    jitter: int = 0
    unanswered_since: int = 0
    unreplied_since: int = 0
    another_from: int = 0  # a second keepalive is due unless we send after this
    last_sent: int = 0
    last_received: int = 0
    interval: int = 0  # of the persistent keepalive, ns


class Action(Enum):
    STOP = auto()
    WAIT = auto()
    GIVE_UP = auto()
    RETRY = auto()
    INITIATE = auto()
    KEEPALIVE = auto()
    ERASE = auto()


class Decision(NamedTuple):
    action: Action
    at: int = 0  # of WAIT


def _retransmit(facts: Facts, timing: Timing) -> Decision:
    if facts.attempts > timing.max_timer_handshakes:
        return Decision(Action.GIVE_UP)
    if may_initiate(facts.last_handshake, facts.now, timing):
        return Decision(Action.RETRY)
    # A response was sent meanwhile (R17): our initiation crossed with the peer's, and
    # both are lost. The kernel waits for the next packet here; we come back, and one
    # of the two later, so that they do not cross for ever on a slow link (R24).
    at = (facts.last_handshake or 0) + timing.rekey_timeout + facts.jitter
    return Decision(Action.WAIT, at + timing.rekey_timeout if facts.yields else at)


def _due_at(at: int, facts: Facts, action: Action) -> Decision:
    if facts.now >= at:
        return Decision(action)
    return Decision(Action.WAIT, at)


def _keepalive(facts: Facts, timing: Timing) -> Decision:
    if another_pending(facts.another_from, facts.last_sent):
        at = facts.another_from + timing.keepalive_timeout
        return _due_at(at, facts, Action.KEEPALIVE)
    if not facts.unreplied_since:
        return Decision(Action.STOP)
    at = facts.unreplied_since + timing.keepalive_timeout
    return _due_at(at, facts, Action.KEEPALIVE)


def _new_handshake(facts: Facts, timing: Timing) -> Decision:
    if not facts.unanswered_since:
        return Decision(Action.STOP)
    at = facts.unanswered_since + timing.new_handshake_timeout + facts.jitter
    return _due_at(at, facts, Action.INITIATE)


def _persistent(facts: Facts, _timing: Timing) -> Decision:
    if not facts.interval:
        return Decision(Action.STOP)
    at = max(facts.last_sent, facts.last_received) + facts.interval
    return _due_at(at, facts, Action.KEEPALIVE)


DECIDE: Final[dict[Timer, Callable[[Facts, Timing], Decision]]] = {
    Timer.RETRANSMIT: _retransmit,
    Timer.KEEPALIVE: _keepalive,
    Timer.NEW_HANDSHAKE: _new_handshake,
    Timer.ERASE: lambda _facts, _timing: Decision(Action.ERASE),
    Timer.PERSISTENT: _persistent,
}


def may_initiate(last_handshake: int | None, now: int, timing: Timing) -> bool:
    """At most one initiation for each REKEY_TIMEOUT (R17)."""
    return (
        last_handshake is None or elapsed(last_handshake, now) >= timing.rekey_timeout
    )


def another_pending(another_from: int, last_sent: int) -> bool:
    """The second keepalive of R34 is still wanted: nothing was sent since the first.

    Where the packet path sends the first one a moment after it was asked to, as ours
    and the kernel's do, that moment counts as later and the second is never sent.
    """
    return another_from != 0 and last_sent <= another_from
