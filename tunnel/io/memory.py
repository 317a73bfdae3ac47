"""TUN devices and UDP transports that exist in memory only.

They are socketpairs, so the pump sees ordinary descriptors. Used by tunnels of type
`loopback`, the demo, the benchmarks and the tests; no rights are needed.
"""

from __future__ import annotations

import errno
import select
import socket
from collections import Counter
from contextlib import suppress

from tunnel.errors import DeviceError
from tunnel.io import sockopt
from tunnel.io.base import Endpoint, SendResult, Source

__all__ = ["MemoryTun", "MemoryUdp", "TunUser", "memory_tun", "memory_udp"]

_HEADER = bytes(10)  # virtio_net_hdr: a single packet, nothing left to compute
_PACKET_MAX = 65_535
_BUFFER_BYTES = 1 << 20


def memory_tun(name: str = "memory", mtu: int = 1420) -> tuple[MemoryTun, TunUser]:
    """A TUN device and the end at which its user writes and reads packets."""
    # SEQPACKET: when one end is closed the other reads an end of file, and writing
    # is EPIPE, which the pump takes for the deletion of a TUN interface
    engine, user = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (engine, user):
        end.setblocking(False)
        sockopt.set_buffers(end, _BUFFER_BYTES, _BUFFER_BYTES)
    return MemoryTun(engine, name, mtu), TunUser(user)


class MemoryTun:
    """The engine's end (see `TunDevice`)."""

    vnet_header = True
    more_queues: tuple[int, ...] = ()

    def __init__(self, end: socket.socket, name: str, mtu: int) -> None:
        self._end = end
        self._name = name
        self._mtu = mtu

    def fileno(self) -> int:
        if self._end.fileno() < 0:
            raise DeviceError("the TUN device is closed")
        return self._end.fileno()

    @property
    def name(self) -> str:
        return self._name

    @property
    def mtu(self) -> int:
        return self._mtu

    def enable_offloads(self) -> tuple[bool, bool]:
        return False, False

    def set_mtu(self, mtu: int) -> None:
        """For the engine to know; the user's end may still send longer packets."""
        self._mtu = mtu

    @property
    def alive(self) -> bool:
        """False also when the user's end is closed."""
        if self._end.fileno() < 0:
            return False
        ready = select.poll()
        ready.register(self._end, 0)
        return not ready.poll(0)  # POLLHUP comes unasked

    def close(self) -> None:
        self._end.close()


class TunUser:
    """The end that stands for the operating system: bare IP packets in and out.

    May be used by another thread than the engine's, one at a time. Closing it is what
    deleting the interface is to a real TUN.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def fileno(self) -> int:
        """For polling; reading is `recv`, because of the header."""
        return self._end.fileno()

    def send(self, packet: bytes, timeout: float | None = None) -> None:
        """Hands the engine a packet; waits while its queue is full.

        `timeout` in seconds, None for ever: TimeoutError. DeviceError when the device
        is closed at either end.
        """
        if len(packet) > _PACKET_MAX:
            raise ValueError(f"an IP packet has at most {_PACKET_MAX} bytes")
        while True:
            try:
                self._end.send(_HEADER + packet)
            except BlockingIOError:
                self._wait(select.POLLOUT, timeout)
            except OSError as error:
                raise DeviceError("the TUN device is closed") from error
            else:
                return

    def recv(self, timeout: float | None = None) -> bytes:
        """The next packet from the engine; `timeout` and errors as for `send`."""
        while True:
            try:
                data = self._end.recv(len(_HEADER) + _PACKET_MAX)
            except BlockingIOError:
                self._wait(select.POLLIN, timeout)
                continue
            except OSError as error:
                raise DeviceError("the TUN device is closed") from error
            if not data:
                raise DeviceError("the TUN device is closed")
            return data[len(_HEADER) :]

    def close(self) -> None:
        self._end.close()

    def _wait(self, events: int, timeout: float | None) -> None:
        ready = select.poll()
        ready.register(self._end, events)
        if not ready.poll(None if timeout is None else timeout * 1000):
            raise TimeoutError("nothing happened on the TUN device")


def memory_udp(first: Endpoint, second: Endpoint) -> tuple[MemoryUdp, MemoryUdp]:
    """Two transports that reach each other only, at these made-up endpoints."""
    # DGRAM: a closed far end is a refused datagram, not an end of file
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in (one, two):
        end.setblocking(False)
        sockopt.set_buffers(end, _BUFFER_BYTES, _BUFFER_BYTES)
    return MemoryUdp(one, first, second), MemoryUdp(two, second, first)


class MemoryUdp:
    """One end of a pair (see `UdpTransport`); give the pump `connected` as well."""

    def __init__(self, end: socket.socket, local: Endpoint, remote: Endpoint) -> None:
        self.connected: Endpoint | None = remote
        self.errors: Counter[str] = Counter()
        self._end = end
        self._local = local

    @property
    def fileno4(self) -> int:
        return self._end.fileno()

    @property
    def fileno6(self) -> int:
        return -1

    @property
    def more(self) -> tuple[tuple[int, int], ...]:
        return ()

    @property
    def port(self) -> int:
        return self._local[1]

    def send(
        self,
        data: bytes,
        endpoint: Endpoint,
        source: Source | None = None,
        tos: int = 0,
    ) -> SendResult:
        """Reaches the far end whatever address family its endpoint has; a datagram
        for anybody else is lost, as it would be on a cable with two ends."""
        del source, tos
        if self._end.fileno() < 0:
            return SendResult.NO_SOCKET
        if endpoint != self.connected:
            self.errors["EHOSTUNREACH"] += 1
            return SendResult.DROPPED
        try:
            self._end.send(data)
        except OSError as error:
            self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1
            full = error.errno in {errno.EAGAIN, errno.ENOBUFS}
            return SendResult.NO_ROOM if full else SendResult.DROPPED
        return SendResult.SENT

    def set_fwmark(self, mark: int) -> None:
        """There is nothing to mark."""

    def close(self) -> None:
        with suppress(OSError):
            self._end.close()
