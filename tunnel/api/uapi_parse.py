"""The text of the WireGuard UAPI, in pieces of any size, into requests.

A request is parsed to its end before anything is done about it, and one bad line
refuses all of it (R73). Memory is bounded: a line has at most `MAX_LINE` bytes, a
request at most `MAX_REQUEST`. No socket is read here.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from socket import AF_INET, AF_INET6, if_nametoindex, inet_pton
from typing import Final

from tunnel.errors import UapiError
from tunnel.state.model import (
    Endpoint,
    Prefix,
    Secret,
    clamp,
    mask,
    secret_or_none,
)

__all__ = ["ControlRequest", "GetRequest", "Parser", "PeerEdit", "SetRequest"]

MAX_LINE: Final = 4096
MAX_REQUEST: Final = 64 << 20
MAX_CONTROL: Final = 16 << 20  # the one line of a request of our own
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Unset:
    """The type of `UNSET`: a field that the request does not mention."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET: Final = Unset()


@dataclass(slots=True)
class PeerEdit:
    """One `public_key=` section: what to do to that peer.

    `allowed_ips` is in the order given: (True, prefix) gives it to the peer, (False,
    prefix) takes it away, None takes all away (`replace_allowed_ips`).
    """

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: Secret | Unset | None = UNSET
    endpoint: Endpoint | Unset = UNSET
    keepalive: int | Unset = UNSET
    replace_allowed_ips: bool = False
    allowed_ips: list[tuple[bool, Prefix] | None] = field(default_factory=list)


@dataclass(slots=True)
class SetRequest:
    """A whole `set=1`; sections of one peer may repeat and apply in order."""

    private_key: Secret | Unset | None = UNSET
    listen_port: int | Unset = UNSET
    fwmark: int | Unset = UNSET
    replace_peers: bool = False
    peers: list[PeerEdit] = field(default_factory=list)


class GetRequest:
    """`get=1`."""


@dataclass(slots=True)
class ControlRequest:
    """`tunnel=1` and one line of JSON: our own verb, see `control.py`."""

    line: bytes = b""


Request = GetRequest | SetRequest | ControlRequest


def _invalid(what: str) -> UapiError:
    return UapiError(errno.EINVAL, what)


def _key(value: bytes) -> bytes:
    try:
        key = bytes.fromhex(value.decode())
    except ValueError:
        key = b""
    if len(key) != 32 or len(value) != 64:  # fromhex passes over white space
        raise _invalid("a key has 64 hexadecimal digits")
    return key


def _number(value: bytes | str, limit: int, what: str) -> int:
    if not value.isdigit() or len(value) > 10 or int(value) > limit:
        raise _invalid(f"{what} is a number from 0 to {limit}")
    return int(value)


def _true(value: bytes) -> bool:
    if value != b"true":
        raise _invalid("the only value is true")
    return True


def _address(text: str) -> bytes:
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        raise _invalid("not an IP address") from None


def _text(value: bytes) -> str:
    try:
        return value.decode("ascii")
    except UnicodeDecodeError:
        raise _invalid("not ASCII") from None


_WHOLE: Final = {"32": 32, "128": 128}  # a single address, which is most of them


def parse_prefix(value: bytes) -> Prefix:
    """`address/length` with any host bits, or an address alone."""
    address, slash, length = _text(value).partition("/")
    packed = _address(address)
    bits = len(packed) * 8
    if not slash or _WHOLE.get(length) == bits:
        return packed, bits
    return mask(packed, _number(length, bits, "the prefix length"))


def parse_endpoint(value: bytes) -> Endpoint:
    """`192.0.2.1:51820` or `[2001:db8::1%eth0]:51820`, numbers only."""
    host, colon, port = _text(value).rpartition(":")
    if not colon or (":" in host) != (host[:1] == "[" and host[-1:] == "]"):
        raise _invalid("an endpoint is address:port or [address]:port")
    address, percent, scope = host.strip("[]").partition("%")
    packed = _address(address)
    if len(packed) == 16 and packed.startswith(_MAPPED):
        packed = packed[12:]
    number = _number(port.encode(), 65535, "a port")
    return packed, number, _scope(scope) if percent else 0


def _scope(name: str) -> int:
    if name.isdigit() and len(name) <= 9:
        return int(name)
    try:
        return if_nametoindex(name)
    except (OSError, ValueError):
        raise _invalid("no such interface in the endpoint's scope") from None


# --- one function per key: value -> change of the request


def _set_private_key(request: SetRequest, value: bytes) -> None:
    key = secret_or_none(_key(value))
    request.private_key = key and Secret(clamp(key.reveal()))


def _set_listen_port(request: SetRequest, value: bytes) -> None:
    request.listen_port = _number(value, 65535, "listen_port")


def _set_fwmark(request: SetRequest, value: bytes) -> None:
    request.fwmark = _number(value, 0xFFFFFFFF, "fwmark")


def _set_replace_peers(request: SetRequest, value: bytes) -> None:
    request.replace_peers = _true(value)


def _set_preshared_key(peer: PeerEdit, value: bytes) -> None:
    peer.preshared_key = secret_or_none(_key(value))


def _set_endpoint(peer: PeerEdit, value: bytes) -> None:
    peer.endpoint = parse_endpoint(value)


def _set_keepalive(peer: PeerEdit, value: bytes) -> None:
    peer.keepalive = _number(value, 65535, "persistent_keepalive_interval")


def _set_remove(peer: PeerEdit, value: bytes) -> None:
    peer.remove = _true(value)


def _set_update_only(peer: PeerEdit, value: bytes) -> None:
    peer.update_only = _true(value)


def _set_replace_allowed_ips(peer: PeerEdit, value: bytes) -> None:
    peer.replace_allowed_ips = _true(value)
    peer.allowed_ips.append(None)


def _set_allowed_ip(peer: PeerEdit, value: bytes) -> None:
    add = value[:1] != b"-"
    peer.allowed_ips.append((add, parse_prefix(value if add else value[1:])))


def _set_protocol_version(_peer: PeerEdit, value: bytes) -> None:
    if value != b"1":
        raise _invalid("protocol_version is 1")


_DEVICE_KEYS: Final[dict[bytes, Callable[[SetRequest, bytes], None]]] = {
    b"private_key": _set_private_key,
    b"listen_port": _set_listen_port,
    b"fwmark": _set_fwmark,
    b"replace_peers": _set_replace_peers,
}
_PEER_KEYS: Final[dict[bytes, Callable[[PeerEdit, bytes], None]]] = {
    b"allowed_ip": _set_allowed_ip,
    b"preshared_key": _set_preshared_key,
    b"endpoint": _set_endpoint,
    b"persistent_keepalive_interval": _set_keepalive,
    b"replace_allowed_ips": _set_replace_allowed_ips,
    b"remove": _set_remove,
    b"update_only": _set_update_only,
    b"protocol_version": _set_protocol_version,
}


class Parser:
    """Feed it what arrives; take requests out. One per connection.

    A request that is wrong comes out as the `UapiError` to answer with, after its
    blank line, so that the sender is not cut off while it is still writing. When
    `broken` is set, the stream cannot be followed any further.
    """

    __slots__ = ("_error", "_peer", "_rest", "_size", "_target", "broken")

    def __init__(self) -> None:
        self._rest = b""  # a line without its end
        self._size = 0  # of the request so far
        self._target: Request | None = None
        self._peer: PeerEdit | None = None
        self._error: UapiError | None = None
        self.broken = False

    def feed(self, data: bytes) -> Iterator[Request | UapiError]:
        """Consume all of what it yields before feeding more."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
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
        change = _PEER_KEYS.get(key)
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
        self._peer = PeerEdit(_key(value))
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
                raise _invalid("tunnel=1 takes one line")
            self._target.line = line
            return
        key, equals, value = line.partition(b"=")
        if not equals:
            raise UapiError(errno.EPROTO, "a line is key=value")
        if not isinstance(self._target, SetRequest):
            raise _invalid("get takes no keys")
        if key == b"public_key":
            self._begin_peer(value)
        elif self._peer is not None:
            change_peer = _PEER_KEYS.get(key)
            if change_peer is None:
                raise _invalid("unknown key of a peer")
            change_peer(self._peer, value)
        else:
            change_device = _DEVICE_KEYS.get(key)
            if change_device is None:
                raise _invalid("unknown key of the device")
            change_device(self._target, value)
