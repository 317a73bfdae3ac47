"""The UDP sockets of a tunnel: one for IPv4 and one for IPv6 on the same port, and as
many again for each further worker.

The pump sends and receives data through their descriptors; `send` here is for the few
handshake messages of the control plane.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from tunnel.errors import NotSupported
from tunnel.io import sockopt
from tunnel.io.base import Endpoint, SendResult, Source
from tunnel.io.steering_linux import steer_sockets
from tunnel.io.udp_open import bind_error, hosts_of, open_pair, open_socket

__all__ = ["RECEIVE_BYTES", "SEND_BYTES", "UdpSockets"]

# In: the window of a full TCP stream and, beside it, ten thousand handshakes. With
# 1 MiB the stream alone fills it, and a handshake that is lost there comes again 5 s
# later; what a stream keeps in it is its window's size, not the buffer's.
RECEIVE_BYTES: Final = 4 << 20
# Out: more than an interface's queue holds, which then drops what is too much. All
# peers share the buffer: one that is flooded through a slow uplink must not fill it, or
# nothing goes to the others either. (WireGuard's own module knows no limit at all.)
SEND_BYTES: Final = 32 << 20

_BIND_TRIES: Final = 100  # R72

# Errors of a send for which the sticky source can be to blame (U13).
_BAD_SOURCE: Final = {
    errno.EINVAL,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.ENODEV,
    errno.ENXIO,
}
# ... and those for which the load is: of the socket, or of the interface's queue.
FULL: Final = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS}


class UdpSockets:
    """A bound pair of sockets (see `UdpTransport`). Made by `bind`."""

    def __init__(
        self,
        sockets: Mapping[int, socket.socket],
        more: Sequence[Mapping[int, socket.socket]] = (),
    ) -> None:
        """Takes over bound sockets, by address family; `more` are further workers'."""
        self.connected: Endpoint | None = None
        self.errors: Counter[str] = Counter()
        self._sockets = dict(sockets)
        self._more = [dict(pair) for pair in more]
        self._port = int(next(iter(sockets.values())).getsockname()[1])

    @classmethod
    def bind(
        cls,
        port: int = 0,
        *,
        fwmark: int = 0,
        addresses: Sequence[bytes] = (),
        receive_bytes: int = RECEIVE_BYTES,
        send_bytes: int = SEND_BYTES,
        workers: int = 1,
    ) -> UdpSockets:
        """Opens both sockets on `port`, or on a free one that both can have.

        `addresses` are packed local addresses to bind to, at most one per family;
        without any, all addresses of both families, as far as the system has them.
        The system's buffers are kept where they are larger than `receive_bytes` and
        `send_bytes`. Each of the `workers` has a pair of its own; which one gets a data
        message, its receiver index says. Raises DeviceError (port taken, no such
        address), NotPermitted (low port, fwmark) or NotSupported.
        """
        if sys.platform != "linux":
            raise NotSupported(f"not supported yet: UDP sockets on {sys.platform}")
        hosts = hosts_of(addresses)
        last: OSError | None = None
        for _ in range(1 if port else _BIND_TRIES):
            try:
                opened = open_pair(hosts, port, optional=not addresses)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise bind_error(error, port) from error
                last = error
                continue
            found = cls(opened)
            try:
                if workers > 1:
                    found._share(hosts, workers)
                found._prepare(fwmark, receive_bytes, send_bytes)
            except OSError as error:
                found.close()
                raise bind_error(error, port) from error
            except BaseException:
                found.close()
                raise
            return found
        assert last is not None
        raise bind_error(last, port) from last

    @property
    def fileno4(self) -> int:
        return _fileno(self._sockets, socket.AF_INET)

    @property
    def fileno6(self) -> int:
        return _fileno(self._sockets, socket.AF_INET6)

    @property
    def more(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (_fileno(pair, socket.AF_INET), _fileno(pair, socket.AF_INET6))
            for pair in self._more
        )

    @property
    def port(self) -> int:
        return self._port

    def send(
        self,
        data: bytes,
        endpoint: Endpoint,
        source: Source | None = None,
        tos: int = 0,
    ) -> SendResult:
        """See `UdpTransport.send`."""
        address, port, scope = endpoint
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        sock = self._sockets.get(family)
        if sock is None:
            return SendResult.NO_SOCKET
        host = socket.inet_ntop(family, address)
        to = (host, port) if family == socket.AF_INET else (host, port, 0, scope)
        with_source = sockopt.control_messages(family, source, tos)
        without = sockopt.control_messages(family, None, tos)
        error = self._try(sock, data, with_source, to)
        if error in _BAD_SOURCE and with_source != without:
            error = self._try(sock, data, without, to)
            if not error:
                return SendResult.SENT_WITHOUT_SOURCE
        if error in FULL:
            return SendResult.NO_ROOM
        return SendResult.DROPPED if error else SendResult.SENT

    def set_fwmark(self, mark: int) -> None:
        for sock in self._all():
            sockopt.set_mark(sock, mark)

    def close(self) -> None:
        for sock in self._all():
            sock.close()
        self._sockets.clear()
        self._more.clear()

    def _all(self) -> list[socket.socket]:
        return [s for pair in (self._sockets, *self._more) for s in pair.values()]

    def _share(self, hosts: Mapping[int, str], workers: int) -> None:
        """More sockets on the same port. The first pair was bound alone, so that a port
        in use is an error as ever; only then does it let others in."""
        self._more = [{} for _ in range(1, workers)]
        for family, first in self._sockets.items():
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for pair in self._more:
                pair[family] = open_socket(
                    family, hosts[family], self._port, shared=True
                )
            steer_sockets(first, workers)

    def _prepare(self, fwmark: int, receive_bytes: int, send_bytes: int) -> None:
        for sock in self._all():
            sockopt.set_buffers(sock, receive_bytes, send_bytes)
        if fwmark:
            self.set_fwmark(fwmark)

    def _try(
        self,
        sock: socket.socket,
        data: bytes,
        control: list[sockopt.ControlMessage],
        to: tuple[str, int] | tuple[str, int, int, int],
    ) -> int:
        """errno of the attempt, 0 if the datagram left."""
        try:
            sock.sendmsg([data], control, 0, to)
        except OSError as error:
            self.errors[errno.errorcode.get(error.errno or 0, "unknown")] += 1
            return error.errno or errno.EIO
        return 0


def _fileno(pair: Mapping[int, socket.socket], family: int) -> int:
    sock = pair.get(family)
    return -1 if sock is None else sock.fileno()
