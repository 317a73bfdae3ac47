"""Plans about access lists, which may be long."""

from __future__ import annotations

from tunnel.protocol.prefixes import PrefixSet
from tunnel.state.model import DeviceState
from tunnel.state.plan import Plan, diff


def networks(count: int) -> PrefixSet:
    return PrefixSet((n.to_bytes(3, "big") + b"\0", 24) for n in range(count))


def plan(before: int, after: int) -> Plan:
    states = [
        DeviceState(settings=(("access.blocklist", networks(n)),))
        for n in (before, after)
    ]
    return diff(*states, generation=0)


def test_what_comes_and_goes_is_named() -> None:
    assert "access.blocklist +0.0.2.0/24 +0.0.3.0/24\n" in plan(2, 4).text()
    assert "access.blocklist -0.0.1.0/24\n" in plan(2, 1).text()
    (action,) = plan(0, 2).json()["diffs"]  # type: ignore[misc]
    assert action["changes"] == [
        {
            "field": "access.blocklist",
            "before": [],
            "after": ["0.0.0.0/24", "0.0.1.0/24"],
        }
    ]


def test_of_a_hundred_thousand_the_first_fifty_are() -> None:
    text = plan(0, 100_000).text()
    assert "+0.0.49.0/24 and 99950 more\n" in text
    (action,) = plan(0, 100_000).json()["diffs"]  # type: ignore[misc]
    assert action["changes"][0]["after"][-1] == "and 99950 more"
