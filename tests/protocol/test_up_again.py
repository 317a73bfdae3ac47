"""The interface was down while the packet path still worked off what it had (R75)."""

from __future__ import annotations

from tunnel.protocol.path import PathEvent

from .world import Host, World


def down_and_up(world: World, host: Host, far: Host, late: PathEvent) -> None:
    """The last batch tells something when nobody listens any more."""
    host.node.down(world.now)
    path = host.path(far)
    path.unreplied_since = path.unanswered_since = world.now
    path.tell_once(late)
    host.drain()
    host.node.up(world.now)
    host.drain()
    host.say(far)
    far.say(host)
    world.run(60)
    host.kinds()


def pair() -> tuple[World, Host, Host]:
    world = World()
    a, b = world.pair()
    a.say(b)
    world.run(1)
    b.say(a)
    world.run(60)
    return world, a, b


def test_r34_what_is_not_answered_still_gets_its_keepalive() -> None:
    world, a, b = pair()
    down_and_up(world, b, a, PathEvent.UNREPLIED)
    a.say(b)
    world.run(11)
    assert b.kinds() == ["keepalive"]


def test_r33_who_does_not_answer_is_still_asked_for_a_session() -> None:
    world, a, b = pair()
    down_and_up(world, b, a, PathEvent.UNANSWERED)
    world.lose = lambda packet: packet.dst == a.endpoint
    b.say(a)
    world.run(17)
    assert b.kinds()[:2] == ["data", "initiation"]
