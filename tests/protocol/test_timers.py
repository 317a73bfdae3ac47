"""The timer rules one by one; test_timers_twin.py has them all at once."""

from __future__ import annotations

import itertools
import random

from tunnel.constants import MILLISECOND, SECOND
from tunnel.protocol.events import HandshakeGivenUp, KeysErased
from tunnel.protocol.timers import (
    DECIDE,
    RULES,
    Action,
    Decision,
    Facts,
    Occasion,
    Timer,
    Timers,
)
from tunnel.protocol.types import Timing, elapsed

from .scripted import alone
from .world import World, times

# --- the tables


def test_every_timer_has_a_decision_and_every_occasion_a_rule() -> None:
    assert set(DECIDE) == set(Timer)
    assert set(RULES) == set(Occasion)


def test_timers_set_cancel_and_expire_in_order() -> None:
    timers = Timers(Timing(slack_parts=0), lambda: 7)
    timers.on(Occasion.SESSION_DERIVED, 1)
    timers.on(Occasion.INITIATION_SENT, 1)
    assert timers.next() == 1 + 5 * SECOND + 7
    timers.set(Timer.KEEPALIVE, 5)
    assert timers.take_expired(4) == []
    assert timers.take_expired(600 * SECOND) == [
        Timer.KEEPALIVE,
        Timer.RETRANSMIT,
        Timer.ERASE,
    ]
    assert timers.next() == 0
    timers.on(Occasion.SESSION_DERIVED, 1)
    timers.on(Occasion.GIVEN_UP, 99)
    assert timers.next() == 1 + 540 * SECOND  # still the earlier one (R19)
    timers.on(Occasion.STOPPED, 1)
    assert timers.next() == 0


def test_r40_decisions_bear_a_clock_that_steps_back(seed: int) -> None:
    rng = random.Random(seed)
    timing = Timing()
    for _ in range(2000):
        facts = Facts(
            now=rng.randrange(100 * SECOND),
            attempts=rng.randrange(25),
            last_handshake=rng.choice([None, rng.randrange(200 * SECOND)]),
            unanswered_since=rng.randrange(200 * SECOND),
            unreplied_since=rng.randrange(200 * SECOND),
            another_from=rng.randrange(200 * SECOND),
            last_sent=rng.randrange(200 * SECOND),
            last_received=rng.randrange(200 * SECOND),
            interval=rng.choice([0, 25 * SECOND]),
        )
        for timer in Timer:
            decision = DECIDE[timer](facts, timing)
            assert decision.action is not Action.WAIT or decision.at > facts.now
    assert elapsed(5, 3) == 0
    assert elapsed(3, 5) == 2


def test_r40_a_clock_that_stepped_back_fires_nothing_early() -> None:
    facts = Facts(now=1, last_sent=9 * SECOND, interval=SECOND)
    expected = Decision(Action.WAIT, 10 * SECOND)
    assert DECIDE[Timer.PERSISTENT](facts, Timing()) == expected


# --- R17 - R20: retransmission and giving up


def test_r18_r19_twenty_initiations_then_silence() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    world.run(99)
    assert host.events == []
    world.run(60)
    at = times(host.sent, "initiation")
    assert at == [5.0 * n for n in range(20)]
    initiations = [packet.data for packet in host.sent]
    assert len({data[4:8] for data in initiations}) == 20  # index
    assert len({data[8:40] for data in initiations}) == 20  # ephemeral
    assert host.events == [HandshakeGivenUp(far.peer)]
    assert far.path.purged == 1
    assert host.node.counters["handshake.given_up"] == 1
    host.kinds()
    far.path.send(b"starts over")
    host.drain()
    assert host.kinds() == ["initiation"]


def test_r19_an_unfinished_handshake_does_not_stay_for_ever() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    world.run(101)
    assert host.node.indices == 1
    world.run(541)
    assert host.node.indices == 0
    assert host.node.next_deadline() is None
    assert KeysErased(far.peer) in host.events


def test_r17_not_two_initiations_within_5_s(seed: int) -> None:
    world = World(seed, jitter=None)
    host = world.host()
    other = world.host()
    host.add(other)
    world.lose = lambda packet: True
    for _ in range(3000):
        world.run(world.rng.random() * 0.3)
        host.say(other)
    at = times(host.sent, "initiation")
    gaps = [b - a for a, b in itertools.pairwise(at)]
    assert min(gaps) >= 5
    assert max(gaps) < 5.4


def test_r18_r42_jitter_is_spread_over_333_ms() -> None:
    delays = set()
    for seed in range(60):
        world = World(seed, jitter=None)
        host, other = world.host(), world.host()
        host.add(other)
        host.say(other)
        world.run(6)
        at = times(host.sent, "initiation")
        delays.add(round((at[1] - 5) * 1000))
    assert len(delays) > 40  # devices that start together drift apart
    assert min(delays) < 60
    assert 270 < max(delays) < 333


def test_r20_retrying_and_not_hearing_back_clear_the_source() -> None:
    world, host, far = alone()
    far.confirmed()
    world.run(10)
    far.path.source = (bytes(4), 2)
    far.path.send(b"unanswered")
    host.drain()
    world.run(14.9)
    assert far.path.source == (bytes(4), 2)
    world.run(0.2)
    assert far.path.source is None
    far.path.source = (bytes(4), 2)
    world.run(5)
    assert host.kinds()[-2:] == ["initiation", "initiation"]
    assert far.path.source is None


# --- R33, R34


def test_r33_unanswered_data_makes_a_handshake() -> None:
    world = World(jitter=200 * MILLISECOND)
    a, b = world.pair()
    a.say(b)
    world.run(60)
    a.kinds()
    start = world.now
    world.lose = lambda packet: True
    a.say(b)
    world.run(9)
    a.say(b)
    world.run(8)
    (initiation,) = [p for p in a.sent if p.kind == "initiation"]
    assert initiation.at - start == 15_200 * MILLISECOND


def test_r33_runs_from_the_first_unanswered_packet() -> None:
    """Not from the last thing that was received."""
    world, host, far = alone()
    keypair = far.confirmed()
    world.run(30)
    far.path.send(b"x")
    host.drain()
    world.run(14)
    far.send(keypair.seal(b""))
    host.kinds()
    far.path.send(b"y")
    host.drain()
    world.run(14)
    assert host.kinds() == ["data"]
    world.run(1.1)
    assert host.kinds() == ["initiation"]


def test_r33_keepalives_ask_for_no_answer() -> None:
    world, host, far = alone()
    keypair = far.confirmed()
    far.send(keypair.seal(b"data"))
    world.run(60)
    assert host.kinds() == ["response", "keepalive"]


def test_r34_a_keepalive_10_s_after_data_that_got_no_reply() -> None:
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(9.9)
    assert b.kinds() == ["response"]
    world.run(0.2)
    assert b.kinds() == ["keepalive"]
    a.say(b)
    world.run(5)
    b.say(a)
    world.run(30)
    assert b.kinds() == ["data"]


def test_r34_an_idle_tunnel_does_not_answer_at_once() -> None:
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(100)
    b.kinds()
    a.say(b)
    world.run(9.9)
    assert b.kinds() == []


def test_r34_f49_an_idle_pair_goes_silent() -> None:
    """Keepalives are not data, so two idle ends do not keep each other awake."""
    world = World()
    a, b = world.pair()
    a.say(b)
    b.say(a)
    world.run(60)
    a.kinds()
    b.kinds()
    world.run(2000)
    assert (a.kinds(), b.kinds()) == ([], [])
    assert a.node.next_deadline() is None
    assert b.node.next_deadline() is None
    assert a.node.indices == b.node.indices == 0


def test_r34_one_way_traffic_needs_one_session_in_two_minutes() -> None:
    world = World()
    a, b = world.pair()
    for n in range(600):
        a.say(b, b"%d" % n)
        world.run(1)
    assert len(b.heard(a)) == 600
    assert a.kinds().count("initiation") == 5
    assert "initiation" not in b.kinds()


# --- R38, R39, R41


def test_r38_everything_is_erased_after_540_s() -> None:
    world, host, far = alone()
    far.confirmed()
    world.run(100)
    far.handshake()
    assert host.node.indices == 2
    far.path.staged_packets = [b"old"]
    world.run(539.9)
    assert host.node.indices == 2
    world.run(0.2)
    assert host.node.indices == 0
    assert host.keypairs == {}
    assert far.path.staged == 0
    assert host.events[-1] == KeysErased(far.peer)


def test_r41_no_key_outlives_suspend() -> None:
    world, host, far = alone()
    far.confirmed()
    world.run(9)
    far.peer.initiate(world.now, world.wall)
    host.drain()
    late = far.response(host.last("initiation"))
    world.now += 3600 * SECOND
    host.node.resumed(world.now)
    assert host.keypairs == {}
    assert host.node.indices == 0
    far.send(late)
    assert host.keypairs == {}
    host.kinds()
    far.path.send(b"after")
    host.drain()
    far.answer()
    assert host.kinds() == ["initiation", "data"]


def test_r40_sleeping_through_every_deadline_is_survived() -> None:
    world = World()
    a, b = world.pair()
    a.peer(b).set_keepalive(25, world.now, True)
    a.say(b)
    world.run(3)
    world.now += 7200 * SECOND
    for host in (a, b):
        host.node.resumed(world.now)
        host.drain()
    world.run(1)
    a.say(b, b"awake")
    world.run(6)
    assert b.heard(a)[-1] == b"awake"
