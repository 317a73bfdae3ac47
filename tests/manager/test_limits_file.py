"""Limits in the file, saved while packets flow: in force at once, and none is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunnel.protocol.admission import Limits
from tunnel.protocol.node import Node

from .rig import End, Traffic, eventually


def limits(end: End) -> Limits:
    def look(node: Node) -> Limits:
        return node._local.admission.limits

    return end.call(lambda served: look(served.engine.device.node))


def admits(end: End, address: bytes) -> bool:
    return limits(end).admits(address)


def test_a_blocklist_that_changes_is_followed(
    pair: tuple[End, End], tmp_path: Path
) -> None:
    """The list's file alone is saved, as whatever keeps such lists does it."""
    one, two = pair
    bad = bytes([203, 0, 113, 9])
    blocklist = tmp_path / "bad.txt"
    with Traffic(one, two) as traffic:
        before = one.handshakes()
        blocklist.write_text("# nobody yet\n")
        one.write(one.facts | {"access": {"blocklist": "bad.txt"}})
        eventually(lambda: one.events("file"))
        assert admits(one, bad)
        blocklist.write_text("203.0.113.0/24\n2001:db8::/32\n")
        eventually(lambda: not admits(one, bad))
        blocklist.write_text("everything\n")  # wrong: what runs is kept
        eventually(lambda: not one.events("file")[-1].success)
        assert not admits(one, bad)
        blocklist.write_text("")
        eventually(lambda: admits(one, bad))
        assert one.handshakes() == before
    traffic.check()


def test_all_limits_in_one_file(pair: tuple[End, End]) -> None:
    one, two = pair
    keys: dict[str, Any] = {
        "rekeyInterval": 60,
        "rekeyBudget": 100_000,
        "maxConnections": 5,
        "connectionRate": 2.5,
        "connectionBurst": 3,
        "access": {"allow": ["127.0.0.0/8", "10.0.0.0/8"], "deny": ["10.9.0.0/16"]},
        "allowDeviceToDevice": True,
    }
    with Traffic(one, two) as traffic:
        before = one.handshakes()
        one.write(json.dumps(one.facts | keys))
        eventually(lambda: limits(one).max_connections == 5)
        now = limits(one)
        assert now.rekey_after_time == 60_000_000_000
        assert now.rekey_after_messages == 100_000
        assert (now.rate, now.burst) == (2.5, 3)
        assert now.admits(bytes([10, 1, 0, 1]))
        assert not now.admits(bytes([10, 9, 0, 1]))
        one.write(one.facts)
        eventually(lambda: limits(one) == Limits())
        assert one.handshakes() == before
    traffic.check()
    changes = {change for event in one.events("file") for change in event.changes}
    assert changes >= {
        "access",
        "connection_limits",
        "device_to_device",
        "rekey_limits",
    }
