"""The WireGuard UAPI: `get` and `set` for one connection, without any socket.

A `set` is parsed to its end, folded over the running state, compared, and the plan
is applied: all of it or, with an errno, nothing of it.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from tunnel._fastpath.uapi import peers_text
from tunnel.api.uapi_edits import EditView, edit
from tunnel.api.uapi_moves import MoveLog
from tunnel.api.uapi_parse import (
    ControlRequest,
    GetRequest,
    Parser,
    Request,
    SetRequest,
)
from tunnel.errors import NotPermitted, TunnelError, UapiError
from tunnel.state.model import DeviceState, clamp
from tunnel.state.plan import Plan, diff

__all__ = ["Applied", "Control", "UapiDevice", "UapiSession"]

log = logging.getLogger("tunnel.uapi")

_PEERS_AT_ONCE = 128
_EARLY = 16 << 10  # bytes: not worth a system call below


Applied = Callable[[Plan, Exception | None], None]
"""Told of every `set`: its plan, and the error if it was not applied."""

Control = Callable[[bytes, Callable[[bytes], None]], None]
"""Answers the line of a `tunnel=1` through its callback, now or later."""


class UapiDevice(EditView, Protocol):
    """The device as the UAPI uses it."""

    @property
    def generation(self) -> int: ...

    @property
    def listen_port(self) -> int:
        """The port in use, or the one that is configured while there is none."""

    def observe(self) -> DeviceState: ...

    def apply(self, plan: Plan) -> int: ...

    @property
    def live_peers(self) -> Mapping[bytes, object]:
        """What is live of each peer: see `peers_text`."""


class UapiSession:
    """Answers one client: bytes in, bytes out; `closing` asks to hang up.

    Without `control` there is no `tunnel=1`. Its answer may come `late`; until then the
    session is `waiting` and answers nothing else. `early` takes the beginning of a
    long answer, which the client can read while the rest is made; `feed` returns what
    is left of it. `moves` warns of prefixes that other peers lose.
    """

    __slots__ = ("_applied", "_control", "_device", "_early", "_late", "_moves",
                 "_parser", "_queue", "waiting")  # fmt: skip

    def __init__(
        self,
        device: UapiDevice,
        *,
        control: Control | None = None,
        late: Callable[[bytes], None] | None = None,
        early: Callable[[bytes], None] | None = None,
        applied: Applied | None = None,
        moves: MoveLog | None = None,
    ) -> None:
        self._device = device
        self._control = control
        self._late = late
        self._early = early
        self._applied = applied
        self._moves = moves
        self._parser = Parser(lambda: device.observe().peers)
        self._queue: deque[Request | UapiError] = deque()
        self.waiting = False

    @property
    def closing(self) -> bool:
        return self._parser.broken and not self.waiting

    def feed(self, data: bytes) -> bytes:
        """Handles every request that `data` completes; returns their answers."""
        answers: list[bytes] = []
        for request in self._parser.feed(data):
            self._queue.append(request)
            self._work(answers)
        return b"".join(answers)

    def _work(self, answers: list[bytes]) -> None:
        """Answers what is in the queue, up to one whose answer comes late."""
        while self._queue and not self.waiting:
            request = self._queue.popleft()
            if isinstance(request, GetRequest):
                self._get(answers)
            else:
                answers.append(self._answer(request))

    def _get(self, answers: list[bytes]) -> None:
        """Everything but the last piece goes out at once if it can."""
        try:
            for piece in get_pieces(self._device):
                answers.append(piece)
                if self._early is not None and len(piece) > _EARLY:
                    self._early(b"".join(answers))
                    answers.clear()
            answers.append(b"errno=0\n\n")
        except Exception as error:  # noqa: BLE001 - as in _answer
            answers.append(b"errno=-%d\n\n" % _errno(error))

    def _ask_control(self, line: bytes) -> bytes:
        """The answer, or nothing and `waiting` if it comes late."""
        if self._control is None or self._late is None:
            raise UapiError(errno.EINVAL, "only tunnel up knows tunnel=1")
        now: list[bytes] = []
        late = self._late
        self.waiting = True
        returned = False

        def reply(answer: bytes) -> None:
            self.waiting = False
            if returned:
                answers = [answer]
                self._work(answers)
                late(b"".join(answers))
            else:
                now.append(answer)

        self._control(line, reply)
        returned = True
        return b"".join(now)

    def _answer(self, request: Request | UapiError) -> bytes:
        try:
            if isinstance(request, UapiError):
                raise request
            if isinstance(request, ControlRequest):
                return self._ask_control(request.line)
            assert isinstance(request, SetRequest)
            apply_request(self._device, request, self._applied, self._moves)
        except Exception as error:  # noqa: BLE001 - a client must not end the tunnel
            return b"errno=-%d\n\n" % _errno(error)
        return b"errno=0\n\n"


def apply_request(
    device: UapiDevice,
    request: SetRequest,
    applied: Applied | None = None,
    moves: MoveLog | None = None,
) -> None:
    """One `set`; raises the error it was refused with."""
    edited = edit(device.observe(), request, device)
    plan = diff(
        edited.observed,
        edited.desired,
        generation=device.generation,
        only=edited.only,
    )
    try:
        device.apply(plan)
    except Exception as error:
        if applied is not None:
            applied(plan, error)
        raise
    if applied is not None:
        applied(plan, None)
    if moves is not None:
        moves.note(plan, edited.desired)


def _errno(error: Exception) -> int:
    """The code a client gets; an unexpected error is logged with its place."""
    if isinstance(error, UapiError):
        log.debug("UAPI request refused: %s", error)
        return error.errno
    for cause in (error, error.__cause__):
        if isinstance(cause, OSError) and cause.errno:
            log.warning("UAPI set failed, nothing was changed: %s", error)
            return cause.errno
    if isinstance(error, TunnelError):
        log.warning("UAPI set failed, nothing was changed: %s", error)
        return errno.EPERM if isinstance(error, NotPermitted) else errno.EIO
    log.error("UAPI request failed", exc_info=error)
    return errno.EIO


# --- get


def _device_text(device: UapiDevice, state: DeviceState) -> str:
    key, text = state.private_key, ""
    if key is not None:
        text = f"private_key={clamp(key.reveal()).hex()}\n"
    if device.listen_port:
        text += f"listen_port={device.listen_port}\n"
    if state.fwmark:
        text += f"fwmark={state.fwmark}\n"
    return text


def get_pieces(device: UapiDevice) -> Iterator[bytes]:
    """The whole configuration with its secrets, some peers at a time: only for the
    UAPI socket."""
    state, live = device.observe(), device.live_peers
    yield _device_text(device, state).encode()
    peers = list(state.peers.values())
    for start in range(0, len(peers), _PEERS_AT_ONCE):
        yield peers_text(peers[start : start + _PEERS_AT_ONCE], live)
