"""Trains that a route refuses because its MTU is smaller than their datagrams (U7)."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from .preload import run_preloaded

# each round leaves as one train, where trains are sent: (bytes inside, before it)
PROGRAM = r"""
import ctypes, json, socket, sys
sys.path.insert(0, sys.argv[1])
from fastpath.rig import Rig, boottime, ipv4
LOCALHOST = socket.inet_aton("127.0.0.1"), 1
shim = ctypes.CDLL(None)
COUNT = 10
told = []
with Rig() as rig:
    path, end, keypair = rig.session("10.0.0.2/32")
    for size, before in json.loads(sys.argv[2]):
        if before == "endpoint":
            path.set_endpoint(None)
            path.set_endpoint(end.endpoint)
        elif before == "source":
            path.clear_source()
            path.note_received(boottime(), 0, end.endpoint, LOCALHOST)
            assert path.source == LOCALHOST
        elif before == "minute":
            shim.shim_later(60)
        path.use_for_sending(None)
        for i in range(COUNT):
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i]) * size))
        rig.until(lambda: path.staged == COUNT)
        refused, calls = shim.shim_refused(), rig.pump.counters()["udp_sends"]
        path.use_for_sending(keypair)
        path.flush(keepalive=False)
        assert [end.receive()[1][20] for _ in range(COUNT)] == list(range(COUNT))
        rig.rest()
        assert path.staged == 0
        sent = len(told) * COUNT + COUNT
        assert rig.pump.counters()["udp_sent"] == sent
        told.append([
            shim.shim_refused() - refused, rig.pump.counters()["udp_sends"] - calls
        ])
print(json.dumps(told))
"""

LARGE, SMALL = 1300, 500  # bytes inside; 60 more and padding on the way
FROM = 1280


def rounds(
    shim: Path, *wanted: tuple[int, str], name: str = "EMSGSIZE", least: int = FROM
) -> list[tuple[int, int]]:
    """Of each round: trains that were refused, and sends that went out."""
    found = run_preloaded(
        shim,
        PROGRAM,
        json.dumps(wanted),
        shim_gso_errno=getattr(errno, name),
        shim_gso_from=least,
    )
    return [(refused, sends) for refused, sends in found]


# older kernels say EINVAL
@pytest.mark.parametrize("name", ["EMSGSIZE", "EINVAL"])
def test_u7_a_refused_size_goes_singly_and_smaller_ones_in_trains(
    shim: Path, name: str
) -> None:
    wanted = [(SMALL, ""), (LARGE, ""), (LARGE, ""), (SMALL, ""), (LARGE + 100, "")]
    seen = rounds(shim, *wanted, name=name)
    assert seen == [(0, 1), (1, 10), (0, 10), (0, 1), (0, 10)]


def test_u7_a_smaller_refused_size_counts_from_then_on(shim: Path) -> None:
    wanted = [(LARGE + 100, ""), (LARGE, ""), (LARGE, ""), (LARGE + 100, "")]
    assert rounds(shim, *wanted) == [(1, 10), (1, 10), (0, 10), (0, 10)]


@pytest.mark.parametrize("before", ["endpoint", "minute"])
def test_u7_trains_are_tried_again(shim: Path, before: str) -> None:
    """When the peer is elsewhere, or after a minute."""
    wanted = [(LARGE, ""), (LARGE, ""), (LARGE, before), (LARGE, "")]
    assert rounds(shim, *wanted) == [(1, 10), (0, 10), (1, 10), (0, 10)]


def test_u7_a_source_that_is_learned_again_is_the_same_way(shim: Path) -> None:
    wanted = [(LARGE, "source"), (LARGE, "source"), (LARGE, "source")]
    assert rounds(shim, *wanted) == [(1, 10), (0, 10), (0, 10)]


def test_u8_einval_at_a_size_that_fits_any_route_is_about_all_trains(
    shim: Path,
) -> None:
    wanted = [(SMALL, ""), (LARGE, ""), (100, ""), (SMALL, "endpoint")]
    seen = rounds(shim, *wanted, name="EINVAL", least=0)
    assert seen == [(1, 10), (0, 10), (0, 10), (0, 10)]
