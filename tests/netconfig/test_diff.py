"""The commands between two states, executed on models of the systems."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import ip_interface

import pytest

from tunnel.errors import NetconfigError
from tunnel.netconfig import linux, windows
from tunnel.netconfig.base import (
    Command,
    WantedState,
    connected,
    masked,
    prefix_text,
    text,
)
from tunnel.netconfig.interface import Interface
from tunnel.netconfig.runner import Runner

from .models import LinuxModel, Model, TogetherModel, WindowsModel
from .states import address, prefix, random_state

Commands = Callable[[WantedState | None, WantedState], list[Command]]
SYSTEMS = [
    pytest.param(linux.commands, LinuxModel, id="linux"),
    pytest.param(linux.commands, TogetherModel, id="linux, together"),
    pytest.param(windows.commands, WindowsModel, id="windows"),
]
both = pytest.mark.parametrize(("commands", "model_of"), SYSTEMS)


def at(
    commands: Commands, model_of: type[Model], state: WantedState | None
) -> tuple[Model, Runner]:
    """A model in that state, and the runner that brought it there."""
    model = model_of()
    runner = model.runner()
    if state is not None:
        runner.apply(commands(None, state))
    return model, runner


def undo(model: Model, steps: list[Command]) -> None:
    """All of them, last first; each must work or find it done."""
    for step in reversed(steps):
        if step.undo is not None:
            result = model(step.undo)
            heard = result.stderr.lower()
            known = any(words.lower() in heard for words in step.undone)
            assert result.ok or known, result


def check(model: Model, state: WantedState) -> None:
    """Compares piece by piece, not by way of the code under test."""
    assert model.up == state.up
    assert model.mtu == state.mtu
    shown = {f"{text(a)}/{cidr}" for a, cidr in state.addresses}
    assert {a for a, _ in model.addresses} == shown
    wanted = {prefix_text(p) for p in state.routes}
    assert wanted <= model.reached()
    assert {route[0] for route in model.routes} <= wanted
    servers = {d.removeprefix("dns ") for d in model.dns if "domain" not in d}
    assert servers == {text(d) for d in state.dns}


@both
def test_apply_reaches_the_state_and_undo_the_one_before(
    commands: Commands, model_of: type[Model], seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(400):
        before = random_state(rng) if rng.random() < 0.9 else None
        after = random_state(rng)
        model, runner = at(commands, model_of, before)
        if before is not None:
            check(model, before)
        start = model.snapshot()
        steps = commands(before, after)
        runner.apply(steps)
        check(model, after)
        undo(model, steps)
        if before is None:  # the MTU was not known
            model.mtu = 1500
        assert model.snapshot() == start


@both
def test_a_failure_at_any_step_leaves_everything_as_it_was(
    commands: Commands, model_of: type[Model], seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        before, after = random_state(rng), random_state(rng)
        steps = commands(before, after)
        for step in range(1, len(steps) + 1):
            model, runner = at(commands, model_of, before)
            start = model.snapshot()
            model.fail_at = len(model.calls) + step
            if steps[step - 1].optional:
                runner.apply(steps)
                continue
            with pytest.raises(NetconfigError, match="made to fail"):
                runner.apply(steps)
            assert model.snapshot() == start


@both
def test_many_changes_in_a_row_and_back_to_the_start(
    commands: Commands, model_of: type[Model], seed: int
) -> None:
    """With a failure now and then, which changes nothing."""
    rng = random.Random(seed)
    for _ in range(30):
        model = model_of()
        start = model.snapshot()
        interface = Interface(
            WantedState("wg0", mtu=1500, up=False),
            runner=Runner(model),
            planner=commands,
        )
        for _ in range(10):
            wanted = random_state(rng)
            steps = interface.plan(wanted)
            essential = [i for i, step in enumerate(steps, 1) if not step.optional]
            if essential and rng.random() < 0.3:
                before = model.snapshot()
                model.fail_at = len(model.calls) + rng.choice(essential)
                with pytest.raises(NetconfigError):
                    interface.apply(wanted)
                assert model.snapshot() == before
            interface.apply(wanted)
            check(model, wanted)
            assert interface.plan(wanted) == []
            shown = [a for a, _ in model.addresses if ":" not in a]
            ours = [prefix_text(a) for a in interface.state.addresses if len(a[0]) == 4]
            for subnet in connected(interface.state.addresses):
                inside = [a for a in shown if _in(subnet, a)]
                assert inside == [a for a in ours if _in(subnet, a)]
        assert interface.undo_all() == []
        assert model.snapshot() == start
        assert interface.undo_all() == []


def _in(subnet: tuple[bytes, int], shown: str) -> bool:
    return str(ip_interface(shown).network) == prefix_text(subnet)


@both
def test_nothing_to_do_is_no_command(
    commands: Commands, model_of: type[Model], seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        state = random_state(rng)
        assert commands(state, state) == []
    bare = WantedState("wg0", up=False)
    assert commands(None, bare) == []


class Watched:
    """Runs commands on a model and remembers what was there after each."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.local: list[set[str]] = []
        self.reached: list[set[str]] = []

    def run(self, steps: list[Command]) -> None:
        for step in steps:
            self.model(step.argv)
            self.local.append(self.model.local())
            self.reached.append(self.model.reached())


def test_what_stays_is_there_all_the_time(seed: int) -> None:
    """No gap for an address, nor for a subnet or route, that both states have.

    Except: an address that gets another prefix length (IPv6 cannot have both), and
    routes that come from the system before and from us afterwards or the reverse.
    """
    rng = random.Random(seed)
    for _ in range(400):
        before, after = random_state(rng), random_state(rng)
        if not (before.up and after.up):
            continue
        model, _ = at(linux.commands, LinuxModel, before)
        watched = Watched(model)
        watched.run(linux.commands(before, after))
        old, new = dict(before.addresses), dict(after.addresses)
        for packed in old.keys() & new.keys():
            if len(packed) == 4 or old[packed] == new[packed]:
                assert all(text(packed) in local for local in watched.local)
        subnets = connected(before.addresses) & connected(after.addresses)
        if any(len(a) == 4 for a in old) == any(len(a) == 4 for a in new):
            covered = connected(before.addresses) | connected(after.addresses)
            subnets |= (set(before.routes) & set(after.routes)) - covered
        for subnet in subnets:
            if len(subnet[0]) == 16 and _relengthened(old, new):
                continue
            missing = [i for i, r in enumerate(watched.reached) if _no(subnet, r)]
            assert missing == []


def _no(subnet: tuple[bytes, int], reached: set[str]) -> bool:
    return prefix_text(subnet) not in reached


def _relengthened(old: dict[bytes, int], new: dict[bytes, int]) -> bool:
    """Some IPv6 address changes its length, and may be what carries a subnet."""
    return any(len(a) == 16 and old[a] != new[a] for a in old.keys() & new.keys())


def test_the_second_address_of_a_subnet_survives_the_first() -> None:
    """Linux removes the secondary addresses of a subnet with the primary one."""
    before = WantedState("wg0", 1420, (address("10.0.0.1/24"), address("10.0.0.2/24")))
    after = WantedState("wg0", 1420, (address("10.0.0.2/24"),))
    model, _ = at(linux.commands, LinuxModel, before)
    watched = Watched(model)
    watched.run(linux.commands(before, after))
    assert model.addresses == [("10.0.0.2/24", False)]
    assert all("10.0.0.2" in local for local in watched.local)
    assert all("10.0.0.0/24" in reached for reached in watched.reached)


def test_routes_outlive_the_last_ipv4_address() -> None:
    """Linux removes an interface's IPv4 routes with its last IPv4 address."""
    route = prefix("172.16.0.0/12")
    before = WantedState("wg0", 1420, (address("10.0.0.1/24"),), (route,))
    after = WantedState("wg0", 1420, (), (route,))
    model, runner = at(linux.commands, LinuxModel, before)
    start = model.snapshot()
    steps = linux.commands(before, after)
    runner.apply(steps)
    assert model.routes == {("172.16.0.0/12", "", "")}
    undo(model, steps)
    assert model.snapshot() == start


def test_undo_all_goes_on_after_a_failure() -> None:
    """The rules of a default route must go even when the interface is gone."""
    model = LinuxModel()
    interface = Interface(
        WantedState("wg0", up=False), runner=Runner(model), planner=linux.commands
    )
    state = WantedState(
        "wg0", 1420, (address("10.0.0.1/24"),), (prefix("0.0.0.0/0"),), fwmark=7
    )
    interface.apply(state)
    assert len(model.rules) == 2
    model.up, model.addresses, model.routes = False, [], set()
    interface.undo_all()
    assert model.rules == set()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"addresses": (address("fd00::1/64"),), "mtu": 1279}, "too small for IPv6"),
        ({"routes": (prefix("::/0"),), "mtu": 1000}, "too small for IPv6"),
        ({"routes": ((bytes([10, 0, 0, 1]), 8),)}, "host bits"),
        ({"addresses": ((bytes(4), 33),)}, "/33 does not fit 0.0.0.0"),
        ({"addresses": ((bytes(5), 3),)}, "4 or 16 bytes"),
        ({"addresses": ((bytes(4), 8), (bytes(4), 9))}, "two prefix lengths"),
        ({"routes": (prefix("10.0.0.0/8"),), "up": False}, "down"),
    ],
)
def test_states_that_cannot_be(fields: dict[str, object], message: str) -> None:
    with pytest.raises(NetconfigError, match=message):
        WantedState("wg0", **fields)  # type: ignore[arg-type]


def test_no_renaming() -> None:
    with pytest.raises(ValueError, match="rename"):
        linux.commands(WantedState("a"), WantedState("b"))


def test_masks() -> None:
    assert masked(address("10.1.2.3/20")) == prefix("10.1.0.0/20")
    assert masked(address("fd00:1:2::1/0")) == prefix("::/0")
    assert masked(address("10.1.2.3/32")) == prefix("10.1.2.3/32")
