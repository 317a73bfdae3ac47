"""A pump between an in-memory TUN and a real UDP socket, and a wire-level peer.

The far end speaks data messages with `cryptography`, byte by byte, so that what the
pump puts on the wire is checked against another implementation.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel._fastpath.pump import Handshake, Keypair, Path, PathEvent, Pump

from .asleep import all_asleep, threads_of_pumps

SECOND = 1_000_000_000
IP_PKTINFO = 8  # socket has the name since Python 3.14
VNET = bytes(10)
PATIENCE = 20  # s, for what must come; machines stand still now and then
WORKERS = 1  # of a rig that does not say; test_pump_lanes.py runs all with more


def boottime() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(
    source: str,
    destination: str,
    payload: bytes = b"",
    *,
    tos: int = 0,
    proto: int = 17,
) -> bytes:
    head = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        tos,
        20 + len(payload),
        7,
        0,
        64,
        proto,
        0,
        socket.inet_aton(source),
        socket.inet_aton(destination),
    )
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(source: str, destination: str, payload: bytes = b"", *, tos: int = 0) -> bytes:
    return (
        struct.pack(">IHBB", 6 << 28 | tos << 20, len(payload), 17, 64)
        + socket.inet_pton(socket.AF_INET6, source)
        + socket.inet_pton(socket.AF_INET6, destination)
        + payload
    )


def prefix(text: str) -> tuple[bytes, int]:
    address, cidr = text.split("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return socket.inet_pton(family, address), int(cidr)


class FarEnd:
    """The other end of one session, on its own UDP socket."""

    def __init__(self, rig: Rig, number: int, host: str = "127.0.0.1") -> None:
        self.rig = rig
        self.index = 0x1000 + number  # theirs
        self.drawn: int | None = None  # our index, where it matters
        self.send_key = bytes([number, 1]) * 16
        self.receive_key = bytes([number, 2]) * 16
        self.counter = 0
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.settimeout(PATIENCE)
        self.host = host

    @property
    def endpoint(self) -> tuple[bytes, int, int]:
        return (
            socket.inet_pton(self.socket.family, self.host),
            self.socket.getsockname()[1],
            0,
        )

    @property
    def local_index(self) -> int:
        return self.index + 0x1000 if self.drawn is None else self.drawn

    def keypair(self, path: Path, **options: object) -> Keypair:
        values: dict[str, object] = {
            "created": boottime(),
            "initiator": True,
            "await_confirmation": False,
        }
        values.update(options)
        return path.add_keypair(  # type: ignore[arg-type]
            self.local_index, self.index, self.receive_key, self.send_key, **values
        )

    def seal(self, packet: bytes, *, counter: int | None = None) -> bytes:
        if counter is None:
            counter = self.counter
            self.counter += 1
        nonce = bytes(4) + struct.pack("<Q", counter)
        head = struct.pack("<IIQ", 4, self.local_index, counter)
        return head + ChaCha20Poly1305(self.send_key).encrypt(nonce, packet, b"")

    def send(self, datagram: bytes) -> None:
        to = self.rig.udp4 if self.socket.family == socket.AF_INET else self.rig.udp6
        self.socket.sendto(datagram, (self.host, to.getsockname()[1]))

    def receive(self) -> tuple[int, bytes]:
        """(counter, inner packet with its padding) of the next data message."""
        return self.open(self.socket.recv(70_000))

    def open(self, datagram: bytes) -> tuple[int, bytes]:
        kind, index, counter = struct.unpack_from("<IIQ", datagram)
        assert (kind, index) == (4, self.index)
        nonce = bytes(4) + struct.pack("<Q", counter)
        return counter, ChaCha20Poly1305(self.receive_key).decrypt(
            nonce, datagram[16:], b""
        )

    def quiet(self, seconds: float = 0.1) -> bool:
        return not select.select([self.socket], [], [], seconds)[0]


class Rig:
    """A pump, its TUN's user end and its UDP sockets."""

    def __init__(
        self,
        *,
        mtu: int = 1420,
        public_key: bytes | None = None,
        workers: int = 0,
        **times: int,
    ):
        self.tun, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.tun.settimeout(PATIENCE)
        self.udp4 = self.bound(socket.AF_INET, "127.0.0.1")
        self.udp6 = self.bound(socket.AF_INET6, "::1")
        self.pump = Pump(inner.fileno(), workers=workers or WORKERS, **times)
        inner.close()
        self.ends: list[FarEnd] = []
        with self.pump.begin() as t:
            t.set_sockets(self.udp4.fileno(), self.udp6.fileno())
            t.set_mtu(mtu)
            t.set_public_key(public_key)
        self.events: list[tuple[Path, int]] = []
        self.handshakes: list[Handshake] = []
        others = threads_of_pumps()
        self.pump.start()
        self.threads = [one for one in threads_of_pumps() if one not in others]

    @staticmethod
    def bound(family: int, host: str) -> socket.socket:
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.bind((host, 0))
        if family == socket.AF_INET:
            s.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        else:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        return s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pump.stop()
        for s in (self.tun, self.udp4, self.udp6, *(e.socket for e in self.ends)):
            s.close()

    def peer(self, *prefixes: str, host: str = "127.0.0.1") -> tuple[Path, FarEnd]:
        end = FarEnd(self, len(self.ends) + 1, host)
        self.ends.append(end)
        path = self.pump.add_peer(end)
        path.set_endpoint(end.endpoint)
        with self.pump.begin() as t:
            for text in prefixes:
                t.insert_prefix(*prefix(text), path)
        self.settle()
        return path, end

    def session(
        self, *prefixes: str, host: str = "127.0.0.1", **options: object
    ) -> tuple[Path, FarEnd, Keypair]:
        path, end = self.peer(*prefixes, host=host)
        keypair = end.keypair(path, **options)
        path.use_for_sending(keypair)
        return path, end, keypair

    def write(self, packet: bytes, vnet: bytes = VNET) -> None:
        self.tun.send(vnet + packet)

    def read(self) -> bytes:
        data = self.tun.recv(70_000)
        assert data[:10] == VNET
        return data[10:]

    def silent(self, seconds: float = 0.1) -> bool:
        return not select.select([self.tun], [], [], seconds)[0]

    def drain(self) -> None:
        events, handshakes = self.pump.drain()
        self.events += events
        self.handshakes += handshakes

    def settle(self) -> None:
        """Every worker has passed a batch boundary; one call waits for 100 ms."""
        self.until(self.pump.settle)

    def rest(self) -> None:
        """All threads sleep: none has a round under way, or the other's direction."""
        self.until(lambda: all_asleep(self.threads))

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.002)

    def dropped(self, reason: str, count: int = 1) -> None:
        self.until(lambda: self.pump.counters()[f"drop.{reason}"] >= count)
        assert self.pump.counters()[f"drop.{reason}"] == count

    def event(self, path: Path, wanted: PathEvent) -> None:
        def seen() -> bool:
            self.drain()
            return any(p is path and bits & wanted for p, bits in self.events)

        self.until(seen)

    def no_event(self, wanted: PathEvent, seconds: float = 0.1) -> None:
        time.sleep(seconds)
        self.drain()
        assert not any(bits & wanted for _, bits in self.events)


__all__ = ["SECOND", "FarEnd", "InvalidTag", "Rig", "boottime"]
