"""connectionRate and connectionBurst: a limit that nobody can use up for another."""

from __future__ import annotations

import random

import pytest

from tunnel.constants import HANDSHAKE_UNDER_LOAD, MILLISECOND, SECOND
from tunnel.protocol.admission import Limits
from tunnel.protocol.cookie import CookieChecker, CookieJar, MacState
from tunnel.protocol.messages import CookieReply, unpack
from tunnel.protocol.ratelimit import RateLimiter
from tunnel.protocol.types import Endpoint, Timing

from .scripted import Scripted, alone

PUBLIC = bytes(range(32))
MESSAGE = b"\1\0\0\0" + bytes(112)
NAT = bytes([192, 0, 2, 9])
ACCEPT, DEMAND = MacState.ACCEPT, MacState.DEMAND_COOKIE


def checker_of(rate: float, burst: int) -> CookieChecker:
    checker = CookieChecker(Timing(), random.Random(1).randbytes)
    checker.set_public_key(PUBLIC)
    checker.set_rate(rate, burst)
    return checker


class Client:
    """Behind the NAT, at a port of its own; takes its cookie when it gets one."""

    def __init__(self, checker: CookieChecker, port: int = 1) -> None:
        self.checker = checker
        self.jar = CookieJar(PUBLIC)
        self.endpoint = Endpoint(NAT, port)

    def try_it(self, now: int, *, under_load: bool = False) -> MacState:
        data = self.jar.add_macs(MESSAGE, now, Timing())
        state = self.checker.check(data, self.endpoint, now, under_load=under_load)
        if state is DEMAND:
            reply = unpack(self.checker.reply(data, 7, self.endpoint, now))
            assert isinstance(reply, CookieReply)
            self.jar.consume(reply, now)
        return state


def test_ten_thousand_clients_of_one_address_by_default() -> None:
    """All within 5 s and none refused: without load there is no limit by itself."""
    checker = checker_of(0, 0)
    clients = [Client(checker, port) for port in range(10_000)]
    now = 0
    for client in clients:
        now += 5 * SECOND // len(clients)
        assert client.try_it(now) is ACCEPT


def test_beyond_the_rate_a_cookie_is_asked_for() -> None:
    checker = checker_of(2, 3)
    tries = [Client(checker, port).try_it(0) for port in range(5)]
    assert tries == [ACCEPT] * 3 + [DEMAND] * 2
    assert Client(checker).try_it(SECOND // 2) is ACCEPT
    assert Client(checker).try_it(SECOND // 2) is DEMAND


def test_with_a_cookie_the_rate_holds() -> None:
    checker = checker_of(2, 3)
    client = Client(checker)
    while client.try_it(0) is not DEMAND:
        pass
    tries = [client.try_it(0) for _ in range(5)]
    assert tries == [ACCEPT] * 3 + [MacState.RATE_LIMITED] * 2
    later = [client.try_it(n * 10 * MILLISECOND) for n in range(1, 1001)]  # 10 s
    assert later.count(ACCEPT) == 20
    # those without a cookie have no share of their own beside that
    assert Client(checker, 2).try_it(10 * SECOND) is DEMAND


def test_nobody_uses_up_the_share_of_an_address_that_is_not_theirs() -> None:
    """Forged senders of the same address are asked for a cookie that they never get."""
    checker = checker_of(2, 3)
    client, now = Client(checker), 0
    for n in range(1000):
        Client(checker, 2 + n).try_it(now)
    assert client.try_it(now) is DEMAND
    for _ in range(3):
        for n in range(1000):
            Client(checker, 2 + n).try_it(now)
        assert client.try_it(now) is ACCEPT


def test_one_limit_alone_leaves_the_other_as_it_is() -> None:
    assert [Client(checker_of(50, 0)).try_it(0) for _ in range(5)] == [ACCEPT] * 5
    checker = checker_of(0, 2)
    tries = [Client(checker, n).try_it(0) for n in range(3)]
    assert tries == [ACCEPT, ACCEPT, DEMAND]
    assert Client(checker).try_it(SECOND // 20) is ACCEPT


def test_under_load_everybody_needs_a_cookie_whatever_the_rate() -> None:
    checker = checker_of(1000, 1000)
    client = Client(checker)
    assert client.try_it(0, under_load=True) is DEMAND
    assert client.try_it(0, under_load=True) is ACCEPT


@pytest.mark.parametrize(
    ("rate", "burst"), [(0.1, 1), (0.5, 7), (20, 5), (333, 2), (1_000_000, 1_000_000)]
)
def test_r48_any_rate_against_its_twin(rate: float, burst: int, seed: int) -> None:
    rng = random.Random(seed)
    quick = RateLimiter(rate=rate, burst=burst)
    cost = round(SECOND / rate)
    entries: dict[bytes, tuple[int, int]] = {}
    sources = [rng.randbytes(4) for _ in range(5)]
    now = 0
    for _ in range(3000):
        now += rng.choice([0, 1, 7, 100, 3000, 70_000]) * MILLISECOND
        source = rng.choice(sources)
        tokens, last = entries.get(source, (cost * burst, now))
        tokens = min(cost * burst, tokens + now - last)
        allowed = tokens >= cost
        entries[source] = tokens - cost * allowed, now
        assert quick.allow(source, now) == allowed


# --- through a node


def test_the_limit_changes_live() -> None:
    world, host, far = alone()
    others = [Scripted(world, host) for _ in range(4)]
    host.node.set_limits(Limits(rate=1, burst=2))
    for one in (far, *others):
        one.send(one.initiation())
    assert host.kinds() == ["response"] * 2 + ["cookie"] * 3
    host.node.set_limits(Limits())
    world.run(0.1)
    for one in (far, *others):
        one.send(one.initiation())
    assert host.kinds() == ["response"] * 5


def test_a_change_of_something_else_leaves_the_buckets() -> None:
    world, host, far = alone()
    other = Scripted(world, host)
    host.node.set_limits(Limits(rate=1, burst=1))
    far.send(far.initiation())
    host.node.set_limits(Limits(rate=1, burst=1, max_connections=10))
    other.send(other.initiation())
    assert host.kinds() == ["response", "cookie"]


def test_r48_under_load_the_configured_rate_is_in_force() -> None:
    world, host, far = alone()
    host.node.set_limits(Limits(rate=1, burst=2))
    host.queued = HANDSHAKE_UNDER_LOAD
    far.send(far.initiation())
    reply = unpack(host.last("cookie"))
    assert isinstance(reply, CookieReply)
    far.jar.consume(reply, world.now)
    host.kinds()
    for _ in range(4):
        world.run(0.05)
        far.send(far.initiation())
    assert host.kinds() == ["response"] * 2
    assert host.node.counters["handshake.rate_limited"] == 2
