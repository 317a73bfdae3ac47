"""What an answer to a change waits for: batches under way that use what was taken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from tunnel.engine import Engine
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret

A, B = bytes([1]) * 32, bytes([2]) * 32
PREFIX = (bytes([10, 0, 0, 0]), 8)


class Spy:
    """The packet path, and how often it was waited for."""

    def __init__(self, pump: Any) -> None:
        self._pump = pump
        self.settled = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pump, name)

    def settle(self) -> bool:
        self.settled += 1
        return bool(self._pump.settle())


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    with closing(engine):
        engine.start()
        yield engine


def test_only_what_takes_a_peer_or_the_device_s_own_waits(engine: Engine) -> None:
    spy = Spy(engine.device.pump)
    engine.device.pump = spy  # type: ignore[assignment]

    def waits(**changes: object) -> bool:
        before = spy.settled
        state = replace(engine.device.observe(), **changes)  # type: ignore[arg-type]
        plan = engine.plan(state)
        assert not plan.empty
        engine.apply(plan)
        return spy.settled > before

    def peers(*listed: PeerState) -> dict[str, object]:
        return {"peers": {peer.public_key: peer for peer in listed}}

    one, two = PeerState(A, allowed_ips=(PREFIX,)), PeerState(B)
    assert waits(private_key=Secret(bytes(31) + b"\x40"))
    assert not waits(**peers(one, two))
    assert not waits(**peers(replace(one, keepalive=25), two))
    assert not waits(**peers(PeerState(A), replace(two, allowed_ips=(PREFIX,))))
    assert waits(**peers(PeerState(A)))
    assert waits(**peers(replace(PeerState(A), enabled=False)))
    assert waits(private_key=Secret(bytes(31) + b"\x41"))
    assert isinstance(engine.device.observe(), DeviceState)
