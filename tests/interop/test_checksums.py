"""Checksums that the kernel leaves to the engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.echo import ping
from lab.engines import EngineKind
from lab.pair import tunnel_pair
from lab.process import wait_until

pytestmark = [pytest.mark.root, pytest.mark.interop]

SCRIPT = str(Path(__file__).with_name("zero_sums.py"))
SENT = 28


@pytest.mark.parametrize("to", ["ours", "wireguard-go"])
def test_datagrams_whose_checksum_comes_to_zero_arrive(
    engine: Callable[[str], EngineKind], to: str
) -> None:
    """RFC 8200 section 8.1: it is sent as 0xffff, for IPv6 hosts discard a zero.

    One of 65,536 datagrams is concerned. Alone and in trains, which the kernel hands
    over as one packet where it can.
    """
    with tunnel_pair(engine("ours"), engine(to)) as pair:
        left, right = pair.left, pair.right
        assert ping(left.host, right.ipv6, count=1).lost == 0
        ends = (left.ipv6, right.ipv6)
        receiver = right.host.popen(sys.executable, SCRIPT, "receive", *ends)
        wait_until("the receiver", lambda: "ready" in receiver.output(), timeout=10)
        left.host.run(sys.executable, SCRIPT, "send", *ends)
        wait_until("its report", lambda: not receiver.running, timeout=40)
        assert receiver.output().split() == ["ready", str(SENT)]
