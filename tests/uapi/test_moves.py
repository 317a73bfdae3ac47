"""A prefix goes to whom it was given last, and the log says who lost it."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from tunnel.api.uapi import UapiSession
from tunnel.api.uapi_moves import LINES, MoveLog
from tunnel.constants import SECOND
from tunnel.state.model import DeviceState, PeerState, mask

from .fake import FakeDevice

ONE, TWO = b"\1" * 32, b"\2" * 32
PREFIX = mask(bytes([10, 42, 42, 0]), 24)


def device() -> FakeDevice:
    one = PeerState(ONE, "device1", allowed_ips=(PREFIX,))
    return FakeDevice(DeviceState(peers={ONE: one, TWO: PeerState(TWO, "device2")}))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_the_loser_is_named(caplog: pytest.LogCaptureFixture) -> None:
    fake = device()
    UapiSession(fake, moves=MoveLog()).feed(request(TWO, "10.42.42.0/24"))
    assert fake.state.peers[ONE].allowed_ips == ()
    assert fake.state.peers[TWO].allowed_ips == (PREFIX,)
    (text,) = warnings(caplog)
    assert "10.42.42.0/24" in text
    assert "taken from peer device1" in text
    assert "belongs to peer device2" in text


def test_a_removed_peer_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    fake = device()
    text = f"set=1\npublic_key={ONE.hex()}\nremove=true\n".encode()
    session = UapiSession(fake, moves=MoveLog())
    session.feed(text + request(TWO, "10.42.42.0/24").removeprefix(b"set=1\n"))
    assert fake.state.peers[TWO].allowed_ips == (PREFIX,)
    assert warnings(caplog) == []


class Alarm:
    """Time that is set by hand, and the one callback that waits for it."""

    def __init__(self) -> None:
        self.time = 0
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def now(self) -> int:
        return self.time

    def later(self, delay: int, callback: Callable[[], None]) -> None:
        self.waiting.append((self.time + delay, callback))

    def advance(self, seconds: float) -> None:
        self.time += int(seconds * SECOND)
        due = [each for each in self.waiting if each[0] <= self.time]
        self.waiting = [each for each in self.waiting if each[0] > self.time]
        for _, callback in due:
            callback()


def request(key: bytes, *prefixes: str) -> bytes:
    lines = [f"set=1\npublic_key={key.hex()}", *(f"allowed_ip={p}" for p in prefixes)]
    return ("\n".join(lines) + "\n\n").encode()


def test_one_large_change_is_a_few_lines_and_a_number(
    caplog: pytest.LogCaptureFixture,
) -> None:
    prefixes = tuple((bytes([10, 0, 0, n]), 32) for n in range(50))
    fake = FakeDevice(DeviceState(peers={ONE: PeerState(ONE, allowed_ips=prefixes)}))
    clock = Alarm()
    session = UapiSession(fake, moves=MoveLog(clock.later, clock.now))
    session.feed(request(TWO, *(f"10.0.0.{n}/32" for n in range(50))))
    assert len(warnings(caplog)) == LINES
    clock.advance(1)
    assert warnings(caplog)[LINES:] == ["46 more allowed IPs were taken from peers"]
    clock.advance(5)
    assert len(warnings(caplog)) == LINES + 1


def test_a_storm_of_moves_is_a_few_lines_a_second_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake, clock = device(), Alarm()
    session = UapiSession(fake, moves=MoveLog(clock.later, clock.now))
    changes = 0
    for second in range(3):
        for _ in range(200):
            key = (ONE, TWO)[(changes + 1) % 2]
            assert session.feed(request(key, "10.42.42.0/24")) == b"errno=0\n\n"
            changes += 1
            clock.advance(1 / 200)
        before = len(warnings(caplog))
        assert before <= (second + 1) * (LINES + 1)
    clock.advance(1)
    texts = warnings(caplog)
    told = [t for t in texts if t.startswith("allowed IP")]
    counted = [int(t.split()[0]) for t in texts if "more allowed IPs" in t]
    assert len(told) + sum(counted) == changes == 600
    assert len(told) == 3 * LINES
    assert clock.waiting == []


def test_without_an_alarm_clock_the_next_move_tells(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake, clock = device(), Alarm()
    session = UapiSession(fake, moves=MoveLog(now=clock.now))
    for number in range(10):
        session.feed(request((TWO, ONE)[number % 2], "10.42.42.0/24"))
    clock.advance(3)
    session.feed(request(TWO, "10.42.42.0/24"))
    assert warnings(caplog)[LINES].startswith(f"{10 - LINES} more")
    assert len(warnings(caplog)) == LINES + 2
