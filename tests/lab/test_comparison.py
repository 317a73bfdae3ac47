"""What the comparison of engines stands on: the search for a rate, ratios, the rigs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab.rate import ATTEMPTS, LOSS_MAX, PRECISION, Trial, search, trial
from lab.rigs import contender
from lab.traffic import iperf3
from lab.usage import Usage
from side_by_side.figures import Result
from side_by_side.targets import Target, verdicts


def link(
    capacity: float, sender: float = 1e9, hiccups: int = 0
) -> Callable[[float], Trial]:
    """Loses what is above its capacity, and all of its first `hiccups` trials."""
    left = [hiccups]

    def attempt(asked: float) -> Trial:
        rate = min(asked, sender)
        sent = round(rate)
        received = round(min(rate, capacity))
        if left[0] > 0:
            left[0] -= 1
            received = 0
        return Trial(asked, rate, sent, received)

    return attempt


@pytest.mark.parametrize("capacity", [1_500, 20_000, 97_000, 310_000])
@pytest.mark.parametrize("hiccups", [0, ATTEMPTS - 1])
def test_the_search_finds_what_a_link_can_carry(capacity: int, hiccups: int) -> None:
    found = search(link(capacity, hiccups=hiccups))
    assert capacity / PRECISION <= found <= capacity / (1 - LOSS_MAX)


def test_the_search_ends_where_the_sender_does() -> None:
    found = search(link(1e9, sender=123_000))
    assert 123_000 / PRECISION <= found <= 123_000


def test_the_search_ends_when_nothing_arrives() -> None:
    assert search(link(0)) == 0


def test_targets_compare_medians_in_the_right_direction() -> None:
    ours = Result("ours", samples={"tcp1": [5.0, 4.0, 9.0], "seal64": [2.0]})
    other = Result("wireguard-go-newest", samples={"tcp1": [2.0]})
    go = Result("go", samples={"seal64": [7.0]})
    results = {each.name: each for each in (ours, other, go)}
    found = {(v.target.key, v.target.of): (v.found, v.text) for v in verdicts(results)}
    assert found["tcp1", "wireguard-go-newest"] == (2.5, "met")
    assert found["tcp1", "forwarder"] == (None, "not measured")
    assert found["seal64", "go"] == (3.5, "missed")
    assert ("rtt.p50", "boringtun") not in found


def test_a_limit_without_a_reference_is_plain() -> None:
    target = Target("memory", 45, at_least=False)
    assert target.met(44.9)
    assert not target.met(45.1)
    assert target.text == "<= 45"


@pytest.mark.root
@pytest.mark.parametrize("name", ["forwarder", "veth"])
def test_a_rig_carries_packets(name: str, require_root: None) -> None:
    with contender(name).open() as rig:
        ends = rig.left.host, rig.right.host, rig.right.address
        with Usage(rig.processes) as usage:
            assert iperf3(*ends, seconds=1).bits_per_second > 1e7
            small = trial(*ends, size=64, rate=2000, seconds=0.2)
        assert small.sent > 0
        assert small.received <= small.sent
        assert small.received > small.sent / 2
        assert (usage.cpu_seconds > 0) == bool(rig.processes)
