"""A change that is taken back, or that fails half way, leaves the addresses in the
order in which they were: the first are the source of what the tunnel carries."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tunnel.errors import NetconfigError
from tunnel.netconfig import linux, windows
from tunnel.netconfig.base import Command, WantedState, prefix_text
from tunnel.netconfig.interface import Interface, Planner
from tunnel.netconfig.programs import Result
from tunnel.netconfig.runner import Runner
from tunnel.network import SystemNetwork
from tunnel.state.model import DeviceState, InterfaceState

from .models import LinuxModel, Model, TogetherModel, WindowsModel
from .recorder import Recorder
from .states import address, packed, prefix, random_state
from .test_real import Namespace, interface_of, namespace  # noqa: F401

BARE = WantedState("wg0", mtu=1500, up=False)
FIRST, SECOND = address("10.7.0.1/32"), address("10.8.0.1/24")
ROUTED = WantedState("wg0", 1420, (FIRST, SECOND), (prefix("172.16.0.0/12"),))


def everything(model: Model) -> object:
    """The snapshot, and the addresses of each family in their order."""
    if isinstance(model, WindowsModel):  # prefers none of them for its place
        return model.snapshot()
    four = [a for a in model.addresses if ":" not in a[0]]
    six = [a for a in model.addresses if ":" in a[0]]
    return model.snapshot(), four, six


@pytest.mark.parametrize(
    ("planner", "model_of"),
    [
        pytest.param(linux.commands, LinuxModel, id="linux"),
        pytest.param(linux.commands, TogetherModel, id="linux, together"),
        pytest.param(windows.commands, WindowsModel, id="windows"),
    ],
)
def test_any_change_taken_back_or_failing_anywhere(
    planner: Planner, model_of: type[Model], seed: int
) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        model = model_of()
        interface = Interface(BARE, runner=model.runner(), planner=planner)
        for _ in range(5):
            wanted, old = random_state(rng), interface.state
            before = everything(model)
            undo = interface.apply(wanted)
            assert undo() == []
            assert everything(model) == before
            assert interface.state == old
            steps = interface.plan(wanted)
            for number in [i for i, s in enumerate(steps, 1) if not s.optional]:
                model.fail_at = len(model.calls) + number
                with pytest.raises(NetconfigError, match="made to fail"):
                    interface.apply(wanted)
                assert everything(model) == before
            interface.apply(wanted)
            shown = [a for a, _ in model.addresses]
            if planner is linux.commands:
                ours = [prefix_text(a) for a in interface.state.addresses]
                for colon in (True, False):
                    assert [a for a in shown if (":" in a) == colon] == [
                        a for a in ours if (":" in a) == colon
                    ]


def test_the_system_has_the_order_of_before(
    namespace: Namespace,  # noqa: F811
    seed: int,
) -> None:
    def order() -> list[object]:
        return [
            (info["family"], info["local"], info["prefixlen"], info.get("secondary"))
            for info in namespace.ip("address", "show", "dev", "wg0")[0]["addr_info"]  # type: ignore[attr-defined]
            if info["scope"] != "link"
        ]

    rng = random.Random(seed)
    interface = interface_of(namespace)
    for _ in range(8):
        wanted = random_state(rng)
        before = namespace.snapshot(), order()
        assert interface.apply(wanted)() == []
        assert (namespace.snapshot(), order()) == before
        steps = interface.plan(wanted)
        essential = [i for i, step in enumerate(steps, 1) if not step.optional]
        if essential:
            namespace.fail_at = namespace.calls + essential[-1]
            with pytest.raises(NetconfigError, match=r"made.to.fail"):
                interface.apply(wanted)
            assert (namespace.snapshot(), order()) == before
        interface.apply(wanted)


def test_the_source_of_what_is_sent_stays(namespace: Namespace) -> None:  # noqa: F811
    def source() -> object:
        return namespace.ip("route", "get", "172.16.0.9")[0]["prefsrc"]

    interface = interface_of(namespace)
    interface.apply(ROUTED)
    assert source() == "10.7.0.1"
    undo = interface.apply(replace(ROUTED, addresses=(SECOND,)))
    assert source() == "10.8.0.1"
    assert undo() == []
    assert source() == "10.7.0.1"


def test_nothing_is_touched_that_lies_in_front() -> None:
    model = LinuxModel()
    interface = Interface(BARE, runner=model.runner(), planner=linux.commands)
    interface.apply(ROUTED)
    undo = interface.apply(replace(ROUTED, addresses=(FIRST,)))
    model.calls.clear()
    undo()
    assert [argv[3:5] for argv in model.calls] == [("add", "10.8.0.1/24")]


def test_many_are_taken_back_at_once() -> None:
    model = LinuxModel()
    runner = Runner(model, model.feed)
    interface = Interface(BARE, runner=runner, planner=linux.commands)
    many = tuple(prefix(f"172.16.{n}.0/24") for n in range(200))
    interface.apply(replace(ROUTED, routes=many))
    undo = interface.apply(replace(ROUTED, addresses=(SECOND,)))
    before, model.batches = everything(model), 0
    assert undo() == []
    assert model.batches == 1
    assert everything(model) != before
    assert {r[0] for r in model.routes} == {f"172.16.{n}.0/24" for n in range(200)}


def command(program: str, letter: str, *, optional: bool = False) -> Command:
    argv, undo = (program, letter), (program, "un" + letter)
    return Command(argv, undo, f"{program} {letter}", optional=optional)


def test_what_had_no_effect_and_who_did_not_answer_are_left_alone() -> None:
    recorder = Recorder(slow_b=Result(None, "no answer"), do_c=Result(1, "no"))
    undo = Runner(recorder).apply(
        [
            *(command("do", "a"), command("slow", "a", optional=True)),
            *(command("slow", "b", optional=True), command("do", "c", optional=True)),
            command("do", "d"),
        ]
    )
    recorder.calls.clear()
    assert undo() == []
    assert recorder.calls == ["do und", "do una"]


def test_what_cannot_be_taken_back_is_told_and_the_rest_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = LinuxModel()
    network = SystemNetwork(Runner(model))
    found = DeviceState(interface=InterfaceState(name="wg0", mtu=1500))
    configured = replace(
        found,
        interface=InterfaceState(
            name="wg0",
            mtu=1420,
            addresses=(FIRST, SECOND),
            dns=(packed("10.0.0.53"),),
            auto_configure=True,
        ),
    )
    back = network.change(found, configured)
    model.fail_at = len(model.calls) + 4  # behind the MTU and the DNS servers
    back()
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert message.startswith("could not restore the interface: ip -4 address delete")
    assert message.endswith("made to fail")
    assert (model.up, model.mtu, model.dns) == (False, 1500, ())
