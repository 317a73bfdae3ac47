"""The settings of config.json that limit: read right, and in force at once."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.device.rig import Running, connect, number_of, packet, ping
from tunnel.config.desired import desired_state
from tunnel.config.store import load_config
from tunnel.constants import SECOND
from tunnel.limits import isolation_of, limits_of
from tunnel.protocol.admission import Limits
from tunnel.protocol.types import Timing
from tunnel.state.model import DeviceState

QUICK = Timing(rekey_timeout=SECOND // 5)
KEY = b64encode(b"\x48" * 32).decode()
FIRST = 1001  # number of the first packet of a stream; those of pings are lower
MOST = 4096  # packets: four times the budget below, and more than a second of them


def state_of(tmp_path: Path, **keys: object) -> DeviceState:
    """Of a config.json with these keys."""
    path = tmp_path / "config.json"
    text: dict[str, Any] = {"mode": "server", "privateKey": KEY} | keys
    path.write_text(json.dumps(text))
    return desired_state(load_config(path))


def test_every_key_reaches_the_limits(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("203.0.113.0/24 # scanners\n\n2001:db8::/32\n")
    limits = limits_of(
        state_of(
            tmp_path,
            rekeyInterval="30s",
            rekeyBudget=5000,
            maxConnections=7,
            connectionRate=1.5,
            connectionBurst=9,
            access={
                "allow": ["0.0.0.0/0"],
                "deny": ["192.0.2.0/24"],
                "blocklist": "bad.txt",
            },
        )
    )
    assert limits.rekey_after_time == 30 * SECOND
    assert limits.rekey_after_messages == 5000
    assert limits.max_connections == 7
    assert (limits.rate, limits.burst) == (1.5, 9)
    assert limits.admits(bytes([8, 8, 8, 8]))
    assert not limits.admits(bytes([192, 0, 2, 1]))
    assert not limits.admits(bytes([203, 0, 113, 1]))
    assert not limits.admits(b"\x20" * 16)


def test_a_config_that_says_nothing_limits_nothing(tmp_path: Path) -> None:
    assert limits_of(state_of(tmp_path)) == Limits() == limits_of(DeviceState())


@pytest.mark.parametrize(
    ("keys", "own"),
    [
        ({}, ()),
        ({"tunnel": {"addresses": ["10.0.0.1/24", "fd00::1/64"]}}, (4, 16)),
        ({"allowDeviceToDevice": True}, None),
        (
            {"mode": "client", "endpoint": "192.0.2.1:1", "psk": "zkwoIwl38wkdi!wk"},
            None,
        ),
    ],
)
def test_a_server_keeps_its_peers_apart(
    tmp_path: Path, keys: dict[str, object], own: tuple[int, ...] | None
) -> None:
    addresses = isolation_of(state_of(tmp_path, **keys))
    assert own == (None if addresses is None else tuple(map(len, addresses)))
    assert isolation_of(DeviceState()) is None  # tunnel-wg


# --- sessions are renewed in time, and nothing is lost


@contextmanager
def pair() -> Iterator[tuple[Running, Running]]:
    with Running(1, timing=QUICK) as a, Running(2, timing=QUICK) as b:
        connect(a, b)
        ping(a, b)
        yield a, b


def exchange(a: Running, b: Running, number: int) -> None:
    """One packet, which is awaited: it is not lost."""
    data = packet(a.n, b.n, number)
    a.packets.send(data)
    while (got := b.packets.recv(10)) != data:
        assert number_of(got) < FIRST  # a ping that came late


def stream(a: Running, b: Running, seconds: float) -> None:
    """One packet after the other for so long."""
    end = time.monotonic() + seconds
    for number in count(FIRST):
        exchange(a, b, number)
        if time.monotonic() > end:
            return
        time.sleep(0.001)


def stream_until_handshake(a: Running, b: Running, looker: Running) -> None:
    """The same, until `looker` has seen one more; `MOST` packets call for it."""
    before = looker.handshakes()
    for number in range(FIRST, FIRST + MOST):
        exchange(a, b, number)
        if number % 50 == 0:
            if looker.handshakes() > before:
                return
            time.sleep(0.02)
    raise AssertionError("no handshake")


def test_rekey_interval_under_traffic() -> None:
    with pair() as (a, b):
        stream(a, b, 1.2)
        assert a.handshakes() == 1
        a.change(settings=(("rekeyInterval", 1),))
        stream_until_handshake(a, b, a)
        a.change(settings=())
        before = a.handshakes()
        stream(a, b, 1.5)
        assert a.handshakes() <= before + 1  # one that was under way


def test_rekey_budget_under_traffic_on_the_side_that_did_not_initiate() -> None:
    with pair() as (a, b):
        initiator = (
            a if a.call(lambda e: e.device.node.counters["initiation.sent"]) else b
        )
        other = b if initiator is a else a
        other.change(settings=(("rekeyBudget", 1024),))
        stream_until_handshake(other, initiator, other)
        assert other.call(lambda e: e.device.node.counters["initiation.sent"]) > 0
