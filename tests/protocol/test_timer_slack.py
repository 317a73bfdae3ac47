"""Keepalives wait for a time that many peers share: never early, hardly late (R34, R36,
R38). What has a jitter to keep peers apart is exact (R18, R33)."""

from __future__ import annotations

import itertools
import random

import pytest

from tunnel.constants import MILLISECOND, SECOND
from tunnel.protocol.timers import (
    RULES,
    Effect,
    Occasion,
    Timer,
    Timers,
    shared_time,
)
from tunnel.protocol.types import Timing

from .scripted import Scripted, alone
from .world import World

LATE = 1 / 40


def loose(seed: int = 0) -> World:
    """A world with the slack of a real device."""
    return World(seed, timing=Timing())


def first_shared(at: int, delay: int) -> int:
    """The slow twin: tries every multiple of a tick until one is not too early."""
    tick = min(delay // 40, SECOND)
    if tick == 0:
        return at
    found = at // tick * tick
    while found < at:
        found += tick
    return found


def test_shared_time_is_never_early_and_at_most_a_40th_late(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(5000):
        at = rng.randrange(1, 10**15)
        delay = rng.choice([1, 39, 40, 41, SECOND, 10 * SECOND, rng.randrange(10**12)])
        found = shared_time(at, delay, Timing())
        assert found == first_shared(at, delay)
        assert at <= found <= at + min(delay * LATE, SECOND)
        assert shared_time(found, delay, Timing()) == found
        assert shared_time(at, delay, Timing(slack_parts=0)) == at


def test_r18_r33_what_has_a_jitter_is_exact() -> None:
    assert not [
        rule
        for rules in RULES.values()
        for rule in rules
        if rule.jitter and rule.shared
    ]
    timers = Timers(Timing(), lambda: 7)
    for now in (1, 3 * SECOND + 17):
        timers.on(Occasion.INITIATION_SENT, now)
        assert timers.next() == now + 5 * SECOND + 7
    timers.set(Timer.NEW_HANDSHAKE, 12_345)
    assert timers.next() == 12_345


def test_r38_keys_are_erased_a_second_late_at_most() -> None:
    shared = [
        rule
        for rule in RULES[Occasion.SESSION_DERIVED]
        if rule.effect is not Effect.CANCEL
    ]
    assert [(rule.timer, rule.shared) for rule in shared] == [(Timer.ERASE, True)]
    timers = Timers(Timing(), lambda: 0)
    timers.on(Occasion.SESSION_DERIVED, 5)
    assert 540 * SECOND + 5 <= timers.next() <= 541 * SECOND + 5


@pytest.mark.parametrize("interval", [1, 25, 130])
def test_r36_persistent_keepalives_keep_their_distance(
    interval: int, seed: int
) -> None:
    world = loose(seed)
    host = world.host()
    far = Scripted(world, host)
    far.confirmed()
    host.kinds()
    world.run(world.rng.random() * 3)
    far.peer.set_keepalive(interval, world.now, True)
    host.drain()
    world.run(12 * interval if interval < 10 else 170)
    at = [packet.at for packet in host.sent if packet.kind == "keepalive"]
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert gaps
    least = interval * SECOND
    assert all(least <= gap <= least + min(least * LATE, SECOND) for gap in gaps)


def test_r34_the_passive_keepalive_is_a_quarter_of_a_second_late_at_most(
    seed: int,
) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        world = loose(rng.getrandbits(32))
        a, b = world.pair()
        world.run(rng.random())
        a.say(b)
        world.run(0.05)  # initiation, response, data
        arrived = b.path(a).unreplied_since
        assert arrived
        world.run(11)
        (keepalive,) = [packet for packet in b.sent if packet.kind == "keepalive"]
        assert 0 <= keepalive.at - arrived - 10 * SECOND <= SECOND // 4


def wake_ups(slack_parts: int, seed: int, peers: int = 200) -> tuple[int, int]:
    """How often a host with idle peers of interval 25 s is woken, and what it sends."""
    world = World(seed, timing=Timing(slack_parts=slack_parts))
    host = world.host()
    fars = [Scripted(world, host) for _ in range(peers)]
    for far in fars:
        world.run(world.rng.random() * 25 / peers)
        far.confirmed()
        far.peer.set_keepalive(25, world.now, True)
        host.drain()
    host.kinds()
    end, woken = world.now + 50 * SECOND, 0
    while (at := host.node.next_deadline()) is not None and at <= end:
        world.run((at - world.now) / SECOND)
        woken += 1
    return woken, host.kinds().count("keepalive")


def test_many_idle_peers_share_their_wake_ups(seed: int) -> None:
    exact, sent_exactly = wake_ups(0, seed)
    shared, sent = wake_ups(40, seed)
    assert exact >= 350
    assert shared <= 50 / (25 * LATE) + 2
    assert abs(sent - sent_exactly) <= 200  # the last round may be on either side


def test_slack_is_on_by_default_and_off_where_models_are_compared() -> None:
    assert Timing().slack_parts == 40
    world, _, _ = alone()
    assert world.timing.slack_parts == 0


def test_r18_peers_that_were_called_together_are_called_again_apart(seed: int) -> None:
    """A responder that comes back is not called by all of its peers' engine at once."""
    world = World(seed, timing=Timing(), jitter=None)
    host = world.host()
    for _ in range(300):
        Scripted(world, host).path.send(b"waits")
    host.drain()
    assert len({packet.at for packet in host.sent}) == 1
    host.kinds()
    for _ in range(2):
        world.run(5.4)
        at = sorted(packet.at for packet in host.sent if packet.kind == "initiation")
        host.kinds()
        assert len(at) == 300
        assert len(set(at)) > 250
        slices = [sum(a <= b < a + 10 * MILLISECOND for b in at) for a in at]
        assert max(slices) < 60  # a fifth; 9 is what is to be expected of 300
