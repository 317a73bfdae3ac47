"""Serves many clients of the UAPI's Unix socket, and watches its file.

Non-blocking on the control loop. A slow client costs its own buffer and nothing
else: what it has not read stops its own reading, and when there are too many the one
that has been silent the longest has to go.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tunnel.api.uapi import Applied, Control, UapiDevice, UapiSession
from tunnel.api.uapi_moves import MoveLog
from tunnel.api.unix_sockets import SocketFile
from tunnel.io.presence_linux import Presence
from tunnel.loop import ControlLoop

__all__ = ["UapiServer"]

log = logging.getLogger("tunnel.uapi")

_CHUNK: Final = 64 << 10
_MAX_CLIENTS: Final = 256
_ACCEPT_AT_ONCE: Final = 32
_PAUSE: Final = 100_000_000  # after accept ran out of descriptors
_WATCH: Final = 250_000_000  # how often the file is looked at where nothing tells


class _Client:
    """One connection."""

    __slots__ = ("_begun", "last_seen", "pending", "session", "sock")

    session: UapiSession

    def __init__(self, sock: socket.socket, now: int) -> None:
        self.sock = sock
        self.pending = memoryview(b"")
        self.last_seen = now
        self._begun: deque[bytes] = deque()

    def begin(self, data: bytes) -> None:
        """Sends the beginning of an answer, or as much of it as fits by now."""
        self._begun.append(data)
        # full, or gone: that shows when the rest is sent
        with contextlib.suppress(OSError):
            while self._begun and not self.pending:
                sent = self.sock.send(self._begun[0])
                rest = self._begun.popleft()[sent:]
                if rest:
                    self._begun.appendleft(rest)

    def left(self, end: bytes) -> bytes:
        """What is still to be sent of an answer that ends like this."""
        if self._begun:
            end = b"".join([*self._begun, end])
            self._begun.clear()
        return end


class UapiServer:
    """Serves a listening socket until `close`.

    `on_gone` is called once when the socket's file has been deleted or replaced
    (R74); pass a `path` of None for a socket that has no file to watch (WG_UAPI_FD).
    `control` answers our own verb, `applied` hears of every `set`.
    """

    def __init__(
        self,
        loop: ControlLoop,
        device: UapiDevice,
        listener: socket.socket,
        *,
        path: Path | None,
        on_gone: Callable[[], None],
        control: Control | None = None,
        applied: Applied | None = None,
    ) -> None:
        self._loop = loop
        self._device = device
        self._listener = listener
        self._file = SocketFile(path) if path is not None else None
        self._on_gone = on_gone
        self._control = control
        self._applied = applied
        self._moves = MoveLog(loop.call_later, loop.now)
        self._clients: dict[int, _Client] = {}
        self._closed = False
        listener.setblocking(False)
        loop.add_reader(listener.fileno(), self._accept)
        self._presence = Presence.watch(path) if path is not None else None
        if self._presence is not None:
            loop.add_reader(self._presence.fileno(), self._hinted)
        if path is not None:
            self._watch()  # also what happened before the watch was there

    def _hinted(self) -> None:
        if self._presence is not None:
            self._presence.read()
            self._watch()

    def _watch(self) -> None:
        """Looks at the file; again when something tells, or else in a while."""
        if self._closed or self._file is None:
            return
        if not self._file.is_ours:
            log.info("the UAPI socket was removed")
            self._file = None
            self._forget_file()
            self._on_gone()
        elif self._presence is None:
            self._loop.call_later(_WATCH, self._watch)

    def _forget_file(self) -> None:
        if self._presence is not None:
            self._loop.remove_reader(self._presence.fileno())
            self._presence.close()
            self._presence = None

    def _accept(self) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                    raise
                # level-triggered: without a pause this would spin
                self._loop.remove_reader(self._listener.fileno())
                self._loop.call_later(_PAUSE, self._listen_again)
                return
            self._welcome(sock)

    def _welcome(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if len(self._clients) >= _MAX_CLIENTS:
            self._drop(min(self._clients.values(), key=lambda c: c.last_seen))
        client = _Client(sock, self._loop.now())
        client.session = UapiSession(
            self._device,
            control=self._control,
            late=lambda answer: self._late(client, answer),
            early=client.begin,
            applied=self._applied,
            moves=self._moves,
        )
        self._clients[sock.fileno()] = client
        self._loop.add_reader(sock.fileno(), lambda: self._readable(client))

    def _listen_again(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _readable(self, client: _Client) -> None:
        try:
            data = client.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(client)
            return
        client.last_seen = self._loop.now()
        answer = client.left(client.session.feed(data))
        if answer:
            client.pending = memoryview(answer)
            self._write(client)
        elif client.session.waiting:
            self._loop.remove_reader(client.sock.fileno())
        elif client.session.closing:
            self._drop(client)

    def _late(self, client: _Client, answer: bytes) -> None:
        """The answer to `tunnel=1`, in a later round of the loop."""
        if self._clients.get(client.sock.fileno()) is client:
            client.pending = memoryview(bytes(client.pending) + client.left(answer))
            self._write(client)

    def _write(self, client: _Client) -> None:
        """Sends what the client takes; while something is left, nothing is read."""
        fd = client.sock.fileno()
        try:
            sent = client.sock.send(client.pending)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.pending = client.pending[sent:]
        if client.pending:
            self._loop.remove_reader(fd)
            self._loop.add_writer(fd, lambda: self._write(client))
        elif client.session.waiting:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
        elif client.session.closing:
            self._drop(client)
        else:
            self._loop.remove_writer(fd)
            self._loop.add_reader(fd, lambda: self._readable(client))

    def _drop(self, client: _Client) -> None:
        fd = client.sock.fileno()
        if self._clients.pop(fd, None) is not None:
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            client.sock.close()

    def close(self) -> None:
        """Hangs up on everybody and removes the socket's file if it is still ours."""
        if self._closed:
            return
        self._closed = True
        self._forget_file()
        for client in list(self._clients.values()):
            self._drop(client)
        self._loop.remove_reader(self._listener.fileno())
        if self._file is not None:
            self._file.remove()
        self._listener.close()
