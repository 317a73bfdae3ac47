"""ICMP echoes all of whose answers are waited for.

`ping` waits for the last of several only twice the longest round trip so far, or one
interval: a machine that stands still for a moment makes it report a loss.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterator

from lab.network import Namespace
from lab.traffic import Ping

__all__ = ["echo_request", "ping"]

_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, number
_KINDS = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}  # request, reply
# linux/in.h, in6.h: level, option, IP_PMTUDISC_DO (never fragmented)
_WHOLE = {socket.AF_INET: (0, 10, 2), socket.AF_INET6: (41, 23, 2)}


def ping(
    host: Namespace,
    address: str,
    *,
    count: int = 5,
    interval: float = 0.05,
    size: int = 56,
    wait: float = 5,
) -> Ping:
    """As `traffic.ping`; `wait` seconds after the last request for what is missing."""
    six = ":" in address
    family = socket.AF_INET6 if six else socket.AF_INET
    protocol = socket.IPPROTO_ICMPV6 if six else socket.IPPROTO_ICMP
    with host.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.setsockopt(*_WHOLE[family])
        return _Echoes(sock, address, size).run(count, interval, wait)


class _Echoes:
    def __init__(self, sock: socket.socket, address: str, size: int) -> None:
        self._sock = sock
        self._address = address
        self._payload = os.urandom(size)
        self._identifier = int.from_bytes(os.urandom(2), "big")
        self._request, self._reply = _KINDS[sock.family]
        self._sent: dict[int, float] = {}
        self._rtts: dict[int, float] = {}
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def run(self, count: int, interval: float, wait: float) -> Ping:
        for number in range(count):
            self._send(number)
            self._listen(count, interval if number < count - 1 else wait)
        return Ping(count, len(self._rtts), [*self._rtts.values()])

    def _send(self, number: int) -> None:
        fields = (self._request, 0, 0, self._identifier, number)
        message = _HEADER.pack(*fields) + self._payload
        if self._request == 8:  # of ICMPv6 the kernel makes it
            message = message[:2] + _checksum(message) + message[4:]
        self._sent[number] = time.monotonic()
        try:
            self._sock.sendto(message, (self._address, 0))
        except OSError:  # no route, or too long for it: no answer either
            return

    def _listen(self, count: int, seconds: float) -> None:
        """For so long, or until nothing is missing."""
        deadline = time.monotonic() + seconds
        while len(self._rtts) < count:
            left = deadline - time.monotonic()
            if not self._poll.poll(max(0, left) * 1000):
                return
            now = time.monotonic()
            for number in self._answers():
                self._rtts.setdefault(number, (now - self._sent[number]) * 1000)

    def _answers(self) -> Iterator[int]:
        data = self._sock.recv(1 << 16)
        if self._sock.family == socket.AF_INET:
            data = data[(data[0] & 15) * 4 :]
        if len(data) < _HEADER.size:
            return
        kind, _, _, identifier, number = _HEADER.unpack_from(data)
        wanted = (self._reply, self._identifier, self._payload)
        if (kind, identifier, data[_HEADER.size :]) == wanted:
            yield number


def _checksum(message: bytes) -> bytes:
    """RFC 1071."""
    even = message + bytes(len(message) % 2)
    total = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", 0xFFFF - total)


def echo_request(source: str, target: str) -> bytes:
    """IPv4 with an ICMP echo request, padded to 16 bytes as it is sealed."""
    echo = _HEADER.pack(8, 0, 0, 1, 1)
    echo = echo[:2] + _checksum(echo) + echo[4:]
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_ICMP, 0)
    head = head[:10] + _checksum(head + ends) + ends
    return (head + echo).ljust(32, b"\0")
