"""What a refused send, or bind, means; the kernel's part is played here."""

from __future__ import annotations

import errno
import os
import socket
from typing import cast

import pytest

from tunnel.errors import NotPermitted
from tunnel.io.base import SendResult
from tunnel.io.udp import UdpSockets

TO, SOURCE = (bytes([10, 1, 0, 2]), 51820, 0), (bytes([10, 1, 0, 1]), 0)


class Refusing:
    """A socket that answers one send after the other with these errors."""

    def __init__(self, *errors: int) -> None:
        self.errors = list(errors)

    def getsockname(self) -> tuple[str, int]:
        return "0.0.0.0", 51820

    def sendmsg(self, *_: object) -> None:
        if error := self.errors.pop(0):
            raise OSError(error, os.strerror(error))

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("errors", "result"),
    [
        ((0,), SendResult.SENT),
        ((errno.EAGAIN,), SendResult.NO_ROOM),
        ((errno.ENOBUFS,), SendResult.NO_ROOM),
        ((errno.EPERM,), SendResult.DROPPED),
        ((errno.ENETUNREACH, errno.ENOBUFS), SendResult.NO_ROOM),
        ((errno.ENETUNREACH, 0), SendResult.SENT_WITHOUT_SOURCE),
        ((errno.ENETUNREACH, errno.EPERM), SendResult.DROPPED),
    ],
)
def test_a_full_queue_is_not_a_dropped_datagram(
    errors: tuple[int, ...], result: SendResult
) -> None:
    sock = Refusing(*errors)
    sockets = UdpSockets({socket.AF_INET: cast("socket.socket", sock)})
    assert sockets.send(b"x", TO, SOURCE) is result
    assert sock.errors == []
    assert sum(sockets.errors.values()) == sum(error != 0 for error in errors)


@pytest.mark.parametrize(
    ("port", "hint"), [(53, "below 1024"), (51820, "a rule"), (0, "a rule")]
)
def test_the_hint_fits_the_port_that_was_refused(
    port: int, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(NotPermitted) as caught:
        UdpSockets.bind(port)
    assert hint in caught.value.hint
