"""The system's side of a change: what is configured, and put back after a loss."""

from __future__ import annotations

import logging
import random
from dataclasses import replace

import pytest

from tunnel.errors import NetconfigError
from tunnel.netconfig import linux
from tunnel.netconfig.base import WantedState
from tunnel.netconfig.interface import Interface
from tunnel.netconfig.runner import Runner
from tunnel.network import SystemNetwork
from tunnel.state.model import DeviceState, InterfaceState

from .models import LinuxModel
from .states import address, prefix, random_state

FOUND = DeviceState(interface=InterfaceState(name="wg0", mtu=1500))
BY_HAND = DeviceState(
    interface=InterfaceState(
        name="wg0",
        mtu=1380,
        addresses=(address("10.0.0.1/24"), address("fd00::1/64")),
        routes=(prefix("172.16.0.0/12"), prefix("0.0.0.0/0")),
    ),
    fwmark=7,
)
CONFIGURED = replace(BY_HAND, interface=replace(BY_HAND.interface, auto_configure=True))


def with_mtu(state: DeviceState, mtu: int) -> DeviceState:
    return replace(state, interface=replace(state.interface, mtu=mtu))


@pytest.fixture(params=[True, False], ids=["newer kernel", "older kernel"])
def model(request: pytest.FixtureRequest) -> LinuxModel:
    made = LinuxModel()
    made.newer = request.param
    return made


def test_everything_there_and_back(model: LinuxModel) -> None:
    start = model.snapshot()
    network = SystemNetwork(Runner(model))
    back = network.change(FOUND, CONFIGURED)
    assert model.local() == {"10.0.0.1", "fd00::1"}
    back()
    assert model.snapshot() == start
    network.change(FOUND, CONFIGURED)
    network.close()
    assert model.snapshot() == start
    network.close()


def test_without_auto_configure_the_mtu_alone_is_set(model: LinuxModel) -> None:
    network = SystemNetwork(Runner(model))
    network.change(FOUND, BY_HAND)
    assert [" ".join(argv) for argv in model.calls] == ["ip link set mtu 1380 dev wg0"]
    back = network.change(BY_HAND, with_mtu(BY_HAND, 1300))
    assert model.mtu == 1300
    back()
    assert model.mtu == 1380
    network.close()
    assert model.mtu == 1500
    assert not model.up
    assert model.addresses == []


def test_a_refused_mtu_refuses_the_change(model: LinuxModel) -> None:
    network = SystemNetwork(Runner(model))
    model.fail_at = 1
    with pytest.raises(NetconfigError, match="MTU"):
        network.change(FOUND, BY_HAND)
    network.change(FOUND, BY_HAND)
    assert model.mtu == 1380


def test_what_was_configured_stays_when_auto_configure_ends(model: LinuxModel) -> None:
    network = SystemNetwork(Runner(model))
    network.change(FOUND, CONFIGURED)
    network.change(CONFIGURED, with_mtu(BY_HAND, 1300))
    assert model.mtu == 1300
    assert model.local() == {"10.0.0.1", "fd00::1"}


def test_a_tunnel_in_memory_has_no_interface(model: LinuxModel) -> None:
    loopback = replace(FOUND.interface, kind="loopback", mtu=1300)
    SystemNetwork(Runner(model)).change(FOUND, replace(FOUND, interface=loopback))
    assert model.calls == []


def test_restore_adds_what_was_lost(model: LinuxModel) -> None:
    network = SystemNetwork(Runner(model))
    network.change(FOUND, CONFIGURED)
    before = model.snapshot()
    model.down_and_up()
    assert model.local() == {"10.0.0.1"}
    assert model.routes == set()
    network.restore()
    assert model.snapshot() == before


def test_restore_is_for_what_we_configured(model: LinuxModel) -> None:
    network = SystemNetwork(Runner(model))
    network.restore()
    network.change(FOUND, CONFIGURED)
    network.change(CONFIGURED, BY_HAND)
    model.calls.clear()
    network.restore()
    assert model.calls == []


def test_what_cannot_be_restored_is_told(
    model: LinuxModel, caplog: pytest.LogCaptureFixture
) -> None:
    network = SystemNetwork(Runner(model))
    network.change(FOUND, CONFIGURED)
    model.down_and_up()
    model.fail_at = len(model.calls) + 2
    with caplog.at_level(logging.WARNING, "tunnel.network"):
        network.restore()
    (message,) = caplog.messages
    assert "fd00::1/64" in message
    assert "made to fail" in message


def test_many_routes_are_restored_at_once(model: LinuxModel) -> None:
    network = SystemNetwork(Runner(model, model.feed))
    routes = tuple(prefix(f"172.16.{n}.0/24") for n in range(200))
    routes += tuple(prefix(f"fd05:{n:x}::/32") for n in range(200))
    many = replace(CONFIGURED.interface, routes=routes)
    network.change(FOUND, replace(CONFIGURED, interface=many))
    before = model.snapshot()
    model.down_and_up()
    model.batches = 0
    network.restore()
    assert model.snapshot() == before
    assert model.batches == 2  # IPv4 and IPv6
    network.close()
    assert model.routes == set()
    assert model.batches == 4


@pytest.mark.parametrize("together", [True, False], ids=["batch", "one by one"])
def test_only_a_route_of_ours_counts_as_restored(
    model: LinuxModel, caplog: pytest.LogCaptureFixture, together: bool
) -> None:
    """`File exists` is said of any route to the same prefix, wherever it leads."""
    network = SystemNetwork(Runner(model, model.feed if together else None))
    routes = ["172.16.0.0/12", "192.168.7.1/32", "192.168.8.0/24", "fd05::/48"]
    routes += ["fd06::1/128", "0.0.0.0/0", "::/0"]
    some = replace(CONFIGURED.interface, routes=tuple(map(prefix, routes)))
    network.change(FOUND, replace(CONFIGURED, interface=some))
    before = model.snapshot()
    with caplog.at_level(logging.WARNING, "tunnel.network"):
        network.restore()  # nothing was lost
        assert caplog.messages == []
        model.down_and_up()
        model.others = frozenset({"192.168.8.0/24"})
        network.restore()
    (message,) = caplog.messages
    assert message == (
        "not restored: ip -4 route add 192.168.8.0/24 dev wg0 proto static: RTNETLINK "
        "answers: File exists (another interface has this route already: remove it "
        "from one of them)"
    )
    model.others = frozenset()
    network.restore()
    assert model.snapshot() == before


def test_what_a_batch_gives_up_is_done_one_by_one(
    model: LinuxModel, caplog: pytest.LogCaptureFixture
) -> None:
    network = SystemNetwork(Runner(model, model.feed))
    routes = tuple(prefix(f"172.16.{n}.0/24") for n in range(9))
    many = replace(CONFIGURED.interface, routes=routes)
    network.change(FOUND, replace(CONFIGURED, interface=many))
    before = model.snapshot()
    model.down_and_up()
    model.gives_up = "172.16.5.0/24"
    with caplog.at_level(logging.WARNING, "tunnel.network"):
        network.restore()
    assert model.snapshot() == before
    assert caplog.messages == []


def test_a_batch_whose_state_nobody_knows_is_taken_back_and_done_one_by_one(
    model: LinuxModel,
) -> None:
    network = SystemNetwork(Runner(model, model.feed))
    routes = tuple(prefix(f"172.16.{n}.0/24") for n in range(9))
    many = replace(CONFIGURED.interface, routes=routes)
    model.gives_up = "172.16.5.0/24"
    network.change(FOUND, replace(CONFIGURED, interface=many))
    assert {r[0] for r in model.routes} == {f"172.16.{n}.0/24" for n in range(9)}
    before = model.batches
    network.close()
    assert model.routes == set()
    assert model.batches == before  # never again


def test_a_change_whose_batch_does_not_end_is_undone(model: LinuxModel) -> None:
    """Some of it may have had its effect; nothing of it stays."""
    network = SystemNetwork(Runner(model, model.feed))
    network.change(FOUND, CONFIGURED)
    before = model.snapshot()
    routes = tuple(prefix(f"172.16.{n}.0/24") for n in range(9))
    model.hangs_after = 5
    with pytest.raises(NetconfigError, match=r"172\.16\.0\.0/24 .*: no answer$"):
        network.change(
            CONFIGURED,
            replace(CONFIGURED, interface=replace(CONFIGURED.interface, routes=routes)),
        )
    assert model.snapshot() == before


def test_a_batch_that_does_not_end_says_so_of_each(
    model: LinuxModel, caplog: pytest.LogCaptureFixture
) -> None:
    network = SystemNetwork(Runner(model, model.feed))
    routes = tuple(prefix(f"172.16.{n}.0/24") for n in range(3))
    many = replace(CONFIGURED.interface, routes=routes)
    network.change(FOUND, replace(CONFIGURED, interface=many))
    model.down_and_up()
    model.hangs_after = 0
    with caplog.at_level(logging.WARNING, "tunnel.network"):
        network.restore()
    told = [m for m in caplog.messages if "route add" in m]
    assert [m.split()[6] for m in told] == [f"172.16.{n}.0/24" for n in range(3)]
    assert all("no answer" in m for m in told)


@pytest.mark.parametrize("together", [True, False], ids=["batch", "one by one"])
@pytest.mark.parametrize("newer", [True, False])
def test_restore_of_any_state(newer: bool, seed: int, together: bool) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        wanted = random_state(rng)
        model = LinuxModel()
        model.newer = newer
        start = WantedState("wg0", mtu=1500, up=False)
        runner = Runner(model, model.feed if together else None)
        interface = Interface(start, runner=runner, planner=linux.commands)
        interface.apply(wanted)
        before = model.snapshot()
        if wanted.up:
            model.down_and_up()
        assert interface.restore() == []
        assert model.snapshot() == before


def test_a_change_after_a_loss(model: LinuxModel) -> None:
    """Nobody restored it: what is gone is no reason to refuse that it goes."""
    network = SystemNetwork(Runner(model))
    network.change(FOUND, CONFIGURED)
    model.down_and_up()
    model.addresses.clear()
    other = replace(CONFIGURED.interface, addresses=(address("fd00::2/64"),))
    network.change(CONFIGURED, replace(CONFIGURED, interface=other))
    assert model.local() == {"fd00::2"}
