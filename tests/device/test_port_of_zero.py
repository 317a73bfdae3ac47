"""A listen port of 0 is the port of last time, also after it was another number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from tunnel.device import Device
from tunnel.engine import Engine
from tunnel.errors import DeviceError
from tunnel.state.model import InterfaceState
from tunnel.state.plan import diff

from .test_change import NoSockets


class Ports:
    """Binds what is asked for, 0 to the next number; `taken` cannot be had."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.taken: set[int] = set()
        self.next = 40_000

    def __call__(self, port: int, mark: int, addresses: Sequence[bytes]) -> NoSockets:
        self.asked.append(port)
        if port in self.taken:
            raise DeviceError("port taken")
        if not port:
            self.next += 1
        return NoSockets(port or self.next, mark)


@pytest.fixture
def ports() -> Ports:
    return Ports()


@pytest.fixture
def device(ports: Ports) -> Iterator[Device]:
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    engine.device.open_transport = ports
    engine.start()
    yield engine.device
    engine.close()


def listen(device: Device, port: int) -> int:
    state = device.observe()
    plan = diff(state, replace(state, listen_port=port), generation=device.generation)
    device.apply(plan)
    return device.listen_port


def test_pinned_to_its_own_number_and_back_the_sockets_stay(
    device: Device, ports: Ports
) -> None:
    sockets, port = device.transport, device.listen_port
    assert listen(device, port) == port
    assert listen(device, 0) == port
    assert device.transport is sockets
    assert ports.asked == [0]


def test_another_number_and_back(device: Device, ports: Ports) -> None:
    port = device.listen_port
    assert listen(device, 1000) == 1000
    assert listen(device, 1001) == 1001
    assert listen(device, 0) == port
    assert ports.asked == [0, 1000, 1001, port]
    ports.taken.add(port)
    listen(device, 1000)
    assert listen(device, 0) == ports.next != port


def test_also_when_the_interface_was_down(device: Device) -> None:
    port = device.listen_port
    device.set_up(False)
    assert listen(device, 1000) == 1000
    device.set_up(True)
    device.set_up(False)
    assert listen(device, 0) == port
    device.set_up(True)
    assert device.listen_port == port


def test_what_was_never_0_has_no_port_of_last_time(ports: Ports) -> None:
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    engine.device.open_transport = ports
    device = engine.device
    device.start()
    try:
        listen(device, 1000)
        device.set_up(True)
        assert listen(device, 0) == ports.next
        assert ports.asked == [1000, 0]
    finally:
        engine.close()
