"""An engine whose sockets cannot be bound, and an interface that comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

from tunnel import interface_watch
from tunnel.engine import Engine
from tunnel.errors import DeviceError, NotPermitted, TunnelError
from tunnel.io.base import UdpTransport
from tunnel.io.link_linux import LinkEvent
from tunnel.state.model import DeviceState, InterfaceState

MEMORY = InterfaceState(kind="loopback", name="up0")
TAKEN = DeviceError("cannot bind UDP port 7: Address already in use", hint="choose")
LOW = NotPermitted("cannot bind UDP port 7: Permission denied", hint="ports below")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setattr(interface_watch, "RETRY", 1_000_000)
    with closing(Engine(MEMORY)) as made:
        yield made


class Sockets:
    """Refuses with one reason after the other, then stops the loop and binds."""

    def __init__(self, engine: Engine, *reasons: TunnelError) -> None:
        self._engine = engine
        self._open = engine.device.open_transport
        self._reasons = list(reasons)
        self.calls = 0
        engine.device.open_transport = self

    def __call__(
        self, port: int, fwmark: int, addresses: Sequence[bytes]
    ) -> UdpTransport:
        self.calls += 1
        if self._reasons:
            raise self._reasons.pop(0)
        self._engine.loop.stop()
        return self._open(port, fwmark, addresses)


def test_any_refusal_is_waited_for_and_told_when_it_is_a_new_one(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = (TAKEN, TAKEN, TAKEN, LOW, LOW, TAKEN)
    sockets = Sockets(engine, *reasons)
    with caplog.at_level(logging.ERROR, "tunnel"):
        engine.start()
        assert not engine.device.up
        assert engine.device.status().waiting == str(TAKEN)
        engine.run()
    assert engine.device.up
    assert engine.device.status().waiting == ""
    assert sockets.calls == len(reasons) + 1
    assert caplog.messages == [str(TAKEN), str(LOW), str(TAKEN)]


def test_an_interface_that_is_down_waits_for_nothing(engine: Engine) -> None:
    Sockets(engine, TAKEN)
    with pytest.raises(DeviceError):
        engine.device.set_up(True)
    assert engine.device.status().waiting == str(TAKEN)
    engine.device.set_up(False)
    assert engine.device.status().waiting == ""


class Link:
    """An interface as the engine watches it; `tell` is what it reports next."""

    def __init__(self, ifindex: int) -> None:
        self.ifindex, self.mtu, self.is_up, self.unseen = ifindex, 1420, False, False
        self._events: list[LinkEvent] = []

    def read_events(self) -> list[LinkEvent]:
        events, self._events = self._events, []
        for event in events:
            if event in {LinkEvent.UP, LinkEvent.DOWN}:
                self.is_up = event is LinkEvent.UP
        return events

    def tell(self, engine: Engine, *events: LinkEvent) -> None:
        self._events += events
        engine.interface.look()

    def limit_gso(self, size: int) -> None: ...

    def close(self) -> None: ...


class Restored:
    """A network that counts, and notes whether the device was up meanwhile."""

    def __init__(self) -> None:
        self.times = 0
        self.engine: Engine | None = None
        self.up: list[bool] = []

    def restore(self) -> None:
        self.times += 1
        if self.engine is not None:
            self.up.append(self.engine.device.up)

    def change(self, before: DeviceState, after: DeviceState) -> object:
        raise AssertionError("nothing changes here")

    def close(self) -> None:
        pass


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, Link, Restored]]:
    monkeypatch.setattr(interface_watch, "_ifindex", lambda name: 5)
    network = Restored()
    with closing(Engine(MEMORY, network=network)) as made:  # type: ignore[arg-type]
        made.device.start()
        link = Link(5)
        made.interface.link = link  # type: ignore[assignment]
        network.engine = made
        yield made, link, network


def test_the_network_is_restored_when_the_interface_comes_back(
    watched: tuple[Engine, Link, Restored],
) -> None:
    engine, link, network = watched
    link.tell(engine, LinkEvent.UP)
    assert network.times == 0  # the first time it is being configured
    link.tell(engine, LinkEvent.DOWN)
    assert not engine.device.up
    link.tell(engine, LinkEvent.UP)
    assert network.times == 1
    assert engine.device.up
    link.tell(engine, LinkEvent.DOWN, LinkEvent.UP)
    assert network.times == 2
    assert network.up == [True, True]  # its sockets did not wait for its routes


def test_what_is_down_again_is_not_restored(
    watched: tuple[Engine, Link, Restored],
) -> None:
    engine, link, network = watched
    link.tell(engine, LinkEvent.UP, LinkEvent.DOWN, LinkEvent.UP, LinkEvent.DOWN)
    assert network.times == 0
    link.tell(engine, LinkEvent.UP, LinkEvent.DOWN, LinkEvent.UP)
    assert network.times == 1  # of many changes the last one counts


def test_the_network_is_restored_when_the_mtu_has_room_for_ipv6_again(
    watched: tuple[Engine, Link, Restored],
) -> None:
    engine, link, network = watched
    link.tell(engine, LinkEvent.UP)
    for mtu, times in ((1300, 0), (1279, 0), (1000, 0), (1280, 1), (1400, 1)):
        link.mtu = mtu
        link.tell(engine, LinkEvent.MTU)
        assert network.times == times
    link.tell(engine, LinkEvent.MTU, LinkEvent.MTU)  # of the first nothing is known
    assert network.times == 2
    link.mtu = 1200
    link.tell(engine, LinkEvent.MTU, LinkEvent.DOWN, LinkEvent.UP)
    assert network.times == 3  # IPv4 routes can be there now
    link.mtu = 1400
    link.tell(engine, LinkEvent.DOWN, LinkEvent.MTU)
    assert network.times == 3
    link.tell(engine, LinkEvent.UP)
    assert network.times == 4


def test_another_interface_of_the_name_is_left_alone(
    watched: tuple[Engine, Link, Restored], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours was renamed, and perhaps another has its name now."""
    engine, link, network = watched
    link.ifindex = 6
    link.tell(engine, LinkEvent.UP, LinkEvent.DOWN, LinkEvent.UP)

    def gone(name: str) -> int:
        raise DeviceError("gone")

    monkeypatch.setattr(interface_watch, "_ifindex", gone)
    link.tell(engine, LinkEvent.DOWN, LinkEvent.UP)
    assert network.times == 0
    assert engine.device.up
