"""One peer: its handshake, its sessions, and the timers that hold them together.

The order of steps inside each method is the kernel's (receive.c, send.c, timers.c);
where it matters the rule is named. Driven by Node only, except for the two setters.
"""

from __future__ import annotations

from tunnel.constants import HANDSHAKE_TOS, SECOND
from tunnel.protocol import noise
from tunnel.protocol.events import (
    EndpointMoved,
    HandshakeComplete,
    HandshakeGivenUp,
    KeysErased,
)
from tunnel.protocol.handshake import Answer, Completion, Handshake
from tunnel.protocol.local import Local
from tunnel.protocol.messages import CookieReply, Initiation, Response
from tunnel.protocol.path import PathEvent, PeerPath
from tunnel.protocol.primitives import HandshakeError, checked_psk
from tunnel.protocol.sessions import Sessions
from tunnel.protocol.timers import Action, Occasion, Timer, Timers, may_initiate
from tunnel.protocol.together import run
from tunnel.protocol.types import Arrival, Datagram, Endpoint
from tunnel.protocol.watch import Watch

KEEPALIVE_MAX_S = 65_535


class Peer:
    """Attributes to read: public_key, name, path, keepalive, last_handshake_wall."""

    __slots__ = (
        "__weakref__",
        "_local",
        "_timers",
        "_watch",
        "handshake",
        "keepalive",
        "last_handshake_wall",
        "name",
        "path",
        "public_key",
        "removed",
        "scheduled",
        "slots",
    )

    def __init__(
        self, local: Local, public_key: bytes, path: PeerPath, psk: bytes | None
    ) -> None:
        self._local = local
        self.public_key = public_key
        self.path = path
        self.name = ""
        self.handshake = Handshake(local, public_key, psk)
        self.slots = Sessions(path, local)
        self._timers = Timers(local.timing, local.jitter)
        self._watch = Watch(path, self._timers, local)
        self.keepalive = 0  # seconds, 0 is off
        self.last_handshake_wall = 0  # Unix ns, 0 is never
        self.removed = False
        self.scheduled = 0  # belongs to the deadline heap

    def __repr__(self) -> str:
        return f"<Peer {self.name or self.public_key[:4].hex()}>"

    def next_deadline(self) -> int:
        """0 when nothing is pending. Never later than what is due first."""
        return self._timers.next()

    # --- configuration

    def set_preshared_key(self, key: bytes | None) -> None:
        """For the next message of a handshake; the live session stays (R70)."""
        self.handshake.preshared_key = checked_psk(key)

    def set_keepalive(self, seconds: int, now: int, up: bool) -> None:
        """Persistent keepalive; switched on, one is sent at once if `up` (R36)."""
        if not 0 <= seconds <= KEEPALIVE_MAX_S:
            raise ValueError(f"keepalive: {seconds} is not in 0..{KEEPALIVE_MAX_S}")
        self.keepalive = seconds
        self._watch.set_interval(seconds * SECOND, now if up else 0)
        self._local.deadlines.update(self)

    # --- life

    def start(self, now: int) -> None:
        """The interface came up (R75)."""
        self.path.flush(keepalive=bool(self.keepalive))
        self._watch.restart_persistent(now, fresh=True)

    def stop(self, now: int) -> None:
        """The interface went down, or the peer was removed (R75, R76)."""
        self.path.purge_staged()
        self._timers.on(Occasion.STOPPED, now)
        self._watch.reset()
        self.forget_keys()
        self.handshake.last_sent = None
        self.handshake.attempts = 0

    def suspended(self, now: int) -> None:
        """The machine slept: what an attacker could have read is worthless (R41)."""
        self._timers.on(Occasion.SUSPENDED, now)
        self.forget_keys()

    def forget_keys(self) -> None:
        self._no_cookie()
        self.handshake.clear()
        self.slots.forget()
        self._local.admission.ended(self)

    def identity_changed(self) -> None:
        """Our private key is another one (R67)."""
        self.handshake.remote.forget()
        self.handshake.clear()
        self.handshake.last_sent = None
        self.slots.invalidate_sending()

    # --- sending handshakes

    def initiate(self, now: int, wall: int, *, retry: bool = False) -> None:
        """Sends an initiation, unless it is too early for one (R17)."""
        local, handshake = self._local, self.handshake
        if not retry:
            handshake.attempts = 0
        if local.identity is None or self.path.endpoint is None:
            local.counters["initiation.impossible"] += 1
            return
        if not may_initiate(handshake.last_sent, now, local.timing):
            return
        handshake.last_sent = now
        try:
            local.admission.check_source(self.path.endpoint[0])
            local.admission.check_room(self, now)
            fields = handshake.create_initiation(local.identity, wall)
        except HandshakeError as error:
            local.counters[f"initiation.{error.reason}"] += 1
            return
        handshake.index = local.indices.new_handshake(self, self.path.own_index)
        self._send(handshake.index, Initiation(handshake.index, *fields).pack(), now)
        local.counters["initiation.sent"] += 1
        self._timers.on(Occasion.INITIATION_SENT, now)

    def _send(self, index: int, message: bytes, now: int) -> None:
        """`index` is the message's sender index, which a cookie reply would name."""
        jar = self.handshake.jar
        data = jar.add_macs(message, now, self._local.timing)
        endpoint = self.path.endpoint
        if endpoint is None:
            return
        self.path.expect_cookie(index, jar.mac1_of(data), jar.cookie_key)
        self.path.note_sent(now, len(data))
        self._local.outbox.append(
            Datagram(data, Endpoint(*endpoint), self.path.source, HANDSHAKE_TOS)
        )
        self._watch.ensure_persistent(now)

    # --- receiving handshakes

    def _received(self, arrival: Arrival) -> None:
        """An authentic handshake message; it moves the endpoint (R54)."""
        moved = self.path.endpoint != arrival.endpoint
        self.path.note_received(
            arrival.now, arrival.size, arrival.endpoint, arrival.source
        )
        self._watch.ensure_persistent(arrival.now)
        if moved:
            self._local.events.append(EndpointMoved(self))

    def take_cookie(self, reply: CookieReply, now: int) -> None:
        """HandshakeError if it answers nothing, or is not authentic (R47)."""
        self.handshake.jar.consume(reply, now)
        self.path.expect_no_cookie()

    def _no_cookie(self) -> None:
        """What was sent last has its answer, or will have none."""
        self.handshake.jar.answered()
        self.path.expect_no_cookie()

    def would_answer(self, consumed: noise.Consumed, now: int) -> bool:
        """False: `respond` is bound to refuse it."""
        try:
            self._local.admission.check_room(self, now)
        except HandshakeError:
            return False
        return not self.handshake.refusal(consumed, now)

    def respond(self, answer: Answer, sender: int, arrival: Arrival) -> None:
        """An authentic initiation: admit it, respond, keep the session in next."""
        local, handshake, now = self._local, self.handshake, arrival.now
        handshake.admit(answer.consumed, now)
        handshake.clear()
        self._received(arrival)
        handshake.last_sent = now
        fields, keys = answer.response or run(handshake.response_steps(answer))
        index = local.indices.new_keypair(self, self.path.own_index)
        self.slots.responded(index, sender, keys, now)
        local.admission.began(self, now)
        self._timers.on(Occasion.SESSION_DERIVED, now)
        self._send(index, Response(index, sender, *fields).pack(), now)
        local.counters["response.sent"] += 1

    def accept(
        self,
        message: Response,
        identity: noise.Identity,
        arrival: Arrival,
        completion: Completion | None,
    ) -> None:
        """The response to our initiation: the session is in use at once (R21).
        `completion`: of `Handshake.completion_steps`, if it was computed before."""
        keys = self.handshake.complete(identity, message, completion)
        self.handshake.index = None
        self._local.indices.promote(message.receiver)
        self._received(arrival)
        self.slots.initiated(message.receiver, message.sender, keys, arrival.now)
        self._local.admission.began(self, arrival.now)
        self._timers.on(Occasion.SESSION_DERIVED, arrival.now)
        self._complete(arrival.now, arrival.wall)
        self.path.flush(keepalive=True)

    def _complete(self, now: int, wall: int) -> None:
        self._no_cookie()
        self._timers.on(Occasion.HANDSHAKE_COMPLETE, now)
        self.handshake.attempts = 0
        self.handshake.last_minute_done = False
        self.last_handshake_wall = wall
        self._local.events.append(HandshakeComplete(self))

    # --- what the packet path tells

    def confirm_if_due(self, now: int, wall: int) -> None:
        """Data arrived under the session in next: it is the current one (R21, R22)."""
        if self.slots.confirm_if_due():
            self._complete(now, wall)
            self.path.flush(keepalive=False)

    def path_event(self, events: int, now: int, wall: int) -> None:
        """PathEvent bits; each is a hint, and what it says is looked at again."""
        self._watch.ensure_persistent(now)
        if events & PathEvent.CONFIRMED:
            self.confirm_if_due(now, wall)
            self.slots.use_current()  # the path has switched by itself
        if events & PathEvent.LAST_MINUTE:
            self._last_minute(now, wall)
        if events & PathEvent.REKEY and self.slots.wants_rekey(now):
            self.initiate(now, wall)
        if events & PathEvent.NEEDS_SESSION:
            self._needs_session(now, wall)
        if events & PathEvent.UNREPLIED:
            self._watch.data_arrived()
            self._act(Timer.KEEPALIVE, now, wall)
        if events & PathEvent.UNANSWERED:
            self._act(Timer.NEW_HANDSHAKE, now, wall)
        if events & PathEvent.ROAMED:
            self._local.events.append(EndpointMoved(self))

    def _last_minute(self, now: int, wall: int) -> None:
        """The session nears its end; once for each (R26)."""
        handshake = self.handshake
        if not handshake.last_minute_done and self.slots.in_last_minute(now):
            handshake.last_minute_done = True
            self.initiate(now, wall)

    def _needs_session(self, now: int, wall: int) -> None:
        """Packets wait; unless there is a session by now, ask for one."""
        if self.slots.can_send(now):
            self.slots.use_current()
            self.path.flush(keepalive=False)
        else:
            self.initiate(now, wall)

    # --- timers

    def retry_is_due(self, now: int) -> bool:
        """Whether the deadline that is due makes another initiation, not the last."""
        if not self._timers.due(Timer.RETRANSMIT, now):
            return False
        return self.handshake.attempts <= self._local.timing.max_timer_handshakes

    def handle_deadline(self, now: int, wall: int) -> None:
        """Looks at every timer that is due; one set too early is set again."""
        for timer in self._timers.take_expired(now):
            self._act(timer, now, wall)

    def _act(self, timer: Timer, now: int, wall: int) -> None:
        handshake = self.handshake
        match self._watch.look(timer, now, handshake):
            case Action.RETRY:
                handshake.attempts += 1
                self.path.clear_source()
                self.initiate(now, wall, retry=True)
            case Action.INITIATE:
                self._watch.stop_waiting_for_answer()
                self.initiate(now, wall)
            case Action.GIVE_UP:
                self._give_up(now)
            case Action.ERASE:
                self.forget_keys()
                self.path.purge_staged()
                self._local.events.append(KeysErased(self))
            case Action.KEEPALIVE | Action.STOP | Action.WAIT:
                pass

    def _give_up(self, now: int) -> None:
        """R19; the next packet that waits starts over."""
        self._timers.on(Occasion.GIVEN_UP, now)
        self._watch.cancel_keepalive()
        self.path.purge_staged()
        self._local.counters["handshake.given_up"] += 1
        self._local.events.append(HandshakeGivenUp(self))
