"""Who gets a connection: decided when it is accepted, before it holds anything.

Takes the place of asyncio's own loop around `accept`, which lets everybody in, and
which without a free descriptor complains and starts itself anew many times over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from tunnel.api.http_protocol import ProblemProtocol
from tunnel.api.http_sockets import BACKLOG
from tunnel.api.problems import Refusal

__all__ = ["Acceptor"]

log = logging.getLogger("tunnel.http")

_REST_SECONDS: Final = 1.0
_BUSY: Final = Refusal(503, "busy", "too many connections")


class Acceptor:
    """Accepts at `listener`, in the event loop in which it is started.

    `refuses` says why the peer's address (as `accept` has it) may not connect, or None;
    `make` gives a protocol for a new connection, `connections` are those there are.
    When there are `most`, the one that has been waiting longest for a request of its
    client ends; when none is, the new one is refused.
    """

    def __init__(
        self,
        listener: socket.socket,
        *,
        make: Callable[[], ProblemProtocol],
        refuses: Callable[[Any], Refusal | None],
        connections: set[Any],
        most: int,
    ) -> None:
        self._listener = listener
        self._make = make
        self._refuses = refuses
        self._connections = connections
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._arriving: set[asyncio.Task[Any]] = set()
        self._resting: asyncio.TimerHandle | None = None
        self._complained = False

    def start(self) -> None:
        """From now on, until `stop`."""
        self._resting = None
        self._loop.add_reader(self._listener, self._accept)

    def stop(self) -> None:
        """Accepts no more; what was accepted gets its transport within two turns of
        the loop."""
        self._loop.remove_reader(self._listener)
        if self._resting is not None:
            self._resting.cancel()

    def _accept(self) -> None:
        """At most `BACKLOG`, so that others in this loop get their turn."""
        for _ in range(BACKLOG):
            try:
                client, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is free, most likely
                self._rest(error)
                return
            self._complained = False
            self._receive(client, peer)

    def _rest(self, error: OSError) -> None:
        """Who comes waits in the backlog; this is said once until it is over."""
        if not self._complained:
            self._complained = True
            log.error("the HTTP API cannot accept connections: %s", error.strerror)
        self._loop.remove_reader(self._listener)
        self._resting = self._loop.call_later(_REST_SECONDS, self.start)

    def _receive(self, client: socket.socket, peer: Any) -> None:
        refusal = self._refuses(peer)
        if refusal is None and not self._has_room():
            refusal = _BUSY
        if refusal is None:
            self._let_in(client)
        else:
            _turn_away(client, refusal)

    def _has_room(self) -> bool:
        if len(self._connections) < self._most:
            return True
        waiting = [one for one in self._connections if one.waiting_since is not None]
        if not waiting:
            return False
        oldest = min(waiting, key=lambda one: one.waiting_since)
        self._connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _let_in(self, client: socket.socket) -> None:
        client.setblocking(False)
        protocol = self._make()
        self._connections.add(protocol)  # it counts at once
        coming = self._loop.create_task(
            self._loop.connect_accepted_socket(lambda: protocol, client)
        )
        self._arriving.add(coming)

        def arrived(task: asyncio.Task[Any]) -> None:
            self._arriving.discard(task)
            if task.cancelled() or task.exception() is not None:
                self._connections.discard(protocol)
                client.close()

        coming.add_done_callback(arrived)


def _turn_away(client: socket.socket, refusal: Refusal) -> None:
    """Says why without waiting for a request, nor for anything else."""
    body = refusal.body()
    headers = refusal.all_headers() | {
        "content-length": str(len(body)),
        "connection": "close",
    }
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with client:
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.recv(1 << 16)  # unread, it would make the end a reset
        with contextlib.suppress(OSError):
            client.send("\r\n".join([*lines, "", ""]).encode() + body)
