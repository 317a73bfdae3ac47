"""The async API: two tunnels in one program, looked at and changed while they run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

import tunnel
from tunnel import Tunnel
from tunnel.errors import DeviceError, NeedsRestart, PlanStale
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret

from .rig import inner, number_of, packet


def state(n: int) -> DeviceState:
    return DeviceState(
        private_key=Secret(os.urandom(32)),
        interface=InterfaceState(
            kind="loopback", name=f"memory{n}", addresses=((inner(n), 24),)
        ),
    )


def within(seconds: float, test: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(test(), seconds)

    asyncio.run(run())


def test_packets_through_two_tunnels_of_one_program() -> None:
    async def scenario() -> None:
        async with Tunnel(state(1)) as a, Tunnel(state(2)) as b:
            await a.connect(b)
            for number in range(50):
                await a.packets.send(packet(1, 2, number))
            assert [number_of(await b.packets.recv()) for _ in range(50)] == list(
                range(50)
            )
            # counted once they are sent, which may be after the other one has them
            (peer,) = (await a.status()).peers
            while peer.tx_bytes <= 50 * 60:
                await asyncio.sleep(0.001)
                (peer,) = (await a.status()).peers
            assert peer.allowed_ips == ((inner(2), 32),)

    within(10, scenario)


def test_plan_apply_and_drift() -> None:
    async def scenario() -> None:
        first = state(1)
        async with Tunnel(first) as t:
            assert (await t.plan(first)).empty
            wanted = replace(first, peers={b"\1" * 32: PeerState(b"\1" * 32, "x")})
            plan = await t.plan(wanted)
            assert [action.name for action in plan.actions] == ["x"]
            assert await t.observe() == first
            await t.apply(plan)
            assert await t.observe() == wanted
            assert (await t.apply(wanted)).empty
            await t.apply(plan.inverse())
            assert await t.observe() == first
            renamed = replace(first.interface, name="other")
            with pytest.raises(NeedsRestart):
                await t.apply(replace(first, interface=renamed))

    within(10, scenario)


def test_changes_are_in_the_history() -> None:
    """As those of every door: what was done, to whom, and what was refused."""

    async def scenario() -> None:
        first = state(1)
        async with Tunnel(first) as t:
            assert await t.history() == ()
            key = b"\1" * 32
            plan = await t.plan(replace(first, peers={key: PeerState(key, "x")}))
            await t.apply(plan)
            with pytest.raises(PlanStale):
                await t.apply(plan)
            await t.apply(first)
            added, refused, removed = await t.history()
            assert {e.source for e in (added, refused, removed)} == {"api"}
            assert added.counts == {"add": 1, "update": 0, "remove": 0}
            assert (added.success, added.generation) == (True, 2)
            assert (refused.success, refused.generation) == (False, 2)
            assert "generation" in refused.error
            assert removed.peers[0]["session"] == "ends"

    within(10, scenario)


def test_what_ends_a_tunnel_is_raised_by_whoever_waits() -> None:
    async def scenario() -> None:
        async with Tunnel(state(1)) as t:
            t.packets._end.close()
            with pytest.raises(DeviceError, match="TUN"):
                await t.wait()
            with pytest.raises(DeviceError, match="not running"):
                await t.status()

    within(10, scenario)


def test_a_start_that_fails_raises_and_leaves_nothing() -> None:
    async def scenario() -> None:
        async with Tunnel(state(1)) as a:
            taken = replace(state(2), listen_port=(await a.status()).listen_port)
            t = Tunnel(taken)
            with pytest.raises(DeviceError, match="bind"):
                await t.start()
            await t.close()
            await t.close()
            with pytest.raises(DeviceError, match="not running"):
                await t.status()

    within(10, scenario)


def test_plan_of_two_states_needs_no_tunnel() -> None:
    before, after = state(1), state(1)
    made = tunnel.plan(before, after)
    assert [action.kind.value for action in made.actions] == ["device"]
    assert set(tunnel.__all__) <= set(dir(tunnel))
    with pytest.raises(AttributeError):
        _ = tunnel.nothing  # type: ignore[attr-defined]
