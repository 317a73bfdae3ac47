"""The facts behind one peer's lazy timers, and what they lead to (see `timers`)."""

from __future__ import annotations

from tunnel.protocol.handshake import Handshake
from tunnel.protocol.local import Local
from tunnel.protocol.path import PeerPath
from tunnel.protocol.timers import (
    DECIDE,
    Action,
    Decision,
    Facts,
    Timer,
    Timers,
    another_pending,
    shared_time,
)


class Watch:
    """Reads what the packet path recorded; sets the timer again when it was early."""

    __slots__ = (
        "_another_from",
        "_jitter",
        "_local",
        "_more_keepalives",
        "_need_another",
        "_path",
        "_timers",
        "_unanswered_since",
        "interval",
    )

    def __init__(self, path: PeerPath, timers: Timers, local: Local) -> None:
        self._path = path
        self._timers = timers
        self._local = local
        self.interval = 0  # of the persistent keepalive, ns; 0 is off
        self._unanswered_since = 0  # what the jitter below was drawn for
        self._jitter = 0
        self._another_from = 0
        self._need_another = False
        self._more_keepalives = False

    def look(self, timer: Timer, now: int, handshake: Handshake) -> Action:
        """Also called for an edge event, which is a timer that was never set. What
        keeps alive is sent here, everything else is left to do."""
        action = self._decide(timer, now, handshake).action
        if action is Action.KEEPALIVE and timer is Timer.PERSISTENT:
            self._send_persistent(now)
        elif action is Action.KEEPALIVE:
            self._send_keepalive(now)
        return action

    def _decide(self, timer: Timer, now: int, handshake: Handshake) -> Decision:
        facts = Facts(now)
        if timer is Timer.RETRANSMIT:
            facts.attempts = handshake.attempts
            facts.last_handshake = handshake.last_sent
            facts.yields = self._yields(handshake)
            facts.jitter = self._local.jitter()
        elif timer is Timer.NEW_HANDSHAKE:
            facts.unanswered_since = self._path.check_unanswered()
            facts.jitter = self._jitter_for(facts.unanswered_since)
        elif timer is Timer.KEEPALIVE:
            self._keepalive_facts(facts)
        elif timer is Timer.PERSISTENT:
            facts.interval = self.interval
            facts.last_sent = self._path.last_sent
            facts.last_received = self._path.last_received
        decision = DECIDE[timer](facts, self._local.timing)
        self._set(timer, decision.at if decision.action is Action.WAIT else 0)
        return decision

    def _set(self, timer: Timer, at: int) -> None:
        """`at` 0 cancels."""
        timing = self._local.timing
        if at and timer is Timer.KEEPALIVE:
            at = shared_time(at, timing.keepalive_timeout, timing)
        elif at and timer is Timer.PERSISTENT:
            at = shared_time(at, self.interval, timing)
        self._timers.set(timer, at)

    def _yields(self, handshake: Handshake) -> bool:
        identity = self._local.identity
        return identity is not None and identity.public < handshake.remote.public

    def _jitter_for(self, unanswered_since: int) -> int:
        """One draw for each stretch of unanswered data."""
        if unanswered_since != self._unanswered_since:
            self._unanswered_since = unanswered_since
            self._jitter = self._local.jitter()
        return self._jitter

    def _keepalive_facts(self, facts: Facts) -> None:
        since, again = self._path.check_unreplied()
        facts.unreplied_since = since
        facts.last_sent = self._path.last_sent
        if not another_pending(self._another_from, facts.last_sent):
            self._another_from = 0
        facts.another_from = self._another_from
        self._more_keepalives = self._need_another or again

    def set_interval(self, interval: int, now: int) -> None:
        """Of the persistent keepalive; `now` is 0 while the interface is down."""
        switched_on = bool(interval) and not self.interval
        self.interval = interval
        if now and switched_on:
            self._path.flush(keepalive=True)
        self.restart_persistent(now, fresh=switched_on)

    # --- what follows from a decision

    def data_arrived(self) -> None:
        """Data while a second keepalive is pending makes it not the last one."""
        if another_pending(self._another_from, self._path.last_sent):
            self._need_another = True

    def _send_keepalive(self, now: int) -> None:
        """R34: the passive keepalive, and another one later if more data had come."""
        self._path.flush(keepalive=True)
        self._path.clear_unreplied()
        self._path.clear_unreplied_again()
        self._need_another = False
        self._another_from = now if self._more_keepalives else 0
        if self._another_from:
            self._set(Timer.KEEPALIVE, now + self._local.timing.keepalive_timeout)

    def _send_persistent(self, now: int) -> None:
        """R36; looked at again even if it could not be sent."""
        self._path.flush(keepalive=True)
        self._set(Timer.PERSISTENT, now + self.interval)

    def stop_waiting_for_answer(self) -> None:
        """R33 fired: the next data sent starts anew; the source may be why (R20)."""
        self._path.clear_source()
        self._path.clear_unanswered()
        self._unanswered_since = 0

    def cancel_keepalive(self) -> None:
        self._path.clear_unreplied()
        self._another_from = 0

    def reset(self) -> None:
        """All timers were cancelled: the path is to tell everything again."""
        self._path.clear_unanswered()
        self._path.clear_unreplied()
        self._path.clear_unreplied_again()
        self._unanswered_since = self._another_from = 0
        self._need_another = False

    def ensure_persistent(self, now: int) -> None:
        """After anything that could be the first packet since the interface is up."""
        if self.interval and not self._timers.pending(Timer.PERSISTENT):
            self.restart_persistent(now, fresh=False)

    def restart_persistent(self, now: int, *, fresh: bool) -> None:
        """From the last packet, or if `fresh` from now; `now` 0 stops it."""
        if not self.interval or not now:
            self._timers.set(Timer.PERSISTENT, 0)
            return
        last = max(self._path.last_sent, self._path.last_received)
        start = now if fresh or not last else last
        self._set(Timer.PERSISTENT, start + self.interval)
