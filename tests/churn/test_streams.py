"""The judge of the storms sees what there is to see: lost, misrouted, late packets."""

from __future__ import annotations

from collections import Counter

import pytest
from lab.network import Lab
from lab.streams import Stream, StreamReport, Streams, histogram_percentile

pytestmark = pytest.mark.root


def test_a_detour_is_misrouted_and_a_hole_is_lost() -> None:
    with Lab("a", "b", "c") as lab:
        a, b, c = lab
        right = Stream(a, a.ipv4, b, b.ipv4, node=2)
        detour = Stream(a, a.ipv4, b, "192.0.2.7", node=2)
        hole = Stream(a, a.ipv4, b, "192.0.2.8", node=2)
        other = Stream(b, b.ipv4, c, c.ipv4, node=3)
        a.ip("route", "add", "192.0.2.0/24", "via", c.ipv4)
        c.ip("address", "add", "192.0.2.7/32", "dev", "lo")
        c.ip("route", "add", "blackhole", "192.0.2.8/32")
        seen = Streams([right, detour, hole, other], rate=200, seconds=0.5).finish()
    assert [each.sent for each in seen] == [100] * 4
    assert [each.lost for each in seen] == [0, 0, 100, 0]
    assert [each.misrouted for each in seen] == [0, 100, 0, 0]
    assert seen[0].latency_us.total() == 100
    assert 0 <= seen[0].percentile_us(50) < 1_000_000
    total = StreamReport.merge(seen)
    assert (total.sent, total.lost, total.misrouted) == (400, 100, 100)


def test_percentiles_of_a_histogram_are_those_of_its_samples() -> None:
    histogram = Counter({10: 98, 20: 1, 5000: 1})
    assert histogram_percentile(histogram, 50) == 10
    assert histogram_percentile(histogram, 99) == 20
    assert histogram_percentile(histogram, 100) == 5000
    assert histogram_percentile(Counter(), 99) == 0
