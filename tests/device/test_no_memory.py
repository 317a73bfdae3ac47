"""A change that finds no memory is refused while it can be, and the next one works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tunnel import device_change
from tunnel.device import Device
from tunnel.device_change import PeerChanges
from tunnel.engine import Engine
from tunnel.errors import ApplyError
from tunnel.protocol import node
from tunnel.state.model import InterfaceState, PeerState
from tunnel.state.plan import diff

KEYS = [bytes([9, n]) * 16 for n in range(5)]


@pytest.fixture
def device() -> Iterator[Device]:
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    engine.start()
    yield engine.device
    engine.close()


def apply_peers(device: Device) -> None:
    peers = {
        key: PeerState(key, allowed_ips=((bytes([10, 0, 0, key[1]]), 32),), keepalive=1)
        for key in KEYS
    }
    state = device.observe()
    wanted = replace(state, peers=peers)
    device.apply(diff(state, wanted, generation=device.generation))


def fail_at(call: int, real: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    def counted(*values: object, **named: object) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise MemoryError
        return real(*values, **named)

    return counted


@pytest.mark.parametrize(
    ("where", "name", "call"),
    [
        (node, "Peer", 1),
        (node, "Peer", 4),
        (device_change, "PeerChanges", 1),
        (device_change, "_spare_memory", 1),
        (PeerChanges, "insert_prefixes", 1),
    ],
)
def test_no_memory_refuses_the_whole_change(
    device: Device, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, call: int
) -> None:
    before = device.generation, device.pump.generation, device.observe()
    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail_at(call, getattr(where, name)))
        with pytest.raises((ApplyError, MemoryError)):
            apply_peers(device)
    assert (device.generation, device.pump.generation, device.observe()) == before
    assert device.node.peers == {}
    assert device.owners == {}
    deadline = time.monotonic() + 20
    while device.pump.retired:  # what was added is freed once the worker agrees
        assert time.monotonic() < deadline
        device.pump.settle()
        device.pump.drain()
    apply_peers(device)
    assert list(device.node.peers) == KEYS
    assert len(device.owners) == len(KEYS)
