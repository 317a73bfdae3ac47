"""Handshake messages that find the socket full are tried again, and not for ever."""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from tunnel import outgoing
from tunnel.constants import SECOND
from tunnel.io.base import SendResult
from tunnel.io.udp import UdpSockets
from tunnel.loop import ControlLoop
from tunnel.outgoing import KEPT, RETRY_EVERY, RETRY_FOR, Outgoing
from tunnel.protocol.types import Datagram, Endpoint

from .rig import LOCALHOST, Running, connect, ping

INITIATION, RESPONSE, COOKIE = 1, 2, 3


class Alarm:
    def __init__(self, when: int, callback: Callable[[], None]) -> None:
        self.when, self.callback = when, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Clock:
    """A loop whose time the test moves on."""

    def __init__(self) -> None:
        self.time = 1_000
        self.alarms: list[Alarm] = []

    def now(self) -> int:
        return self.time

    def call_later(self, delay: int, callback: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(self.time + delay, callback))
        return self.alarms[-1]

    @property
    def pending(self) -> int:
        return sum(not alarm.cancelled for alarm in self.alarms)

    def run(self, duration: int) -> None:
        end = self.time + duration
        while due := [a for a in self.alarms if not a.cancelled and a.when <= end]:
            first = min(due, key=lambda alarm: alarm.when)
            self.alarms.remove(first)
            self.time = first.when
            first.callback()
        self.time = end


class Socket:
    """With room for so many datagrams."""

    def __init__(self, room: int = 0) -> None:
        self.room = {4: room, 16: room}
        self.left: list[Datagram] = []
        self.tried: list[Datagram] = []
        self.result = SendResult.SENT

    def send(self, datagram: Datagram) -> SendResult:
        self.tried.append(datagram)
        family = len(datagram.endpoint.address)
        if not self.room[family]:
            return SendResult.NO_ROOM
        self.room[family] -= 1
        self.left.append(datagram)
        return self.result


def made(room: int = 0) -> tuple[Clock, Socket, Outgoing]:
    clock, sock = Clock(), Socket(room)
    return clock, sock, Outgoing(cast("ControlLoop", clock), sock.send)


def message(
    peer: int, number: int = 0, kind: int = INITIATION, *, v6: bool = False
) -> Datagram:
    address = bytes([0] * 12 * v6 + [10, 0, *peer.to_bytes(2, "big")])
    return Datagram(bytes([kind, 0, 0, 0, number]), Endpoint(address, 1), None, 0)


def test_with_room_everything_leaves_at_once_and_no_timer_runs() -> None:
    clock, sock, out = made(room=10)
    for n in range(10):
        out.send(message(n % 2, n))
    assert [d.data[4] for d in sock.left] == list(range(10))
    assert (len(out), clock.alarms) == (0, [])


def test_what_found_no_room_leaves_when_there_is_some() -> None:
    clock, sock, out = made()
    out.send(message(1))
    out.send(message(2))
    clock.run(3 * RETRY_EVERY)
    assert (len(out), sock.left) == (2, [])
    sock.room[4] = 1
    clock.run(RETRY_EVERY)
    assert sock.left == [message(1)]
    sock.room[4] = 1
    clock.run(RETRY_EVERY)
    assert sock.left == [message(1), message(2)]
    assert (len(out), clock.pending) == (0, 0)


def test_after_a_while_it_is_dropped_and_nothing_runs_on() -> None:
    clock, sock, out = made()
    out.send(message(1))
    clock.run(RETRY_FOR)
    assert len(sock.tried) == RETRY_FOR // RETRY_EVERY + 1
    clock.run(RETRY_EVERY)
    assert (len(out), clock.pending) == (0, 0)
    tries = len(sock.tried)
    sock.room[4] = 9
    clock.run(10 * RETRY_FOR)
    assert (len(sock.tried), sock.left) == (tries, [])


def test_an_older_message_never_leaves_behind_a_newer_one() -> None:
    clock, sock, out = made()
    out.send(message(1, 1))
    out.send(message(1, 2, RESPONSE))
    out.send(message(1, 3))
    assert len(out) == 2
    sock.room[4] = 1
    out.send(message(1, 4))  # leaves at once: what waited is of no use any more
    sock.room[4] = 9
    clock.run(RETRY_FOR)
    assert [d.data[4] for d in sock.left] == [4, 2]


def test_other_errors_are_not_tried_again() -> None:
    clock, sock, out = made()
    for result in (SendResult.DROPPED, SendResult.NO_SOCKET):
        sock.room[4], sock.result = 1, result
        out.send(message(1))
    assert (len(sock.tried), len(out), clock.alarms) == (2, 0, [])
    sock.room[4] = 0
    out.send(message(1))
    sock.room[4] = 1  # by now there is no route
    clock.run(RETRY_FOR)
    assert (len(sock.tried), len(out)) == (4, 0)


def test_few_are_kept_and_a_full_family_is_asked_once_a_round() -> None:
    clock, sock, out = made()
    for n in range(KEPT + 50):
        out.send(message(n, v6=n % 2 == 1))
    assert len(out) == KEPT
    sock.tried.clear()
    clock.run(RETRY_EVERY)
    assert sock.tried == [message(0), message(1, v6=True)]
    sock.room[16] = KEPT
    clock.run(RETRY_EVERY)
    assert sock.left == [message(n, v6=True) for n in range(1, KEPT, 2)]
    assert len(out) == KEPT // 2


def test_cookie_replies_keep_no_place_from_a_handshake() -> None:
    """Who is a stranger can ask for as many as there are places."""
    clock, sock, out = made()
    for n in range(KEPT - 1):
        out.send(message(n, kind=COOKIE))
    out.send(message(500))
    out.send(message(501, kind=COOKIE))  # there is no room for it
    out.send(message(502))
    out.send(message(503, kind=RESPONSE))
    assert len(out) == KEPT
    sock.room[4] = 2 * KEPT
    clock.run(RETRY_EVERY)
    first = [message(n, kind=COOKIE) for n in range(2, KEPT - 1)]
    others = [message(500), message(502), message(503, kind=RESPONSE)]
    assert sock.left == first + others


def test_nothing_is_sent_or_kept_after_the_end() -> None:
    clock, sock, out = made()
    out.send(message(1))
    out.close()
    out.close()
    sock.room[4] = 1
    clock.run(RETRY_FOR)
    out.send(message(2))
    assert (len(sock.tried), len(out), clock.pending) == (1, 0, 0)


def test_against_a_list_that_is_tried_from_the_front(seed: int) -> None:
    rng = random.Random(seed)
    clock, sock, out = made()
    waiting: list[tuple[Datagram, int]] = []
    left: list[Datagram] = []
    room = 0
    for step in range(4000):
        new = message(rng.randrange(90), step % 256, rng.choice([1, 2, 3]))
        if rng.random() < 0.3:
            same = (new.endpoint, new.data[0])
            waiting = [w for w in waiting if (w[0].endpoint, w[0].data[0]) != same]
            if room:
                room -= 1
                left.append(new)
            else:
                cookies = [w for w in waiting if w[0].data[0] == COOKIE]
                if len(waiting) == KEPT and cookies and new.data[0] != COOKIE:
                    waiting.remove(cookies[0])
                if len(waiting) < KEPT:
                    waiting.append((new, clock.time))
            out.send(new)
        elif rng.random() < 0.3:
            more = rng.choice([0, 0, 1, 2, 40])
            room, sock.room[4] = room + more, sock.room[4] + more
        elif clock.pending:
            clock.run(RETRY_EVERY)
            while waiting and room:
                room -= 1
                left.append(waiting.pop(0)[0])
            waiting = [w for w in waiting if clock.time < w[1] + RETRY_FOR]
        assert (len(out), sock.left) == (len(waiting), left)
        assert clock.pending == bool(waiting)
    assert len(left) > 300


def test_a_handshake_survives_a_full_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first initiation gets through, not the one of 5 s later (R17)."""
    real, refusals = UdpSockets.send, [SendResult.NO_ROOM] * 6

    def send(self: UdpSockets, data: bytes, *to: Any) -> SendResult:
        return refusals.pop() if refusals else real(self, data, *to)

    monkeypatch.setattr(outgoing, "RETRY_FOR", 60 * SECOND)  # the machine may be slow
    with Running(1) as a, Running(2) as b:
        connect(a, b)
        monkeypatch.setattr(UdpSockets, "send", send)
        ping(a, b)
        assert refusals == []
        counters = a.call(lambda e: e.device.status().counters)
        assert (counters["initiation.sent"], counters["response.received"]) == (1, 1)


# --- sources that the system refuses (U13)

V4 = (LOCALHOST, 51820, 0), (bytes([10, 1, 0, 1]), 3)
V6 = (bytes(15) + b"\1", 51820, 0), (bytes([0xFD, *bytes(14), 1]), 3)
PKTINFO = {(socket.IPPROTO_IP, 8), (socket.IPPROTO_IPV6, 50)}  # linux/in.h, in6.h


class Choosy:
    """A socket that takes nothing with a source; the answers without one are given."""

    def __init__(self, error: int, *without: int) -> None:
        self.error, self.without = error, list(without)

    def getsockname(self) -> tuple[str, int]:
        return "", 51820

    def sendmsg(self, _: object, control: list[Any], *__: object) -> None:
        kinds = {(level, kind) for level, kind, _ in control}
        error = self.error if kinds & PKTINFO else self.without.pop(0)
        if error:
            raise OSError(error, os.strerror(error))


class Remembering:
    """As much of a peer's path as is asked for."""

    def __init__(self, source: tuple[bytes, int] | None) -> None:
        self.source = source

    def clear_source(self) -> None:
        self.source = None


def through(sock: Choosy) -> tuple[Clock, Outgoing]:
    families = {socket.AF_INET: sock, socket.AF_INET6: sock}
    sockets, clock = UdpSockets(cast("Any", families)), Clock()
    return clock, Outgoing(cast("ControlLoop", clock), lambda d: sockets.send(*d[:4]))


def remembered(
    kind: int, where: tuple[tuple[bytes, int, int], tuple[bytes, int]]
) -> tuple[Datagram, Remembering]:
    endpoint, source = where
    path = Remembering(source)
    data = bytes([kind, 0, 0, 0])
    return Datagram(data, Endpoint(*endpoint), source, 0, cast("Any", path)), path


@pytest.mark.parametrize("kind", [INITIATION, RESPONSE])
@pytest.mark.parametrize("where", [V4, V6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENETUNREACH, errno.EADDRNOTAVAIL])
def test_r62_a_source_that_a_handshake_was_refused_is_forgotten_at_once(
    kind: int, where: Any, code: int
) -> None:
    datagram, path = remembered(kind, where)
    _, out = through(Choosy(code, 0))
    out.send(datagram)
    assert path.source is None


@pytest.mark.parametrize("where", [V4, V6], ids=["IPv4", "IPv6"])
def test_r62_also_when_there_was_no_room_without_it_at_first(where: Any) -> None:
    datagram, path = remembered(RESPONSE, where)
    clock, out = through(Choosy(errno.EINVAL, errno.EAGAIN, 0))
    out.send(datagram)
    assert path.source == datagram.source
    clock.run(RETRY_EVERY)
    assert (path.source, len(out)) == (None, 0)


@pytest.mark.parametrize("where", [V4, V6], ids=["IPv4", "IPv6"])
def test_r62_no_other_source_is_forgotten(where: Any) -> None:
    """Neither a good one, nor one that was learned since, nor for another's sake."""
    datagram, path = remembered(INITIATION, where)
    _, out = through(Choosy(0))
    out.send(datagram)
    assert path.source == datagram.source
    _, out = through(Choosy(errno.EPERM))
    out.send(datagram)
    assert path.source == datagram.source
    _, out = through(Choosy(errno.EINVAL, 0, 0))
    path.source = newer = (where[1][0], 9)
    out.send(datagram)
    assert path.source == newer
    out.send(datagram._replace(data=bytes([COOKIE, 0, 0, 0]), path=None))
    assert path.source == newer


def test_r62_the_packet_path_s_record_of_the_peer_forgets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before any data packet is sent: the initiation that it was refused is enough."""
    real = UdpSockets.send

    def send(self: UdpSockets, data: bytes, to: Any, source: Any, tos: int) -> Any:
        result = real(self, data, to, None, tos)
        return result if source is None else SendResult.SENT_WITHOUT_SOURCE

    with Running(1) as a, Running(2) as b:
        connect(a, b)
        ping(a, b)
        monkeypatch.setattr(UdpSockets, "send", send)

        def initiate(engine: Any) -> tuple[object, object]:
            device = engine.device
            peer = device.node.peers[b.public]
            before, peer.handshake.last_sent = peer.path.source, None
            peer.initiate(engine.loop.now(), time.time_ns())
            device.driver.flush()
            return before, peer.path.source

        before, after = a.call(initiate)
        assert (before, after) == ((LOCALHOST, 1), None)
