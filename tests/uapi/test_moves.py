"""A prefix goes to whom it was given last, and the log says who lost it."""

from __future__ import annotations

import logging

import pytest

from tunnel.state.model import DeviceState, PeerState, mask

from .fake import FakeDevice, setting

ONE, TWO = b"\1" * 32, b"\2" * 32
PREFIX = mask(bytes([10, 42, 42, 0]), 24)


def device() -> FakeDevice:
    one = PeerState(ONE, "device1", allowed_ips=(PREFIX,))
    return FakeDevice(DeviceState(peers={ONE: one, TWO: PeerState(TWO, "device2")}))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_the_loser_is_named(caplog: pytest.LogCaptureFixture) -> None:
    fake = device()
    setting(fake, f"public_key={TWO.hex()}", "allowed_ip=10.42.42.0/24")
    assert fake.state.peers[ONE].allowed_ips == ()
    assert fake.state.peers[TWO].allowed_ips == (PREFIX,)
    (text,) = warnings(caplog)
    assert "10.42.42.0/24" in text
    assert "taken from peer device1" in text
    assert "belongs to peer device2" in text


def test_a_removed_peer_loses_nothing(caplog: pytest.LogCaptureFixture) -> None:
    fake = device()
    setting(
        fake,
        f"public_key={ONE.hex()}",
        "remove=true",
        f"public_key={TWO.hex()}",
        "allowed_ip=10.42.42.0/24",
    )
    assert fake.state.peers[TWO].allowed_ips == (PREFIX,)
    assert warnings(caplog) == []


def test_many_moves_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    prefixes = tuple((bytes([10, 0, 0, n]), 32) for n in range(50))
    fake = FakeDevice(DeviceState(peers={ONE: PeerState(ONE, allowed_ips=prefixes)}))
    lines = [f"allowed_ip=10.0.0.{n}/32" for n in range(50)]
    setting(fake, f"public_key={TWO.hex()}", *lines)
    texts = warnings(caplog)
    assert len(texts) == 21
    assert texts[-1] == "30 more allowed IPs moved"
