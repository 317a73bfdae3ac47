"""The WireGuard UAPI: `get` and `set` for one connection, without any socket.

A `set` is parsed to its end, folded over the running state, compared, and the plan
is applied: all of it or, with an errno, nothing of it.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from socket import AF_INET6, inet_ntop
from typing import Protocol

from tunnel.api.uapi_edits import EditView, edit
from tunnel.api.uapi_parse import (
    ControlRequest,
    GetRequest,
    Parser,
    Request,
    SetRequest,
)
from tunnel.errors import NotPermitted, TunnelError, UapiError
from tunnel.state.merge import who
from tunnel.state.model import DeviceState, Endpoint, PeerState, Prefix, clamp
from tunnel.state.plan import Plan, diff
from tunnel.status import Live

__all__ = ["Applied", "Control", "UapiDevice", "UapiSession"]

log = logging.getLogger("tunnel.uapi")

_NO_PSK = f"preshared_key={bytes(32).hex()}\n"
_HANDSHAKE = "last_handshake_time_sec=%d\nlast_handshake_time_nsec=%d\n"
_NEVER = _HANDSHAKE % (0, 0)
_MOVES_LOGGED = 20
_SECOND = 1_000_000_000
_PEERS_AT_ONCE = 128
_EARLY = 16 << 10  # bytes: not worth a system call below
_IPV4_PORT = "%d.%d.%d.%d:%d"  # twice as fast as inet_ntop, and there are many
_IPV4_PREFIX = "%d.%d.%d.%d/%d"


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

    def live(self, public_key: bytes) -> Live: ...


class UapiSession:
    """Answers one client: bytes in, bytes out; `closing` asks to hang up.

    Without `control` there is no `tunnel=1`. Its answer may come `late`; until then the
    session is `waiting` and answers nothing else. `early` takes the beginning of a
    long answer, which the client can read while the rest is made; `feed` returns what
    is left of it.
    """

    __slots__ = ("_applied", "_control", "_device", "_early", "_late", "_parser",
                 "_queue", "waiting")  # fmt: skip

    def __init__(
        self,
        device: UapiDevice,
        *,
        control: Control | None = None,
        late: Callable[[bytes], None] | None = None,
        early: Callable[[bytes], None] | None = None,
        applied: Applied | None = None,
    ) -> None:
        self._device = device
        self._control = control
        self._late = late
        self._early = early
        self._applied = applied
        self._parser = Parser()
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
                answers.append(piece.encode())
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
            apply_request(self._device, request, self._applied)
        except Exception as error:  # noqa: BLE001 - a client must not end the tunnel
            return b"errno=-%d\n\n" % _errno(error)
        return b"errno=0\n\n"


def apply_request(
    device: UapiDevice, request: SetRequest, applied: Applied | None = None
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
    _warn_of_moves(plan, edited.desired)


def _warn_of_moves(plan: Plan, state: DeviceState) -> None:
    """As in the kernel a prefix goes to whom it was given last; who lost it is still
    there and does not know."""
    peers = state.peers
    lost = [move for move in plan.moves if move.source in peers]
    for prefix, source, target in lost[:_MOVES_LOGGED]:
        log.warning(
            "allowed IP %s was taken from peer %s and belongs to peer %s now",
            prefix_text(prefix),
            who(peers[source]),
            who(peers[target]),
        )
    if len(lost) > _MOVES_LOGGED:
        log.warning("%d more allowed IPs moved", len(lost) - _MOVES_LOGGED)


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


def endpoint_text(endpoint: Endpoint) -> str:
    address, port, scope = endpoint
    if len(address) == 4:
        return _IPV4_PORT % (*address, port)
    text = inet_ntop(AF_INET6, address)
    return f"[{text}%{scope}]:{port}" if scope else f"[{text}]:{port}"


def prefix_text(prefix: Prefix) -> str:
    address, cidr = prefix
    if len(address) == 4:
        return _IPV4_PREFIX % (*address, cidr)
    return f"{inet_ntop(AF_INET6, address)}/{cidr}"


def _peer_text(peer: PeerState, live: Live) -> str:
    endpoint, handshake, rx_bytes, tx_bytes = live
    secret = peer.preshared_key
    psk = f"preshared_key={secret.reveal().hex()}\n" if secret else _NO_PSK
    where = f"endpoint={endpoint_text(endpoint)}\n" if endpoint else ""
    when = _NEVER
    if handshake:
        when = _HANDSHAKE % divmod(handshake, _SECOND)
    ips = "".join(
        [f"allowed_ip={prefix_text(prefix)}\n" for prefix in peer.allowed_ips]
    )
    return (
        f"public_key={peer.public_key.hex()}\n"
        f"{psk}protocol_version=1\n{where}{when}"
        f"tx_bytes={tx_bytes}\n"
        f"rx_bytes={rx_bytes}\n"
        f"persistent_keepalive_interval={peer.keepalive}\n"
        f"{ips}"
    )


def _texts(device: UapiDevice) -> Iterator[str]:
    state = device.observe()
    if state.private_key is not None:
        yield f"private_key={clamp(state.private_key.reveal()).hex()}\n"
    if device.listen_port:
        yield f"listen_port={device.listen_port}\n"
    if state.fwmark:
        yield f"fwmark={state.fwmark}\n"
    for key, peer in state.peers.items():
        if peer.enabled:
            yield _peer_text(peer, device.live(key))


def get_pieces(device: UapiDevice) -> Iterator[str]:
    """The whole configuration with its secrets, some peers at a time: only for the
    UAPI socket."""
    texts = _texts(device)
    while piece := "".join(islice(texts, _PEERS_AT_ONCE)):
        yield piece
