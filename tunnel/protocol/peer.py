"""One peer: its handshake messages, its sessions, and the timers that go with them.

The order of steps inside each method is the kernel's (receive.c, send.c); where it
matters the rule is named. Driven by Node only, except for the two setters. What its
timers and its packet path call for is in `duties.py`.
"""

from __future__ import annotations

from tunnel.constants import HANDSHAKE_TOS, SECOND
from tunnel.protocol import noise
from tunnel.protocol.events import (
    EndpointMoved,
    HandshakeComplete,
)
from tunnel.protocol.handshake import Answer, Completion, Handshake
from tunnel.protocol.local import Local
from tunnel.protocol.messages import CookieReply, Initiation, Response
from tunnel.protocol.path import PeerPath
from tunnel.protocol.primitives import HandshakeError, checked_psk
from tunnel.protocol.sessions import Sessions
from tunnel.protocol.timers import Occasion, Timers, may_initiate
from tunnel.protocol.together import run
from tunnel.protocol.types import Arrival, Datagram, Endpoint
from tunnel.protocol.watch import Watch

KEEPALIVE_MAX_S = 65_535


class Peer:
    """Attributes to read: public_key, name, path, keepalive, last_handshake_wall."""

    __slots__ = (
        "__weakref__",
        "handshake",
        "keepalive",
        "last_handshake_wall",
        "local",
        "name",
        "path",
        "public_key",
        "removed",
        "scheduled",
        "slots",
        "timers",
        "watch",
    )

    def __init__(
        self, local: Local, public_key: bytes, path: PeerPath, psk: bytes | None
    ) -> None:
        self.local = local
        self.public_key = public_key
        self.path = path
        self.name = ""
        self.handshake = Handshake(local, public_key, psk)
        self.slots = Sessions(path, local)
        self.timers = Timers(local.timing, local.jitter)
        self.watch = Watch(path, self.timers, local)
        self.keepalive = 0  # seconds, 0 is off
        self.last_handshake_wall = 0  # Unix ns, 0 is never
        self.removed = False
        self.scheduled = 0  # belongs to the deadline heap

    def __repr__(self) -> str:
        return f"<Peer {self.name or self.public_key[:4].hex()}>"

    def next_deadline(self) -> int:
        """0 when nothing is pending. Never later than what is due first."""
        return self.timers.next()

    # --- configuration

    def set_preshared_key(self, key: bytes | None) -> None:
        """For the next message of a handshake; the live session stays (R70)."""
        self.handshake.preshared_key = checked_psk(key)

    def set_keepalive(self, seconds: int, now: int, up: bool) -> None:
        """Persistent keepalive; switched on, one is sent at once if `up` (R36)."""
        if not 0 <= seconds <= KEEPALIVE_MAX_S:
            raise ValueError(f"keepalive: {seconds} is not in 0..{KEEPALIVE_MAX_S}")
        self.keepalive = seconds
        self.watch.set_interval(seconds * SECOND, now if up else 0)
        self.local.deadlines.update(self)

    # --- life

    def start(self, now: int) -> None:
        """The interface came up (R75)."""
        self.watch.reset()  # the last batch told things after `stop`; nobody listened
        self.path.flush(keepalive=bool(self.keepalive))
        self.watch.restart_persistent(now, fresh=True)

    def stop(self, now: int) -> None:
        """The interface went down, or the peer was removed (R75, R76)."""
        self.path.purge_staged()
        self.timers.on(Occasion.STOPPED, now)
        self.watch.reset()
        self.forget_keys()
        self.handshake.last_sent = None
        self.handshake.attempts = 0

    def suspended(self, now: int) -> None:
        """The machine slept: what an attacker could have read is worthless (R41)."""
        self.timers.on(Occasion.SUSPENDED, now)
        self.forget_keys()

    def forget_keys(self) -> None:
        self._no_cookie()
        self.handshake.clear()
        self.slots.forget()
        self.local.admission.ended(self)

    def identity_changed(self) -> None:
        """Our private key is another one (R67)."""
        self.handshake.remote.forget()
        self.handshake.clear()
        self.handshake.last_sent = None
        self.slots.invalidate_sending()

    # --- sending handshakes

    def initiate(self, now: int, wall: int, *, retry: bool = False) -> None:
        """Sends an initiation, unless it is too early for one (R17)."""
        local, handshake = self.local, self.handshake
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
        self.timers.on(Occasion.INITIATION_SENT, now)

    def _send(self, index: int, message: bytes, now: int) -> None:
        """`index` is the message's sender index, which a cookie reply would name."""
        jar = self.handshake.jar
        data = jar.add_macs(message, now, self.local.timing)
        path = self.path
        endpoint = path.endpoint
        if endpoint is None:
            return
        path.expect_cookie(index, jar.mac1_of(data), jar.cookie_key)
        path.note_sent(now, len(data))
        self.local.outbox.append(
            Datagram(data, Endpoint(*endpoint), path.source, HANDSHAKE_TOS, path)
        )
        self.watch.ensure_persistent(now)

    # --- receiving handshakes

    def _received(self, arrival: Arrival) -> None:
        """An authentic handshake message; it moves the endpoint (R54)."""
        moved = self.path.endpoint != arrival.endpoint
        self.path.note_received(
            arrival.now, arrival.size, arrival.endpoint, arrival.source
        )
        self.watch.ensure_persistent(arrival.now)
        if moved:
            self.local.events.append(EndpointMoved(self))

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
            self.local.admission.check_room(self, now)
        except HandshakeError:
            return False
        return not self.handshake.refusal(consumed, now)

    def respond(self, answer: Answer, sender: int, arrival: Arrival) -> None:
        """An authentic initiation: admit it, respond, keep the session in next."""
        local, handshake, now = self.local, self.handshake, arrival.now
        handshake.admit(answer.consumed, now)
        handshake.clear()
        self._received(arrival)
        handshake.last_sent = now
        fields, keys = answer.response or run(handshake.response_steps(answer))
        index = local.indices.new_keypair(self, self.path.own_index)
        self.slots.responded(index, sender, keys, now)
        local.admission.began(self, now)
        self.timers.on(Occasion.SESSION_DERIVED, now)
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
        self.local.indices.promote(message.receiver)
        self._received(arrival)
        self.slots.initiated(message.receiver, message.sender, keys, arrival.now)
        self.local.admission.began(self, arrival.now)
        self.timers.on(Occasion.SESSION_DERIVED, arrival.now)
        self._complete(arrival.now, arrival.wall)
        self.path.flush(keepalive=True)

    def _complete(self, now: int, wall: int) -> None:
        self._no_cookie()
        self.timers.on(Occasion.HANDSHAKE_COMPLETE, now)
        self.handshake.attempts = 0
        self.handshake.last_minute_done = False
        self.last_handshake_wall = wall
        self.local.events.append(HandshakeComplete(self))

    def confirm_if_due(self, now: int, wall: int) -> None:
        """Data arrived under the session in next: it is the current one (R21, R22)."""
        if self.slots.confirm_if_due():
            self._complete(now, wall)
            self.path.flush(keepalive=False)
