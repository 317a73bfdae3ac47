"""The text of the WireGuard UAPI, in pieces of any size, into requests.

A request is parsed to its end before anything is done about it, and one bad line
refuses all of it (R73). Memory is bounded: a line has at most `MAX_LINE` bytes, a
request at most `MAX_REQUEST`. No socket is read here.

Nearly every section of a `wg syncconf` describes a peer as it is already. A parser that
knows the peers has those passed over in C and notes only whose they were.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Final

from tunnel._fastpath.uapi import unchanged
from tunnel.api.uapi_keys import DEVICE_KEYS, PEER_KEYS
from tunnel.api.uapi_requests import (
    UNSET,
    ControlRequest,
    GetRequest,
    PeerEdit,
    Peers,
    Request,
    SetRequest,
    Unchanged,
)
from tunnel.api.uapi_values import invalid, parse_key
from tunnel.errors import UapiError
from tunnel.state.model import PeerState

__all__ = [
    "UNSET",
    "ControlRequest",
    "GetRequest",
    "Parser",
    "PeerEdit",
    "Request",
    "SetRequest",
    "parse_unchanged",
]

MAX_LINE: Final = 4096
MAX_REQUEST: Final = 64 << 20
MAX_CONTROL: Final = 16 << 20  # the one line of a request of our own

_PUBLIC_KEY: Final = b"\npublic_key="


class Parser:
    """Feed it what arrives; take requests out. One per connection.

    A request that is wrong comes out as the `UapiError` to answer with, after its
    blank line, so that the sender is not cut off while it is still writing. When
    `broken` is set, the stream cannot be followed any further.

    `known` are the peers as they are by now. Without it no section is `unchanged`.
    """

    __slots__ = ("_error", "_known", "_peer", "_rest", "_size", "_target", "broken")

    def __init__(self, known: Callable[[], Peers] | None = None) -> None:
        self._known = known
        self._rest = b""  # a line, or a section, without its end
        self._size = 0  # of the request so far
        self._target: Request | None = None
        self._peer: PeerEdit | None = None
        self._error: UapiError | None = None
        self.broken = False

    def feed(self, data: bytes) -> Iterator[Request | UapiError]:
        """Consume all of what it yields before feeding more."""
        data, at = self._rest + data, 0
        self._rest = b""
        while at < len(data):
            at, end = self._pass_over(data, at)
            lines = data[at:end].split(b"\n")
            self._rest += lines.pop()
            at = end
            for line in lines:
                if self._peer is not None and self._plain(line):
                    continue  # nearly every line there is
                if self.broken:
                    return
                finished = self._line(line)
                if finished is not None:
                    yield finished
        if len(self._rest) > self._longest() and not self.broken:
            yield self._break("a line is too long")

    def _pass_over(self, data: bytes, at: int) -> tuple[int, int]:
        """Notes the sections from `at` on that say nothing new. The lines between the
        two places returned are to be taken one by one; a section whose end is still to
        come waits for it in `_rest`."""
        target, whole = self._target, len(data)
        peers = self._known() if self._known is not None else None
        if not peers:
            return at, whole
        if isinstance(target, SetRequest):
            size = self._size + whole - at
            if target.replace_peers or self._error is not None or size > MAX_REQUEST:
                return at, whole  # all are new; or each line has to be looked at
            start, states = at, list[PeerState]()
            at, cut = unchanged(data, start, peers, states)
            if states:
                run = Unchanged(len(target.peers), peers, states, data[start:at])
                target.unchanged.append(run)
                self._size += len(run.text) - run.text.count(b"\n")
            if cut and whole - at <= MAX_LINE:
                self._rest = data[at:]
                return whole, whole
        found = data.find(_PUBLIC_KEY, at)
        return at, found + 1 if found >= 0 else whole

    def _plain(self, line: bytes) -> bool:
        """Takes a good line of a peer; what `_line` would do about it, in less time."""
        peer, size = self._peer, self._size + len(line)
        key, equals, value = line.partition(b"=")
        if (
            peer is None
            or self._error is not None
            or not equals
            or size > MAX_REQUEST
            or len(line) > MAX_LINE
        ):
            return False
        change = PEER_KEYS.get(key)
        try:
            if change is not None:
                change(peer, value)
            elif key == b"public_key":
                self._begin_peer(value)
            else:
                return False
        except UapiError as error:
            self._error = error
        self._size = size
        return True

    def _begin_peer(self, value: bytes) -> None:
        assert isinstance(self._target, SetRequest)
        self._peer = PeerEdit(parse_key(value))
        self._target.peers.append(self._peer)

    def _break(self, reason: str) -> UapiError:
        self.broken = True
        self._rest = b""
        self._reset()
        return UapiError(errno.EPROTO, reason)

    def _reset(self) -> None:
        self._target = self._peer = self._error = None
        self._size = 0

    def _longest(self) -> int:
        return MAX_CONTROL if isinstance(self._target, ControlRequest) else MAX_LINE

    def _line(self, line: bytes) -> Request | UapiError | None:
        self._size += len(line)
        if (
            len(line) > MAX_LINE and len(line) > self._longest()
        ) or self._size > MAX_REQUEST:
            return self._break("a line or a request is too long")
        if self._target is None:
            return self._first(line)
        if not line:
            finished = self._error or self._target
            self._reset()
            return finished
        if self._error is None:
            try:
                self._edit(line)
            except UapiError as error:
                self._error = error
        return None

    def _first(self, line: bytes) -> UapiError | None:
        if line == b"get=1":
            self._target = GetRequest()
        elif line == b"set=1":
            self._target = SetRequest()
        elif line == b"tunnel=1":
            self._target = ControlRequest()
        else:
            return self._break("a request starts with get=1 or set=1")
        return None

    def _edit(self, line: bytes) -> None:
        if isinstance(self._target, ControlRequest):
            if self._target.line:
                raise invalid("tunnel=1 takes one line")
            self._target.line = line
            return
        key, equals, value = line.partition(b"=")
        if not equals:
            raise UapiError(errno.EPROTO, "a line is key=value")
        if not isinstance(self._target, SetRequest):
            raise invalid("get takes no keys")
        if key == b"public_key":
            self._begin_peer(value)
        elif self._peer is not None:
            change_peer = PEER_KEYS.get(key)
            if change_peer is None:
                raise invalid("unknown key of a peer")
            change_peer(self._peer, value)
        else:
            change_device = DEVICE_KEYS.get(key)
            if change_device is None:
                raise invalid("unknown key of the device")
            change_device(self._target, value)


def parse_unchanged(run: Unchanged) -> list[PeerEdit]:
    """What was passed over, parsed after all."""
    (request,) = Parser().feed(b"set=1\n%b\n" % run.text)
    assert isinstance(request, SetRequest)
    return request.peers
