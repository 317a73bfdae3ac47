"""New sessions under traffic in both directions: not one packet is lost (F60).

Ten quick ones with shortened times on our side, and one after the real 120 s.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab.echo import ping
from lab.engines import EngineKind
from lab.pair import Exchange, Pair, tunnel_pair

from .excuses import excused

pytestmark = [pytest.mark.root, pytest.mark.interop]

Engines = Callable[[str], EngineKind]

FAST = str(Path(__file__).with_name("fast_rekey.py"))
REKEYS = 10
REKEY_AFTER_TIME_S = 120


def started(pair: Pair) -> Pair:
    assert ping(pair.left.host, pair.right.ipv4, count=2).lost == 0
    return pair


def count_sessions(pair: Pair, wanted: int, timeout: float) -> int:
    """How many sessions the initiator got until it had `wanted`, or in that time."""
    seen: set[int] = set()
    limit = time.monotonic() + timeout
    while len(seen) < wanted and time.monotonic() < limit:
        seen.add(pair.left.engine.peer().handshake_ns)
        time.sleep(0.05)
    return len(seen)


class Flows:
    """Both ways through a pair, from now on."""

    def __init__(self, pair: Pair, *, rate: int, count: int) -> None:
        self._ways = ((pair.left, pair.right), (pair.right, pair.left))
        self._before = [excused(*way) for way in self._ways]
        self._exchange = Exchange(pair, rate=rate, count=count)

    def assert_nothing_is_lost(self, *, early: bool = False) -> None:
        ends = zip(
            self._ways, self._before, self._exchange.finish(early=early), strict=True
        )
        for way, before, (sent, seen) in ends:
            assert seen is not None
            assert sent > 1000
            assert (seen.duplicated, seen.misrouted) == (0, 0)
            assert sent - seen.received <= excused(*way) - before


@pytest.mark.parametrize("responder", ["wireguard-go", "ours", "gotatun"])
def test_f60_ten_rekeys_lose_nothing(engine: Engines, responder: str) -> None:
    engine("ours")
    fast = EngineKind("fast-rekey", (sys.executable, FAST), "make test")
    with tunnel_pair(fast, engine(responder), preshared=True) as pair:
        flows = Flows(started(pair), rate=1000, count=30_000)
        assert count_sessions(pair, REKEYS + 1, timeout=20) == REKEYS + 1
        flows.assert_nothing_is_lost(early=True)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_r25_the_rekey_after_120_seconds_loses_nothing(engine: Engines) -> None:
    """Two tunnels at once: this engine is the initiator of one, responder of one."""
    ours, theirs = engine("ours"), engine("wireguard-go")
    with ExitStack() as stack:
        pairs = [
            started(stack.enter_context(tunnel_pair(*ends)))
            for ends in ((ours, theirs), (theirs, ours))
        ]
        first = [pair.left.engine.peer().handshake_ns for pair in pairs]
        flows = [Flows(pair, rate=250, count=250 * 128) for pair in pairs]
        for both in flows:
            both.assert_nothing_is_lost()
        for pair, before in zip(pairs, first, strict=True):
            after = pair.left.engine.peer().handshake_ns
            age = (after - before) / 1e9
            assert REKEY_AFTER_TIME_S - 1 < age < REKEY_AFTER_TIME_S + 2
