"""Plans on a real packet path: the tables agree with the state, and failures leave
no trace."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from tunnel.device import Device
from tunnel.device_change import DeviceChange
from tunnel.engine import Engine
from tunnel.errors import ApplyError, DeviceError, TunnelError
from tunnel.io.base import SendResult
from tunnel.protocol.node import Node
from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Secret,
    canonical_prefixes,
    mask,
    prefix_owners,
)
from tunnel.state.plan import Plan, diff

KEYS = [bytes([9, n]) * 16 for n in range(7)]
ENDPOINT = bytes([192, 0, 2, 1]), 9, 0
SOURCE = bytes([10, 0, 0, 1]), 2
PREFIXES = [mask(bytes([10, n, 0, 0]), 16) for n in range(6)]
PREFIXES += [mask(bytes([0xFD, n, *bytes(14)]), 32) for n in range(3)]


class NoSockets:
    """A transport that is a number and a mark."""

    connected = None
    fileno4 = fileno6 = -1
    more: tuple[tuple[int, int], ...] = ()
    errors: ClassVar[dict[str, int]] = {}

    def __init__(self, port: int, mark: int) -> None:
        self.port, self.mark, self.closed = port or 40_000, mark, False

    def send(self, *args: Any) -> SendResult:
        return SendResult.SENT

    def set_fwmark(self, mark: int) -> None:
        self.mark = mark

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def device() -> Iterator[Device]:
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    opened: list[NoSockets] = []

    def open_transport(port: int, mark: int, addresses: Sequence[bytes]) -> NoSockets:
        opened.append(NoSockets(port, mark))
        return opened[-1]

    engine.device.open_transport = open_transport
    engine.start()
    yield engine.device
    engine.close()
    assert all(transport.closed for transport in opened)


def random_state(rng: random.Random, device: Device) -> DeviceState:
    keys = rng.sample(KEYS, rng.randrange(len(KEYS)))
    owned: dict[bytes, list[tuple[bytes, int]]] = {key: [] for key in keys}
    for prefix in PREFIXES:
        if keys and rng.random() < 0.8:
            owned[rng.choice(keys)].append(prefix)
    peers = {
        key: PeerState(
            key,
            name=rng.choice("ab"),
            preshared_key=rng.choice([None, Secret(bytes([5]) * 32)]),
            endpoint=rng.choice([None, (bytes([1, 1, 1, 1]), 1, 0)]),
            allowed_ips=canonical_prefixes(owned[key]),
            keepalive=rng.choice([0, 25]),
            enabled=rng.random() < 0.8,
        )
        for key in keys
    }
    return DeviceState(
        private_key=rng.choice(
            [None, Secret(bytes([8]) * 32), Secret(bytes([16]) * 32)]
        ),
        listen_port=rng.choice([0, 1000, 1001]),
        fwmark=rng.choice([0, 7]),
        interface=replace(device.state.interface, mtu=rng.choice([1280, 1420])),
        peers=peers,
        log_level=rng.choice(["info", "debug"]),
    )


def routes(device: Device) -> dict[tuple[bytes, int], bytes]:
    """Who owns each prefix in the packet path, asked of a transaction."""
    names = {id(peer.path): key for key, peer in device.node.peers.items()}
    found = {}
    change = device.pump.begin()
    for prefix in PREFIXES:
        path = change.remove_prefix(*prefix)
        if path is not None:
            found[prefix] = names[id(path)]
    change.abort()
    return found


def trace(device: Device) -> object:
    """Everything a failed change could have left behind."""
    transport = device.transport
    assert isinstance(transport, NoSockets)
    assert not transport.closed
    return (
        routes(device),
        dict(device.owners),
        device.generation,
        device.pump.generation,
        (transport, transport.mark, device.mtu, device.node.public_key),
        {
            key: (peer.path.endpoint, peer.name, peer.keepalive)
            for key, peer in device.node.peers.items()
        },
    )


def check(device: Device, state: DeviceState) -> None:
    assert device.observe() == state
    enabled = {key: peer for key, peer in state.peers.items() if peer.enabled}
    assert device.owners == prefix_owners(state.peers) == routes(device)
    assert device.node.peers.keys() == enabled.keys()
    for key, peer in device.node.peers.items():
        assert (peer.name, peer.keepalive) == (
            enabled[key].name,
            enabled[key].keepalive,
        )
        assert peer.path.token is peer  # type: ignore[attr-defined]
    transport = device.transport
    assert isinstance(transport, NoSockets)
    assert transport.mark == state.fwmark
    assert transport.port == state.listen_port or not state.listen_port
    assert (device.node.public_key is None) == (state.private_key is None)
    assert device.mtu == state.interface.mtu


def test_random_plans_reach_what_they_say(device: Device, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        state = random_state(rng, device)
        device.apply(diff(device.observe(), state, generation=device.generation))
        check(device, state)


def test_a_failure_at_any_step_leaves_no_trace(
    device: Device, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    real_stage = DeviceChange.stage
    countdown = -1

    def stage(self: DeviceChange, action: Any) -> None:
        nonlocal countdown
        real_stage(self, action)
        if countdown == 0:
            raise RuntimeError("told to fail")
        countdown -= 1

    monkeypatch.setattr(DeviceChange, "stage", stage)
    failures = 0
    for _ in range(25):
        state = random_state(rng, device)
        plan = diff(device.observe(), state, generation=device.generation)
        before = trace(device)
        for step in range(len(plan.actions)):
            countdown = step
            with pytest.raises(ApplyError, match="told to fail"):
                device.apply(plan)
            assert trace(device) == before
            failures += 1
        countdown = -1
        device.apply(plan)
        check(device, state)
    assert failures > 50


def test_sockets_that_cannot_be_opened_refuse_the_whole_plan(device: Device) -> None:
    def refuse(*_: object) -> NoSockets:
        raise DeviceError("port taken")

    device.open_transport = refuse
    peers = {KEYS[0]: PeerState(KEYS[0], allowed_ips=(PREFIXES[0],))}
    state = replace(device.observe(), listen_port=9, fwmark=3, peers=peers)
    before = trace(device)
    with pytest.raises(DeviceError, match="port taken"):
        device.apply(diff(device.observe(), state, generation=0))
    assert trace(device) == before


@pytest.mark.parametrize("change", [{"fwmark": 3}, {"listen_port": 9}])
def test_r72_other_sockets_or_another_mark_make_every_source_new(
    device: Device, change: dict[str, int]
) -> None:
    """Also one that was refused: by the routes of the new mark it may be right."""
    device.pump.on_sources = None  # nobody else judges
    peers = {key: PeerState(key, endpoint=ENDPOINT) for key in KEYS[:2]}
    state = replace(device.observe(), peers=peers)
    device.apply(diff(device.observe(), state, generation=device.generation))
    refused, kept = (device.node.peers[key].path for key in KEYS[:2])
    for path in (refused, kept):
        path.note_received(device.loop.now(), 0, ENDPOINT, SOURCE)
    assert refused.judge_source(SOURCE, False)  # type: ignore[attr-defined]
    state = replace(state, **change)
    device.apply(diff(device.observe(), state, generation=device.generation))
    assert (refused.source, kept.source) == (None, None)
    refused.note_received(device.loop.now(), 0, ENDPOINT, SOURCE)
    assert refused.source == SOURCE


class Commands:
    """A network that says what it was told to do."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def change(self, before: DeviceState, after: DeviceState) -> Any:
        self.log.append(f"mtu {before.interface.mtu} -> {after.interface.mtu}")
        if after.interface.mtu == 666:
            raise TunnelError("no such MTU")
        return lambda: self.log.append(f"back to {before.interface.mtu}")

    def close(self) -> None:
        self.log.append("close")


def test_interface_commands_come_last_and_are_taken_back_when_the_rest_breaks(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a change that is refused for another reason none ever runs."""
    device.network = commands = Commands()

    def refuse(*_: object) -> NoSockets:
        raise DeviceError("port taken")

    def wanted(mtu: int, port: int = 0) -> Plan:
        state = device.observe()
        after = replace(
            state, listen_port=port, interface=replace(state.interface, mtu=mtu)
        )
        return diff(state, after, generation=device.generation)

    device.apply(wanted(1300))
    with pytest.raises(TunnelError, match="no such MTU"):
        device.apply(wanted(666))
    device.open_transport, works = refuse, device.open_transport
    with pytest.raises(DeviceError, match="port taken"):
        device.apply(wanted(1200, port=5))
    device.open_transport = works
    assert commands.log == ["mtu 1420 -> 1300", "mtu 1300 -> 666"]

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(DeviceChange, "_publish", broken)
    with pytest.raises(DeviceError, match="broke off"):
        device.apply(wanted(1200, port=5))
    assert commands.log[2:] == ["mtu 1300 -> 1200", "back to 1300"]
    assert device.mtu == 1300


def test_a_break_after_the_instant_ends_the_tunnel(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def boom(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Node, "remove_peer", boom)
    peers = {KEYS[0]: PeerState(KEYS[0])}
    state = device.observe()
    device.apply(diff(state, replace(state, peers=peers), generation=0))
    with pytest.raises(DeviceError, match="broke off"):
        device.apply(diff(device.observe(), state, generation=1))
    with pytest.raises(DeviceError, match="broke off"):
        device.loop.run()
