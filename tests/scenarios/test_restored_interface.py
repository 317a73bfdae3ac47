"""What somebody does to the interface by hand costs addresses and routes, for a while.

The tunnel configured them (`autoConfigure`) and puts them back, in a network namespace.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_interface

import pytest
from lab.network import Lab, Namespace
from lab.process import wait_until

from tunnel.engine import Engine
from tunnel.network import SystemNetwork
from tunnel.state.model import DeviceState, InterfaceState

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("require_tun")]


def prefix(text: str) -> tuple[bytes, int]:
    found = ip_interface(text)
    return found.packed, found.network.prefixlen


ROUTES = [f"172.16.{n}.0/24" for n in range(100)] + ["fd05::/48", "fd06::1/128"]
CONFIGURED = InterfaceState(
    name="wg0",
    mtu=1420,
    addresses=(prefix("10.0.0.1/24"), prefix("fd00::1/64")),
    routes=tuple(map(prefix, ROUTES)),
    auto_configure=True,
)


class Running:
    """An engine in a thread in `home`, as `tunnel up` has it."""

    def __init__(self, home: Namespace) -> None:
        self.home = home
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: home.call(self._run))
        self._thread.start()
        assert self._ready.wait(20)

    def _run(self) -> None:
        network = SystemNetwork()
        self.engine = Engine(CONFIGURED, network=network)
        try:
            self.engine.start(DeviceState(interface=CONFIGURED))
            self._ready.set()
            self.engine.run()
        finally:
            self._ready.set()
            network.close()
            self.engine.close()

    def close(self) -> None:
        self.engine.stop()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def change(self, **interface: object) -> None:
        def apply() -> None:
            state = self.engine.device.observe()
            wanted = replace(state.interface, **interface)  # type: ignore[arg-type]
            self.engine.apply(self.engine.plan(replace(state, interface=wanted)))

        self.engine.submit(apply).result(20)

    def have(self) -> tuple[set[str], int]:
        """Addresses of the interface, and how many routes of ours lead to it."""
        (link,) = json.loads(self.home.ip("-json", "address", "show", "dev", "wg0"))
        addresses = {
            f"{one['local']}/{one['prefixlen']}"
            for one in link["addr_info"]
            if one["scope"] == "global"
        }
        routes = [
            self.home.ip(family, "route", "show", "dev", "wg0", "proto", "static")
            for family in ("-4", "-6")
        ]
        return addresses, sum(len(said.splitlines()) for said in routes)

    def soon(self, what: str, holds: Callable[[], bool]) -> None:
        wait_until(what, holds, timeout=10)


WHOLE = {"10.0.0.1/24", "fd00::1/64"}, len(ROUTES)


@pytest.fixture
def running() -> Iterator[Running]:
    with Lab("home") as lab:
        made = Running(lab.hosts[0])
        try:
            assert made.have() == WHOLE
            yield made
        finally:
            made.close()


def test_what_an_mtu_too_small_for_ipv6_costs_is_put_back(running: Running) -> None:
    running.home.ip("link", "set", "mtu", "1200", "dev", "wg0")
    running.soon("the MTU", lambda: running.engine.device.mtu == 1200)
    assert running.have() == ({"10.0.0.1/24"}, 100)
    running.home.ip("link", "set", "mtu", "1280", "dev", "wg0")
    running.soon("IPv6", lambda: running.have() == WHOLE)


def test_the_sockets_are_there_before_the_routes(running: Running) -> None:
    up: list[bool] = []
    watch = running.engine.interface
    network = watch._network
    assert network is not None
    restore = network.restore

    def noted() -> None:
        up.append(running.engine.device.up)
        restore()

    network.restore = noted  # type: ignore[method-assign]
    running.home.ip("link", "set", "down", "dev", "wg0")
    running.soon("it is down", lambda: not running.engine.device.up)
    running.home.ip("link", "set", "up", "dev", "wg0")
    running.soon("addresses and routes", lambda: running.have() == WHOLE)
    assert up == [True]


def test_what_was_lost_without_auto_configure_comes_back_with_it(
    running: Running,
) -> None:
    running.change(auto_configure=False)
    for mtu in ("1200", "1420"):
        running.home.ip("link", "set", "mtu", mtu, "dev", "wg0")
        running.soon("the MTU", lambda: str(running.engine.device.mtu) == mtu)  # noqa: B023
    assert running.have() == ({"10.0.0.1/24"}, 100)  # hands off
    running.change(auto_configure=True)
    assert running.have() == WHOLE


def test_a_plan_without_ipv6_and_back(running: Running) -> None:
    four = [one for one in CONFIGURED.routes if len(one[0]) == 4]
    addresses = CONFIGURED.addresses[:1]
    running.change(mtu=1200, addresses=addresses, routes=tuple(four))
    assert running.have() == ({"10.0.0.1/24"}, 100)
    running.change(mtu=1420, addresses=CONFIGURED.addresses, routes=CONFIGURED.routes)
    assert running.have() == WHOLE
