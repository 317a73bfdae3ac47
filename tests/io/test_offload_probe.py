"""What the system's UDP sockets can do, as it is asked and as it is."""

from __future__ import annotations

import errno
import socket

import pytest
from lab.held import open_descriptors

from tunnel.io import sockopt
from tunnel.io.sockopt import UdpOffloads, probe_offloads


def test_r63_offload_probe_agrees_with_a_try(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_descriptors()
    offloads = probe_offloads()
    assert open_descriptors() == before
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.setsockopt(socket.IPPROTO_UDP, 103, 1200)
            works = True
        except OSError:
            works = False
    assert offloads.segmentation is works

    class Old(socket.socket):
        def getsockopt(self, *_: object) -> int:  # type: ignore[override]
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")

    monkeypatch.setattr(sockopt.socket, "socket", Old)
    assert probe_offloads() == UdpOffloads(False, False)
