"""Thousands of clients that call one engine within a quarter of a second, each from an
address of its own, played by one socket.

The initiations are made before the clock starts. A client that gets no response calls
again after 5 s and up to a third of a second, as WireGuard does, with a cookie if it
was given one meanwhile. It calls with the same message: an initiation that was not
worked off used up no time stamp. Where it was, and the response was lost, that message
is a replay, and so every further one is new.
"""

from __future__ import annotations

import os
import random
import select
import socket
import struct
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import heappop, heappush

from lab.echo import echo_request
from lab.network import Namespace

from side_by_side.callers import Caller, session_of
from side_by_side.clients import GENERATION, Client, players_socket
from tunnel._fastpath.aead import seal_batch
from tunnel.protocol import noise
from tunnel.protocol.cookie import cookie_key, mac1_key
from tunnel.protocol.messages import CookieReply, DataHeader, Initiation, unpack
from tunnel.protocol.noise import SessionKeys
from tunnel.protocol.primitives import mac, xunseal
from tunnel.protocol.tai64n import Clock

__all__ = ["Storm"]

SPREAD_S = 0.25  # of all first calls: more at once would be lost before the engine
RETRY_S = 5.0
RETRY_JITTER_S = 0.333
ECHO_S = 0.5
NEARLY = 0.98  # the rest are those whose call was lost on the way, and who wait
SAME_CALLS = 2  # then a new initiation
_MAC = 16
_INDEX = struct.Struct("<I")
_RESPONSE, _COOKIE_REPLY, _DATA = 2, 3, 4
_KEEPALIVE_BYTES = 32


@dataclass(slots=True)
class Storm:
    """The clients against the engine at `server`; they live in the namespace `host`."""

    clients: Sequence[Client]
    server: tuple[str, int]
    server_public: bytes
    host: Namespace
    calls: int = 0
    cookies: int = 0
    answered: int = 0
    echoed: int = 0
    nearly: float = 0.0
    _sock: socket.socket = field(init=False)
    _due: list[tuple[float, int]] = field(init=False)
    _replies: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sock = players_socket(self.host)

    def close(self) -> None:
        self._sock.close()

    # --- everybody calls

    def run(self, seconds: float) -> float:
        """Until everybody has a response, or for `seconds`; seconds to the last one.
        `nearly` becomes the time (time.perf_counter) at which NEARLY of them had."""
        start = last = time.perf_counter()
        end = start + seconds
        apart = SPREAD_S / len(self.clients)
        self._due = [(start + n * apart, n) for n in range(len(self.clients))]
        while self.answered < len(self.clients):
            now = time.perf_counter()
            if now >= end:
                break
            self._call_due(now)
            before = self.answered
            self._receive(min(end, self._due[0][0]) if self._due else end)
            if self.answered > before:
                last = time.perf_counter()
            if before < NEARLY * len(self.clients) <= self.answered:
                self.nearly = last
        return last - start

    def _call_due(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, number = heappop(self._due)
            client = self.clients[number]
            if not client.caller.response:
                self._send(client, self._message(client, number))
                self.calls += 1
                again = now + RETRY_S + random.random() * RETRY_JITTER_S
                heappush(self._due, (again, number))

    def _message(self, client: Client, number: int) -> bytes:
        caller = client.caller
        caller.attempts += 1
        if caller.attempts > SAME_CALLS:
            self._initiate_anew(caller, number + 1 + caller.attempts * GENERATION)
        if client.cookie:
            return caller.with_cookie(client.cookie)
        return caller.initiation

    def _initiate_anew(self, caller: Caller, index: int) -> None:
        remote = noise.Remote(self.server_public)
        stamp = Clock().stamp(time.time_ns())
        fields, caller.initiated = noise.create_initiation(
            caller.identity, remote, stamp, os.urandom(32)
        )
        body = Initiation(index, *fields).pack()
        caller.initiation = body + mac(mac1_key(self.server_public), body) + bytes(_MAC)

    def _send(self, client: Client, message: bytes) -> None:
        with suppress(BlockingIOError):  # as if the network had lost it
            self._sock.sendmsg([message], client.control, 0, self.server)

    def _receive(self, until: float) -> None:
        """What is there; waits for it, and reads cookies while there is nothing."""
        if not self._drain():
            self._read_cookies()
            timeout = max(0.0, until - time.perf_counter())
            select.select([self._sock], [], [], timeout)
            self._drain()

    def _drain(self) -> int:
        count = 0
        receive = self._sock.recv
        try:
            while True:
                self._take(receive(2048))
                count += 1
        except BlockingIOError:
            return count

    def _take(self, data: bytes) -> None:
        if data[0] == _RESPONSE:
            caller = self._named(data, 8).caller
            if caller.initiation[4:8] == data[8:12]:  # or it is to an earlier one
                self.answered += not caller.response
                caller.response = data
        elif data[0] == _COOKIE_REPLY:
            self._replies.append(data)
        elif data[0] == _DATA and len(data) > _KEEPALIVE_BYTES:
            client = self._named(data, 4)
            self.echoed += not client.echoed
            client.echoed = True

    def _named(self, data: bytes, at: int) -> Client:
        return self.clients[_INDEX.unpack_from(data, at)[0] % GENERATION - 1]

    def _read_cookies(self) -> None:
        key = cookie_key(self.server_public)
        for data in self._replies:
            reply = unpack(data)
            assert isinstance(reply, CookieReply)
            client = self._named(data, 4)
            mac1 = client.caller.initiation[-2 * _MAC : -_MAC]
            sealed = reply.encrypted_cookie
            client.cookie = xunseal(key, reply.nonce, sealed, mac1)
        self.cookies += len(self._replies)
        self._replies.clear()

    # --- everybody confirms, and is heard

    def sessions(self) -> list[tuple[int, SessionKeys]]:
        """Each client's index at the engine and keys. A response that is not authentic
        raises HandshakeError."""
        return [session_of(client.caller) for client in self.clients]

    def confirm(
        self, sessions: Sequence[tuple[int, SessionKeys]], target: str, seconds: float
    ) -> float:
        """Everybody sends its first packets, echo requests to `target` inside, one each
        ECHO_S until one is answered through the tunnel; seconds to the last of them."""
        inner = [echo_request(client.inside, target) for client in self.clients]
        start = last = time.perf_counter()
        for number in range(round(seconds / ECHO_S)):
            for index, client in enumerate(self.clients):
                if not client.echoed:
                    receiver, keys = sessions[index]
                    (sealed,) = seal_batch(keys.send, [inner[index]], [number])
                    self._send(client, DataHeader(receiver, number).pack() + sealed)
            round_end = time.perf_counter() + ECHO_S
            while time.perf_counter() < round_end:
                before = self.echoed
                self._receive(round_end)
                last = time.perf_counter() if self.echoed > before else last
                if self.echoed == len(self.clients):
                    return last - start
        return last - start
