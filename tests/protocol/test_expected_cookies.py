"""Which cookie replies the packet path expects: those that the protocol would take."""

from __future__ import annotations

from tunnel.constants import HANDSHAKE_UNDER_LOAD
from tunnel.protocol.cookie import CookieChecker, cookie_key
from tunnel.protocol.types import Timing

from .scripted import Scripted, alone
from .world import World

REJECT_AFTER = 180


def expected_by(message: bytes, far: Scripted) -> tuple[int, bytes, bytes]:
    """What answers this message: its sender index, its mac1, the peer's cookie key."""
    index = int.from_bytes(message[4:8], "little")
    return index, message[-32:-16], cookie_key(far.identity.public)


def test_r47_an_initiation_awaits_a_cookie_until_its_response() -> None:
    _world, host, far = alone()
    assert far.path.expected_cookie is None
    far.path.send(b"waiting")
    host.drain()
    assert far.path.expected_cookie == expected_by(host.last("initiation"), far)
    far.answer()
    assert host.node.counters["response.received"] == 1
    assert far.path.expected_cookie is None


def test_r47_a_response_awaits_one_until_data_confirms_it() -> None:
    _world, host, far = alone()
    keypair = far.handshake()
    assert far.path.expected_cookie == expected_by(host.last("response"), far)
    far.send(keypair.seal(b""))
    assert far.path.expected_cookie is None


def test_r47_each_message_is_expected_in_place_of_the_one_before() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    first = expected_by(host.last("initiation"), far)
    world.run(5.4)
    second = expected_by(host.last("initiation"), far)
    assert first != second == far.path.expected_cookie
    far.send(far.initiation())
    assert far.path.expected_cookie == expected_by(host.last("response"), far)


def test_r47_a_cookie_that_was_taken_is_not_expected_again() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    sent = host.last("initiation")
    checker = CookieChecker(Timing(), world.rng.randbytes)
    checker.set_public_key(far.identity.public)
    index = int.from_bytes(sent[4:8], "little")
    for wrong in (bytes(64), b"\3\0\0\0" + sent[4:8] + bytes(56)):
        host.hear(wrong, far.endpoint)
        assert far.path.expected_cookie == expected_by(sent, far)
    host.hear(checker.reply(sent, index, host.endpoint, world.now), far.endpoint)
    assert host.node.counters["cookie.received"] == 1
    assert far.path.expected_cookie is None


def test_r38_with_the_keys_what_was_expected_is_forgotten() -> None:
    world, host, far = alone()
    far.handshake()
    assert far.path.expected_cookie is not None
    world.run(3 * REJECT_AFTER + 15)
    assert far.path.expected_cookie is None
    far.path.send(b"waiting")
    host.drain()
    assert far.path.expected_cookie is not None
    host.node.down(world.now)
    assert far.path.expected_cookie is None


def test_r46_under_load_every_reply_is_one_that_was_expected() -> None:
    """Both sides of a pair that demand cookies of each other: whatever the protocol
    takes, the packet path would have let in."""
    world = World()
    a, b = world.pair()
    b.queued = HANDSHAKE_UNDER_LOAD
    a.say(b)
    expected = a.path(b).expected_cookie
    assert expected is not None
    world.run(1)
    (reply,) = [p.data for p in b.sent if p.kind == "cookie"]
    assert reply[4:8] == expected[0].to_bytes(4, "little")
    assert a.node.counters["cookie.received"] == 1
    assert a.path(b).expected_cookie is None
