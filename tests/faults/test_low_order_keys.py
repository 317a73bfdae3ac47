"""R7: a peer whose public key has low order may be configured but never hears us."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable

import pytest
from lab.engines import Engine, EngineKind, Identity, PeerConfig
from lab.network import Lab

pytestmark = pytest.mark.root

PRIME = 2**255 - 19
# RFC 7748 section 6.1; all u of order 1, 2, 4 or 8, and what is equal modulo p
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    PRIME - 1,
    PRIME,
    PRIME + 1,
]
SILENCE_S = 2.0


def test_r7_peers_with_low_order_keys_hear_nothing(
    engine: Callable[[str], EngineKind],
) -> None:
    with Lab("left", "right") as lab:
        left, right = lab
        ours = Engine(engine("ours"), left)
        with right.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
            listener.bind((right.ipv4, 0))
            endpoint = f"{right.ipv4}:{listener.getsockname()[1]}"
            keys = [
                base64.b64encode(each.to_bytes(32, "little")).decode()
                for each in LOW_ORDER
            ]
            peers = [
                PeerConfig(key, [f"10.77.1.{number}/32"], endpoint, keepalive=1)
                for number, key in enumerate(keys, start=1)
            ]
            ours.setconf(Identity.new(), peers)
            ours.addresses("10.77.0.1/16")
            assert len(ours.status().peers) == len(LOW_ORDER)
            for number in range(1, len(LOW_ORDER) + 1):
                left.popen("ping", "-c", "2", "-W", "1", f"10.77.1.{number}")
            listener.settimeout(SILENCE_S)
            with pytest.raises(TimeoutError):
                listener.recv(2048)
            # The twin: an ordinary key is greeted on the same path.
            listener.settimeout(20)
            other = PeerConfig(Identity.new().public_key, ["10.77.2.1/32"], endpoint)
            ours.setconf(Identity.new(), [*peers, other])
            left.popen("ping", "-c", "1", "-W", "1", "10.77.2.1")
            assert len(listener.recv(2048)) == 148
