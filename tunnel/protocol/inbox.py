"""Handshake messages that come in, many at a time.

What comes of them is what would come of taking one after the other: the same messages
go out in the same order, the same sessions and counters result. Only the curve is
shared (`together`): first all messages are looked at, then everything is computed that
those which are admitted need, and then each takes effect, in order of arrival.

Before its turn a message changes nothing. What was computed for it is used only if the
state it was computed for is still there; otherwise it is computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from tunnel.protocol import noise
from tunnel.protocol.cookie import CookieChecker, MacState
from tunnel.protocol.handshake import Answer, Completion
from tunnel.protocol.local import Local
from tunnel.protocol.messages import CookieReply, Initiation, Response, unpack
from tunnel.protocol.peer import Peer
from tunnel.protocol.primitives import KEY_SIZE, HandshakeError, PrivateKey
from tunnel.protocol.together import Steps, run_together
from tunnel.protocol.types import Arrival, Datagram, Endpoint, Source

__all__ = ["Inbox", "Incoming", "Received"]


class Incoming(Protocol):
    """A datagram as the packet path hands it over."""

    @property
    def data(self) -> bytes: ...
    @property
    def endpoint(self) -> tuple[bytes, int, int]: ...
    @property
    def source(self) -> Source | None: ...


class Received(NamedTuple):
    """One that is made by hand."""

    data: bytes
    endpoint: tuple[bytes, int, int]
    source: Source | None


class _Case(NamedTuple):
    """`effect` is given what `steps` led to, when it is this message's turn."""

    effect: Callable[[Any], None]
    steps: Steps[Any] | None = None


class Inbox:
    """Belongs to one Node, whose peers these are."""

    __slots__ = ("_checker", "_local", "_peers")

    def __init__(
        self, local: Local, checker: CookieChecker, peers: dict[bytes, Peer]
    ) -> None:
        self._local = local
        self._checker = checker
        self._peers = peers

    def receive(
        self, messages: Sequence[Incoming], now: int, wall: int, *, queued: int
    ) -> None:
        """`queued` is how many wait behind the last one."""
        local = self._local
        identity, behind = local.identity, queued + len(messages)
        if not local.up or identity is None:
            local.counters["handshake.not_ready"] += len(messages)
            return
        cases, answered = [], set[Peer]()
        for message in messages:
            behind -= 1
            size, endpoint = len(message.data), Endpoint(*message.endpoint)
            arrival = Arrival(now, wall, size, endpoint, message.source)
            cases.append(self._look(message.data, identity, arrival, behind, answered))
        outcomes = iter(run_together([each.steps for each in cases if each.steps]))
        for effect, steps in cases:
            try:
                effect(next(outcomes) if steps else None)
            except HandshakeError as error:
                local.counters[f"handshake.{error.reason}"] += 1

    # --- looking at them

    def _look(
        self,
        data: bytes,
        identity: noise.Identity,
        arrival: Arrival,
        queued: int,
        answered: set[Peer],
    ) -> _Case:
        """What a message leads to. Costs no exchange of keys."""
        try:
            self._local.admission.check_source(arrival.endpoint.address)
        except HandshakeError as error:
            return _Case(partial(_refuse, error))
        match unpack(data):
            case Initiation() as message:
                refused = self._refused(data, message.sender, arrival, queued)
                return refused or self._initiation(message, identity, arrival, answered)
            case Response() as message:
                refused = self._refused(data, message.sender, arrival, queued)
                return refused or self._response(message, identity, arrival)
            case CookieReply() as message:
                return _Case(partial(self._take_cookie, message, arrival.now))
            case _:
                return _Case(partial(_refuse, HandshakeError("malformed")))

    def _refused(
        self, data: bytes, sender: int, arrival: Arrival, queued: int
    ) -> _Case | None:
        """mac1, and under load mac2; the only answer to a stranger is a cookie."""
        now, endpoint = arrival.now, arrival.endpoint
        under_load = self._checker.under_load(queued, now)
        state = self._checker.check(data, endpoint, now, under_load=under_load)
        if state is MacState.ACCEPT:
            return None
        reply = None
        if state is MacState.DEMAND_COOKIE:
            sealed = self._checker.reply(data, sender, endpoint, now)
            # DSCP 0: the kernel marks only what goes to a known peer (socket.c)
            reply = Datagram(sealed, endpoint, arrival.source, 0)
        return _Case(partial(self._turn_away, state, reply))

    def _initiation(
        self,
        message: Initiation,
        identity: noise.Identity,
        arrival: Arrival,
        answered: set[Peer],
    ) -> _Case:
        ephemeral = PrivateKey(self._local.random_bytes(KEY_SIZE))
        return _Case(
            partial(self._answer, message.sender, arrival),
            self._answer_steps(message, identity, arrival.now, ephemeral, answered),
        )

    def _answer_steps(
        self,
        message: Initiation,
        identity: noise.Identity,
        now: int,
        ephemeral: PrivateKey,
        answered: set[Peer],
    ) -> Steps[tuple[Peer, Answer]]:
        """No response is made for what is bound to be refused: by what is known now,
        or because the same peer has an earlier message here."""
        fields = noise.InitiationFields(*message[1:])
        consumed = yield from noise.consume_initiation_steps(
            identity, fields, self._find, ephemeral
        )
        peer = self._peers[consumed.remote.public]
        answer = Answer(consumed, ephemeral)
        if peer not in answered and peer.would_answer(consumed, now):
            answered.add(peer)
            answer.response = yield from peer.handshake.response_steps(answer)
        return peer, answer

    def _find(self, public_key: bytes) -> noise.Remote | None:
        peer = self._peers.get(public_key)
        return peer.handshake.remote if peer else None

    def _response(
        self, message: Response, identity: noise.Identity, arrival: Arrival
    ) -> _Case:
        peer = self._local.indices.handshake(message.receiver)
        steps = peer.handshake.completion_steps(identity, message) if peer else None
        return _Case(partial(self._accept, message, identity, arrival), steps)

    # --- taking effect

    def _turn_away(self, state: MacState, reply: Datagram | None, _: None) -> None:
        self._local.counters[f"handshake.{state.value}"] += 1
        if reply is not None:
            self._local.outbox.append(reply)
            self._local.counters["cookie.sent"] += 1

    def _answer(
        self,
        sender: int,
        arrival: Arrival,
        outcome: tuple[Peer, Answer] | HandshakeError,
    ) -> None:
        if isinstance(outcome, HandshakeError):
            raise outcome
        peer, answer = outcome
        self._local.admission.check_room(peer, arrival.now)
        peer.confirm_if_due(arrival.now, arrival.wall)
        peer.respond(answer, sender, arrival)
        self._local.counters["initiation.received"] += 1
        self._local.deadlines.update(peer)

    def _accept(
        self,
        message: Response,
        identity: noise.Identity,
        arrival: Arrival,
        completion: Completion | None,
    ) -> None:
        peer = self._local.indices.handshake(message.receiver)
        if peer is None:
            raise HandshakeError("unknown_index")
        self._local.admission.check_room(peer, arrival.now)
        peer.confirm_if_due(arrival.now, arrival.wall)
        peer.accept(message, identity, arrival, completion)
        self._local.counters["response.received"] += 1
        self._local.deadlines.update(peer)

    def _take_cookie(self, message: CookieReply, now: int, _: None) -> None:
        """No timer, no roaming, no counter of bytes (R39)."""
        peer = self._local.indices.any_kind(message.receiver)
        if peer is None:
            raise HandshakeError("unknown_index")
        peer.take_cookie(message, now)
        self._local.counters["cookie.received"] += 1


def _refuse(error: HandshakeError, _: None) -> None:
    raise error
