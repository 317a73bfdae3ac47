"""mac1, mac2, cookies, load and rate: what keeps a flood cheap."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from tunnel.constants import (
    COOKIE_RATE_TABLE_MAX,
    HANDSHAKE_QUEUE,
    HANDSHAKE_UNDER_LOAD,
    MILLISECOND,
    SECOND,
)
from tunnel.protocol import cookie as cookies
from tunnel.protocol.cookie import CookieChecker, CookieJar, MacState
from tunnel.protocol.messages import CookieReply, Initiation, unpack
from tunnel.protocol.node import Node
from tunnel.protocol.primitives import HandshakeError
from tunnel.protocol.ratelimit import RateLimiter
from tunnel.protocol.types import Endpoint, Timing

from .scripted import alone, corrupted, snapshot
from .world import FixedJitter, World

PUBLIC = bytes(range(32))
FROM = Endpoint(bytes([192, 0, 2, 9]), 5000)
MESSAGE = b"\1\0\0\0" + bytes(112)


def parties(seed: int = 1) -> tuple[CookieChecker, CookieJar]:
    checker = CookieChecker(Timing(), random.Random(seed).randbytes)
    checker.set_public_key(PUBLIC)
    return checker, CookieJar(PUBLIC)


def reply_to(checker: CookieChecker, data: bytes, now: int = 0) -> CookieReply:
    message = unpack(checker.reply(data, 77, FROM, now))
    assert isinstance(message, CookieReply)
    return message


# --- R43, R44


def test_r43_mac1_is_keyed_blake2s_over_what_precedes_it() -> None:
    checker, jar = parties()
    data = jar.add_macs(MESSAGE, 0, Timing())
    key = hashlib.blake2s(b"mac1----" + PUBLIC).digest()
    expected = hashlib.blake2s(MESSAGE, key=key, digest_size=16).digest()
    assert data == MESSAGE + expected + bytes(16)
    assert checker.check(data, FROM, 0, under_load=False) is MacState.ACCEPT
    for bit in range(0, 8 * (len(data) - 16), 3):
        changed = corrupted(data, bit)
        for load in (False, True):
            state = checker.check(changed, FROM, 0, under_load=load)
            assert state is MacState.BAD_MAC1


def test_r43_no_mac1_is_right_without_a_key() -> None:
    checker, jar = parties()
    data = jar.add_macs(MESSAGE, 0, Timing())
    checker.set_public_key(None)
    assert checker.check(data, FROM, 0, under_load=False) is MacState.BAD_MAC1


def test_r43_wrong_mac1_is_dropped_in_silence_even_under_load() -> None:
    _world, host, far = alone()
    host.queued = HANDSHAKE_QUEUE
    data = far.initiation()
    far.send(data[:-17] + bytes([data[-17] ^ 1]) + data[-16:])
    assert host.kinds() == []
    assert host.node.counters["handshake.bad_mac1"] == 1


def test_r44_mac2_is_keyed_with_the_cookie_and_covers_mac1() -> None:
    checker, jar = parties()
    first = jar.add_macs(MESSAGE, 0, Timing())
    assert checker.check(first, FROM, 0, under_load=True) is MacState.DEMAND_COOKIE
    jar.consume(reply_to(checker, first), 0)
    second = jar.add_macs(MESSAGE + b"", 1, Timing())
    assert second[:-16] == first[:-16]
    assert second[-16:] != bytes(16)
    assert checker.check(second, FROM, 1, under_load=True) is MacState.ACCEPT
    for bit in range(8 * (len(second) - 16), 8 * len(second)):
        changed = corrupted(second, bit)
        state = checker.check(changed, FROM, 1, under_load=True)
        assert state is MacState.DEMAND_COOKIE


@pytest.mark.parametrize(("age", "used"), [(0, True), (114.9, True), (115, False)])
def test_r44_the_sender_uses_a_cookie_for_115_s(age: float, used: bool) -> None:
    checker, jar = parties()
    jar.consume(reply_to(checker, jar.add_macs(MESSAGE, 5, Timing())), 5)
    data = jar.add_macs(MESSAGE, 5 + round(age * SECOND), Timing())
    assert (data[-16:] != bytes(16)) is used


# --- R45


@pytest.mark.parametrize(
    "other",
    [
        FROM._replace(port=5001),
        FROM._replace(address=bytes([192, 0, 2, 10])),
        FROM._replace(address=bytes(10) + b"\xff\xff" + FROM.address),
    ],
)
def test_r45_a_cookie_is_for_one_address_and_port(other: Endpoint) -> None:
    checker, jar = parties()
    jar.consume(reply_to(checker, jar.add_macs(MESSAGE, 0, Timing())), 0)
    data = jar.add_macs(MESSAGE, 0, Timing())
    assert checker.check(data, FROM, 0, under_load=True) is MacState.ACCEPT
    assert checker.check(data, other, 0, under_load=True) is MacState.DEMAND_COOKIE


def test_r45_the_secret_lives_120_s() -> None:
    checker, jar = parties()
    jar.consume(reply_to(checker, jar.add_macs(MESSAGE, 0, Timing())), 0)
    data = jar.add_macs(MESSAGE, 0, Timing())
    for seconds, expected in ((119, MacState.ACCEPT), (120, MacState.DEMAND_COOKIE)):
        state = checker.check(data, FROM, seconds * SECOND, under_load=True)
        assert state is expected


# --- R46, R47


def test_r46_cookie_reply_under_load_then_the_handshake_goes_on() -> None:
    world = World()
    a, b = world.pair()
    b.queued = HANDSHAKE_UNDER_LOAD
    a.say(b)
    world.run(1)
    assert (a.kinds(), b.kinds()) == (["initiation"], ["cookie"])
    world.run(4.5)
    assert a.kinds() == ["initiation", "data"]
    assert b.heard(a) == [b"hello"]
    assert b.node.counters["cookie.sent"] == 1
    assert a.node.counters["cookie.received"] == 1


def test_r46_a_response_is_answered_with_a_cookie_too() -> None:
    _world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    response = far.response(host.last("initiation"))
    host.queued = HANDSHAKE_UNDER_LOAD
    far.send(response)
    reply = unpack(host.last("cookie"))
    assert isinstance(reply, CookieReply)
    assert reply.receiver == int.from_bytes(response[4:8], "little")
    assert far.peer.slots.current is None
    far.jar.consume(reply, far.world.now)
    far.send(far.macs(far.unmac(response)))
    assert host.kinds()[-1] == "data"


def test_r46_reply_fields_and_size() -> None:
    _world, host, far = alone()
    host.queued = HANDSHAKE_UNDER_LOAD
    data = far.initiation()
    host.hear(data, far.endpoint, (bytes(4), 9))
    (packet,) = host.sent
    assert len(packet.data) == 64
    assert packet.tos == 0
    reply = unpack(packet.data)
    sent = unpack(data)
    assert isinstance(reply, CookieReply)
    assert isinstance(sent, Initiation)
    assert reply.receiver == sent.sender
    assert packet.dst == far.endpoint


def test_r46_nothing_of_the_peer_changes_under_load() -> None:
    _world, host, far = alone()
    before = snapshot(far)
    host.queued = HANDSHAKE_UNDER_LOAD
    for _ in range(50):
        far.send(far.initiation())
    assert snapshot(far) == before
    assert host.kinds() == ["cookie"] * 50


@pytest.mark.parametrize("queued", [HANDSHAKE_UNDER_LOAD - 1, HANDSHAKE_UNDER_LOAD])
def test_r46_under_load_is_an_eighth_of_the_queue(queued: int) -> None:
    checker, _ = parties()
    assert checker.under_load(queued, 0) is (queued >= HANDSHAKE_QUEUE // 8)


def test_r46_load_is_sticky_for_a_second() -> None:
    checker, _ = parties()
    assert not checker.under_load(0, 0)
    assert checker.under_load(HANDSHAKE_UNDER_LOAD, 5)
    assert checker.under_load(0, SECOND + 4)
    assert not checker.under_load(0, SECOND + 5)
    assert not checker.under_load(0, SECOND + 4)


def test_r47_a_cookie_is_taken_once_and_only_for_what_was_sent() -> None:
    checker, jar = parties()
    other = CookieJar(PUBLIC)
    with pytest.raises(HandshakeError, match="not_expected"):
        jar.consume(CookieReply(1, bytes(24), bytes(32)), 0)
    data = jar.add_macs(MESSAGE, 0, Timing())
    elsewhere = other.add_macs(MESSAGE + b"x", 0, Timing())
    with pytest.raises(HandshakeError, match="undecryptable"):
        jar.consume(reply_to(checker, elsewhere), 0)
    reply = reply_to(checker, data)
    for bit in range(8 * 8, 8 * 64, 5):
        wrong = unpack(corrupted(reply.pack(), bit))
        assert isinstance(wrong, CookieReply)
        with pytest.raises(HandshakeError, match="undecryptable"):
            jar.consume(wrong, 0)
    jar.consume(reply, 0)
    with pytest.raises(HandshakeError, match="not_expected"):
        jar.consume(reply, 0)


def test_r39_r47_a_cookie_moves_no_timer_no_endpoint_and_sends_nothing() -> None:
    world, host, far = alone()
    far.path.send(b"waiting")
    host.drain()
    checker = CookieChecker(Timing(), world.rng.randbytes)
    checker.set_public_key(far.identity.public)
    sent = host.last("initiation")
    host.kinds()
    index = int.from_bytes(sent[4:8], "little")
    reply = checker.reply(sent, index, host.endpoint, world.now)
    before = snapshot(far)
    host.hear(reply, (b"\x09\x09\x09\x09", 9, 0))
    host.hear(reply, (b"\x09\x09\x09\x09", 9, 0))
    assert snapshot(far) == before
    assert host.kinds() == []
    assert host.node.counters["cookie.received"] == 1
    assert host.node.counters["handshake.not_expected"] == 1
    world.run(5.1)
    assert host.last("initiation")[-16:] != bytes(16)


def test_r9_r47_a_cookie_may_name_a_session_but_not_a_stranger() -> None:
    world, host, far = alone()
    keypair = far.handshake()
    checker = CookieChecker(Timing(), world.rng.randbytes)
    checker.set_public_key(far.identity.public)
    sent = host.last("response")
    far.send(checker.reply(sent, keypair.remote_index ^ 1, host.endpoint, world.now))
    assert host.node.counters["handshake.unknown_index"] == 1
    far.send(checker.reply(sent, keypair.remote_index, host.endpoint, world.now))
    assert host.node.counters["cookie.received"] == 1


# --- R48, R51


class SlowLimiter:
    """The kernel's arithmetic, every entry kept for ever."""

    def __init__(self) -> None:
        self.entries: dict[bytes, list[int]] = {}

    def allow(self, address: bytes, now: int) -> bool:
        cost, limit = SECOND // 20, SECOND // 4
        key = address[:8] if len(address) == 16 else address
        entry = self.entries.setdefault(key, [limit, now])
        tokens = min(limit, entry[0] + max(0, now - entry[1]))
        allowed = tokens >= cost
        self.entries[key] = [tokens - cost * allowed, now]
        return allowed


def test_r48_rate_limiter_against_its_twin(seed: int) -> None:
    rng = random.Random(seed)
    fast, slow = RateLimiter(), SlowLimiter()
    sources = [rng.randbytes(rng.choice([4, 16])) for _ in range(20)]
    now = 0
    for _ in range(5000):
        now += rng.choice([0, 1, 7, 30, 60, 1500]) * MILLISECOND
        source = rng.choice(sources)
        assert fast.allow(source, now) == slow.allow(source, now)


def test_r48_burst_of_5_then_20_a_second() -> None:
    limiter = RateLimiter()
    burst = [limiter.allow(FROM.address, 0) for _ in range(7)]
    assert burst == [True] * 5 + [False] * 2
    allowed = sum(limiter.allow(FROM.address, n * MILLISECOND) for n in range(1, 1001))
    assert allowed == 20


def test_r48_ipv6_is_limited_by_the_64() -> None:
    limiter = RateLimiter()
    network = bytes.fromhex("20010db800000001")
    results = [limiter.allow(network + n.to_bytes(8, "big"), 0) for n in range(8)]
    assert results == [True] * 5 + [False] * 3
    assert limiter.allow(bytes.fromhex("20010db800000002") + bytes(8), 0)


def test_r48_with_a_good_cookie_the_rate_still_holds() -> None:
    world, host, far = alone()
    host.queued = HANDSHAKE_UNDER_LOAD
    far.send(far.initiation())
    reply = unpack(host.last("cookie"))
    assert isinstance(reply, CookieReply)
    far.jar.consume(reply, world.now)
    host.kinds()
    for _ in range(9):
        far.send(far.initiation())
    assert host.kinds() == ["response"]  # the others: 4 flood gate, 4 rate
    assert host.node.counters["handshake.rate_limited"] == 4
    assert host.node.counters["handshake.flood"] == 4


def test_r48_without_load_mac2_and_the_rate_do_not_matter() -> None:
    world, host, far = alone()
    for _ in range(40):
        world.now += 20 * MILLISECOND
        data = far.initiation()
        far.send(data[:-16] + b"whatever is here")
    assert host.kinds() == ["response"] * 40


def test_r51_the_table_is_capped_and_forgets_quickly() -> None:
    limiter = RateLimiter(capacity=100)
    assert all(limiter.allow(n.to_bytes(4, "big"), 0) for n in range(100))
    assert not limiter.allow(b"new!", 0)
    assert limiter.allow(bytes(4), 1)  # known ones go on
    assert len(limiter) == 100
    later = 3 * SECOND
    assert limiter.allow(b"new!", later)
    for n in range(60):  # each call forgets two
        limiter.allow(b"new!", later + n * SECOND // 20)
    assert len(limiter) == 1
    assert COOKIE_RATE_TABLE_MAX == 65_536


def test_r51_no_call_is_long() -> None:
    limiter = RateLimiter(capacity=50_000)
    for n in range(50_000):
        limiter.allow(n.to_bytes(4, "big"), 0)
    before = len(limiter)
    limiter.allow(b"new!", 10 * SECOND)
    assert before - len(limiter) == 1  # two forgotten, one added


def test_r2_cookies_keep_nothing_for_a_stranger() -> None:
    """Half a million forged senders later, the node holds what it held before."""
    _world, host, far = alone()
    host.queued = HANDSHAKE_UNDER_LOAD
    data = far.initiation()
    limiter = host.node._checker._limiter
    for n in range(500):
        host.hear(data, (n.to_bytes(4, "big"), n, 0))
    assert len(limiter) == 0
    assert host.node.indices == 0


def test_r50_the_generator_is_needed_before_the_first_message() -> None:
    """Where reading randomness waits for the seed, so does making a node."""

    def not_seeded(size: int) -> bytes:
        raise BlockingIOError(size)

    with pytest.raises(BlockingIOError):
        Node(Timing(), FixedJitter(), not_seeded)


def test_r78_macs_and_keys_are_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []

    def spy(real: Callable[[bytes, bytes], bool]) -> Callable[[bytes, bytes], bool]:
        def compare(a: bytes, b: bytes) -> bool:
            compared.append(len(a))
            return real(a, b)

        return compare

    monkeypatch.setattr(cookies, "compare_digest", spy(cookies.compare_digest))
    checker, jar = parties()
    data = jar.add_macs(MESSAGE, 0, Timing())
    checker.check(data, FROM, 0, under_load=True)
    assert compared == [16, 16]


def test_jar_and_checker_do_not_show_their_secrets() -> None:
    checker, jar = parties()
    assert repr(checker) == "<CookieChecker>"
    assert repr(jar) == "<CookieJar>"
