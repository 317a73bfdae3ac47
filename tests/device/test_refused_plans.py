"""Plans that would break the tunnel, or jam the next one, are refused as a whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tunnel.errors import ApplyError, PlanStale
from tunnel.state.apply import apply
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret, clamp
from tunnel.state.plan import Action, ActionKind, Plan, diff
from tunnel.state.targets import RecordingTarget
from tunnel.tunnel import Tunnel

from .rig import LOCALHOST, Running, connect, host, ping


@pytest.fixture
def a() -> Iterator[Running]:
    with Running(1) as one:
        yield one
        assert one.failure is None


@pytest.fixture
def b(a: Running) -> Iterator[Running]:
    with Running(2) as two:
        connect(a, two)
        ping(a, two)
        yield two


def plan_to(one: Running, desired: DeviceState) -> Plan:
    """As anybody can make it, without the engine's help."""
    return one.call(
        lambda e: diff(e.device.observe(), desired, generation=e.device.generation)
    )


def observe(one: Running) -> DeviceState:
    return one.call(lambda e: e.device.observe())


# --- our own key


def test_our_own_key_is_no_peer(a: Running, b: Running) -> None:
    state = observe(a)
    peers = {**state.peers, a.public: PeerState(a.public, name="me")}
    plan = plan_to(a, replace(state, peers=peers, fwmark=0, log_level="debug"))
    with pytest.raises(ApplyError, match="key of this tunnel itself"):
        a.call(lambda e: e.apply(plan))
    assert observe(a) is state
    ping(a, b, 2)


def test_nor_is_the_key_that_the_same_plan_brings(a: Running, b: Running) -> None:
    with Running(3) as other:
        state = observe(a)
    peers = {**state.peers, other.public: PeerState(other.public)}
    plan = plan_to(a, replace(state, private_key=other.secret, peers=peers))
    with pytest.raises(ApplyError, match="key of this tunnel itself"):
        a.call(lambda e: e.apply(plan))
    ping(a, b, 2)


def test_an_added_peer_that_is_us_costs_the_others_nothing() -> None:
    async def scenario() -> None:
        secret = Secret(clamp(os.urandom(32)))
        interface = InterfaceState(kind="loopback", name="memory")
        async with Tunnel(DeviceState(private_key=secret, interface=interface)) as one:
            state, status = await one.observe(), await one.status()
            assert status.public_key is not None
            own = {status.public_key: PeerState(status.public_key)}
            plan = diff(state, replace(state, peers=own), generation=status.generation)
            with pytest.raises(ApplyError, match="key of this tunnel itself"):
                await one.apply(plan)
            assert (await one.observe()).peers == {}
            assert [event.success for event in await one.history()] == [False]

    asyncio.run(scenario())


# --- a prefix and its owner


def test_a_prefix_has_one_owner(a: Running, b: Running) -> None:
    state, key = observe(a), os.urandom(32)
    greedy = PeerState(key, allowed_ips=(host(2), host(3)))
    with pytest.raises(ApplyError, match=r"10\.0\.0\.2/32 would belong to two peers"):
        a.add(greedy)
    assert observe(a) is state
    assert a.call(lambda e: e.device.owner(host(2))) == b.public
    ping(a, b, 2)


def test_two_new_peers_with_one_prefix_are_refused(a: Running) -> None:
    twins = [PeerState(os.urandom(32), allowed_ips=(host(9),)) for _ in range(2)]
    with pytest.raises(ApplyError, match="two peers"):
        a.add(*twins)
    assert observe(a).peers == {}


def test_a_prefix_can_still_change_hands(a: Running, b: Running) -> None:
    key = os.urandom(32)
    heir = PeerState(key, allowed_ips=(host(2),))
    a.add(a.peer(b, allowed_ips=()), heir)
    assert a.call(lambda e: e.device.owner(host(2))) == key
    a.add(a.peer(b), replace(heir, enabled=False))  # it is only written down there
    assert a.call(lambda e: e.device.owner(host(2))) == b.public
    ping(a, b, 2)


# --- a plan of another tunnel


def test_a_plan_of_another_tunnel_is_stale(a: Running, b: Running) -> None:
    """Although it is for the same generation."""
    with Running(3) as other:
        key = os.urandom(32)
        other.add(PeerState(key, name="theirs"))
        left = {k: p for k, p in observe(other).peers.items() if k != key}
        plan = plan_to(other, replace(observe(other), peers=left))
    state = observe(a)
    plan = replace(plan, generation=a.call(lambda e: e.device.generation))
    with pytest.raises(PlanStale, match="another state of theirs"):
        a.call(lambda e: e.apply(plan))
    assert not a.ended(0)
    assert observe(a) is state
    ping(a, b, 2)


def peers_of(count: int) -> dict[bytes, PeerState]:
    keys = [os.urandom(32) for _ in range(count)]
    return {key: PeerState(key, name=f"p{n}") for n, key in enumerate(keys)}


class Incomparable(PeerState):
    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared value by value")

    __hash__ = PeerState.__hash__


def test_a_plan_of_the_running_state_compares_no_values() -> None:
    state = DeviceState(peers={key: Incomparable(key) for key in peers_of(9)})
    removals = [
        Action(ActionKind.REMOVE, key, peer, None) for key, peer in state.peers.items()
    ]
    apply(Plan(tuple(removals), 0), target := RecordingTarget(state))
    assert target.state.peers == {}


@pytest.mark.parametrize("there", [True, False])
def test_stale_is_what_finds_something_else(there: bool) -> None:
    peers = peers_of(3)
    key, peer = next(iter(peers.items()))
    wanted = DeviceState(peers={key: replace(peer, keepalive=5)})
    have, theirs = wanted, DeviceState(peers=peers)
    if not there:
        have, theirs = theirs, DeviceState()
    plan = diff(theirs, wanted, generation=0)
    target = RecordingTarget(have)
    with pytest.raises(PlanStale, match="another state"):
        apply(plan, target)
    assert target.state is have


def test_an_equal_state_is_as_good_as_the_same() -> None:
    state = DeviceState(peers=peers_of(3))
    plan = diff(state, DeviceState(), generation=0)
    copies = {key: replace(peer) for key, peer in state.peers.items()}
    target = RecordingTarget(DeviceState(peers=copies))
    apply(plan, target)
    assert target.state.peers == {}


def test_a_plan_may_move_a_peer_from_where_it_has_roamed_to() -> None:
    """As `wg set` with the endpoint that is configured does."""
    key, home, away = os.urandom(32), (LOCALHOST, 1, 0), (LOCALHOST, 2, 0)
    state = DeviceState(peers={key: PeerState(key, endpoint=home)})
    roamed = DeviceState(peers={key: PeerState(key, endpoint=away)})
    target = RecordingTarget(state)
    assert apply(diff(roamed, state, generation=0), target) == 1
    assert target.state.peers == state.peers
