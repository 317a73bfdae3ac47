"""Many clients of one engine, played by one socket: each calls once.

The messages are made before the clock starts, so that what is timed is the engine. All
clients have the same address, as behind one NAT. An engine that limits handshakes by
address answers with a cookie; the client then calls again with it, as it should.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from tunnel._fastpath.aead import seal_batch
from tunnel.constants import MESSAGE_COOKIE_REPLY_SIZE, MESSAGE_RESPONSE_SIZE
from tunnel.protocol import noise
from tunnel.protocol.cookie import cookie_key, mac1_key
from tunnel.protocol.messages import (
    CookieReply,
    DataHeader,
    Initiation,
    Response,
    unpack,
)
from tunnel.protocol.primitives import mac, xunseal
from tunnel.protocol.tai64n import Clock

__all__ = [
    "Caller",
    "Calls",
    "call_all",
    "confirm_all",
    "make_callers",
    "session_of",
]

OUTSTANDING = 32
PATIENCE_S = 0.5
ATTEMPTS = 5  # of one client; with cookies a second one is normal
_MAC = 16
_INDEX = struct.Struct("<I")


@dataclass(slots=True)
class Caller:
    """A client; its index on the wire is its place in the list plus one."""

    identity: noise.Identity
    initiated: noise.Initiated
    initiation: bytes  # mac2 zero
    response: bytes = b""
    attempts: int = 0

    @property
    def public_key(self) -> str:
        return b64encode(self.identity.public).decode()

    def with_cookie(self, cookie: bytes) -> bytes:
        covered = self.initiation[:-_MAC]
        return covered + mac(cookie, covered)


@dataclass(frozen=True, slots=True)
class Calls:
    answered: int
    seconds: float
    cookies: int


def make_callers(count: int, server_public: bytes) -> list[Caller]:
    remote_key, made = mac1_key(server_public), []
    for number in range(1, count + 1):
        identity, remote = noise.Identity(os.urandom(32)), noise.Remote(server_public)
        fields, initiated = noise.create_initiation(
            identity, remote, Clock().stamp(time.time_ns()), os.urandom(32)
        )
        body = Initiation(number, *fields).pack()
        message = body + mac(remote_key, body) + bytes(_MAC)
        made.append(Caller(identity, initiated, message))
    return made


class _Exchange:
    """Keeps OUTSTANDING calls under way until everybody is answered."""

    def __init__(
        self, callers: Sequence[Caller], sock: socket.socket, server_public: bytes
    ) -> None:
        self.callers = callers
        self.sock = sock
        self.waiting = list(range(len(callers), 0, -1))  # called from the end
        self.answered = self.cookies = 0
        self._cookie = b""
        self._cookie_key = cookie_key(server_public)

    def call_next(self) -> None:
        while self.waiting:
            caller = self.callers[self.waiting.pop() - 1]
            if not caller.response and caller.attempts < ATTEMPTS:
                caller.attempts += 1
                cookie = self._cookie
                message = caller.with_cookie(cookie) if cookie else caller.initiation
                self.sock.send(message)
                return

    def take(self, data: bytes) -> None:
        if len(data) == MESSAGE_RESPONSE_SIZE:
            caller = self.callers[_INDEX.unpack_from(data, 8)[0] - 1]
            self.answered += not caller.response
            caller.response = data
        elif len(data) == MESSAGE_COOKIE_REPLY_SIZE:
            self._take_cookie(data)
        else:  # the engine's own packets to a peer that it has a session with
            return
        self.call_next()

    def _take_cookie(self, data: bytes) -> None:
        reply = unpack(data)
        assert isinstance(reply, CookieReply)
        self.cookies += 1
        caller = self.callers[reply.receiver - 1]
        mac1 = caller.initiation[-2 * _MAC : -_MAC]
        self._cookie = xunseal(
            self._cookie_key, reply.nonce, reply.encrypted_cookie, mac1
        )
        self.waiting.insert(0, reply.receiver)

    def run(self) -> float:
        """Until all are answered or nothing comes; seconds to the last answer."""
        start = last = time.perf_counter()
        for _ in range(OUTSTANDING):
            self.call_next()
        while self.answered < len(self.callers):
            try:
                data = self.sock.recv(2048)
            except TimeoutError:
                break
            before = self.answered + self.cookies
            self.take(data)
            now = time.perf_counter()
            if self.answered + self.cookies > before:
                last = now
            elif now - last > PATIENCE_S:  # only its keepalives still come
                break
        return last - start

    def repeat_unanswered(self) -> None:
        self.waiting = [n for n, c in enumerate(self.callers, 1) if not c.response]


def call_all(
    callers: Sequence[Caller],
    sock: socket.socket,
    server_public: bytes,
    *,
    persist: bool = False,
) -> Calls:
    """`sock` is connected to the engine. With `persist` it goes on, a second at a time,
    until everybody is answered or nobody was any more."""
    sock.settimeout(PATIENCE_S)
    exchange = _Exchange(callers, sock, server_public)
    seconds = exchange.run()
    before = 0
    while persist and before < exchange.answered < len(callers):
        before = exchange.answered
        exchange.repeat_unanswered()
        time.sleep(PATIENCE_S)
        seconds += exchange.run()
    return Calls(exchange.answered, seconds, exchange.cookies)


def confirm_all(callers: Sequence[Caller], sock: socket.socket) -> int:
    """Everybody who has an answer sends the empty packet that makes it a session."""
    confirmed = 0
    for caller in callers:
        if not caller.response:
            continue
        receiver, keys = session_of(caller)
        (empty,) = seal_batch(keys.send, [b""], [0])
        sock.send(DataHeader(receiver, 0).pack() + empty)
        confirmed += 1
    return confirmed


def session_of(caller: Caller) -> tuple[int, noise.SessionKeys]:
    """The index that the engine gave, and the keys; HandshakeError if the response is
    not authentic."""
    response = unpack(caller.response)
    assert isinstance(response, Response)
    fields = noise.ResponseFields(response.ephemeral, response.encrypted_nothing)
    keys = noise.consume_response(caller.identity, caller.initiated, fields, None)
    return response.sender, keys
