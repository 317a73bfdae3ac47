"""What the routing tables say: that they changed, and where a datagram would leave."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from tunnel.io.netlink_linux import (
    NLMSG_ERROR,
    RECEIVE_MAX,
    attribute,
    attributes,
    messages,
    open_rtnetlink,
    received,
    request,
)

__all__ = ["Question", "Route", "RouteMonitor", "RouteTable"]

# linux/rtnetlink.h. Links are among them because IPv4 routes vanish with their link
# without a message of their own.
_GROUP_LINK: Final = 0x1
_GROUPS_IPV4: Final = 0x10 | 0x40 | 0x80  # address, route, rule
_GROUPS_IPV6: Final = 0x100 | 0x400 | 0x40000
_GROUPS: Final = _GROUP_LINK | _GROUPS_IPV4 | _GROUPS_IPV6
# Routes that name a nexthop object follow it, without a message of their own if
# net.ipv4.nexthop_compat_mode is 0. By number, no bit: kernels before 5.3 have none.
_RTNLGRP_NEXTHOP: Final = 32
_SOL_NETLINK: Final = 270
_NETLINK_ADD_MEMBERSHIP: Final = 1

_RTM_NEWROUTE: Final = 24
_RTM_GETROUTE: Final = 26
_ROUTE_CHANGES: Final = {24, 25}  # new, deleted; so with the others
_LINK_ADDRESS_RULE: Final = {16, 17, 20, 21, 32, 33}
_NEXTHOP_CHANGES: Final = {104, 105}
_CHANGES: Final = _ROUTE_CHANGES | _LINK_ADDRESS_RULE | _NEXTHOP_CHANGES
_RTM_F_CLONED: Final = 0x200  # a cache's entry, no route
_RTN_LOCAL: Final = 2

_RTA_DST: Final = 1
_RTA_SRC: Final = 2
_RTA_OIF: Final = 4
_RTA_MARK: Final = 16
_RTA_IP_PROTO: Final = 27
_RTA_SPORT: Final = 28
_RTA_DPORT: Final = 29

# family, destination and source prefix, TOS, table, protocol, scope, type, flags
_ROUTE: Final = struct.Struct("=8BI")
_ERROR: Final = struct.Struct("=i")  # -errno; the request follows
_AT_ONCE: Final = 64  # answers that surely fit into the receive buffer


class Question(NamedTuple):
    """A UDP datagram; addresses are packed, ports 0 are any."""

    destination: bytes
    source: bytes = b""  # none: the system chooses
    scope_id: int = 0  # interface of a link-local destination
    mark: int = 0
    source_port: int = 0
    port: int = 0


class Route(NamedTuple):
    """How it would leave."""

    ifindex: int  # 0: it would not
    local: bool = False  # the destination is an address of this system
    error: int = 0  # errno: why it would not


class RouteMonitor:
    """Notices changes of routes, nexthops, rules, addresses and links in the network
    namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = open_rtnetlink(_GROUPS)
        with suppress(OSError):  # it has no nexthop objects either
            self._socket.setsockopt(
                _SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_NEXTHOP
            )

    def fileno(self) -> int:
        return self._socket.fileno()

    def changed(self) -> bool:
        """Whether there was a change since the last call; never blocks. After messages
        were lost (ENOBUFS) everything may have changed."""
        found = False
        for data in received(self._socket):
            found = found or data is None or tells_change(data)
        return found

    def close(self) -> None:
        self._socket.close()


def tells_change(data: bytes) -> bool:
    """Whether one of the notifications can mean another route for somebody."""
    for kind, _, body in messages(data):
        if kind not in _CHANGES:
            continue
        is_route = kind in _ROUTE_CHANGES and len(body) >= _ROUTE.size
        if not (is_route and _ROUTE.unpack_from(body)[-1] & _RTM_F_CLONED):
            return True
    return False


class RouteTable:
    """Asks the kernel for routes in the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = open_rtnetlink()
        self._sequence = 0

    def ask(self, questions: Sequence[Question]) -> list[Route | None]:
        """One answer for each, None where there was none; never blocks."""
        answers: list[Route | None] = []
        for start in range(0, len(questions), _AT_ONCE):
            answers += self._ask(questions[start : start + _AT_ONCE])
        return answers

    def _ask(self, questions: Sequence[Question]) -> list[Route | None]:
        first = self._sequence + 1
        self._sequence = (self._sequence + len(questions)) & 0x7FFFFFFF
        data = b"".join(
            request(_RTM_GETROUTE, first + n, question_body(question))
            for n, question in enumerate(questions)
        )
        found: dict[int, Route] = {}
        # the kernel answers before `send` returns
        with suppress(OSError):
            self._socket.send(data)
        while True:
            try:
                answer = self._socket.recv(RECEIVE_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            for kind, sequence, body in messages(answer):
                route = read_answer(kind, body)
                if route is not None:
                    found[sequence] = route
        return [found.get(first + n) for n in range(len(questions))]

    def close(self) -> None:
        self._socket.close()


def question_body(question: Question) -> bytes:
    """What follows the netlink header of an RTM_GETROUTE."""
    bits = 8 * len(question.destination)
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    source_bits = 8 * len(question.source)
    body = _ROUTE.pack(family, bits, source_bits, 0, 0, 0, 0, 0, 0)
    body += attribute(_RTA_DST, question.destination)
    if question.source:
        body += attribute(_RTA_SRC, question.source)
    if question.scope_id:
        body += attribute(_RTA_OIF, struct.pack("=I", question.scope_id))
    if question.mark:
        body += attribute(_RTA_MARK, struct.pack("=I", question.mark))
    if question.port:
        body += attribute(_RTA_IP_PROTO, bytes([socket.IPPROTO_UDP]))
        body += attribute(_RTA_SPORT, struct.pack(">H", question.source_port))
        body += attribute(_RTA_DPORT, struct.pack(">H", question.port))
    return body


def read_answer(kind: int, body: bytes) -> Route | None:
    """A message of the kernel to an RTM_GETROUTE; None: it is no answer."""
    if kind == NLMSG_ERROR and len(body) >= _ERROR.size:
        return Route(0, error=-_ERROR.unpack_from(body)[0])
    if kind != _RTM_NEWROUTE or len(body) < _ROUTE.size:
        return None
    route_type = _ROUTE.unpack_from(body)[7]
    ifindex = 0
    for name, value in attributes(body[_ROUTE.size :]):
        if name == _RTA_OIF and len(value) == 4:
            (ifindex,) = struct.unpack("=I", value)
    return Route(ifindex, route_type == _RTN_LOCAL)
