"""The setting `workers`: what it may be, and what it comes to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tunnel.io.memory import memory_tun
from tunnel.state.model import InterfaceState
from tunnel.workers import AUTO, count_workers, read_workers, workers_text

from .rig import Running, connect, ping


@pytest.mark.parametrize(
    ("value", "expected"),
    [("auto", AUTO), (" auto ", AUTO), (1, 1), ("16", 16), (16, 16), ("7", 7)],
)
def test_values(value: int | str, expected: int) -> None:
    assert read_workers(value) == expected
    assert read_workers(workers_text(expected)) == expected


@pytest.mark.parametrize("value", [0, 17, -1, "", "0", "17", "1.5", "²", "many", "1 1"])
def test_wrong_values(value: int | str) -> None:
    assert read_workers(value) is None


def test_auto_leaves_a_cpu_to_the_helper_of_each() -> None:
    counts = [count_workers(AUTO, cpus) for cpus in range(1, 21)]
    assert counts == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, *[8] * 5]
    assert count_workers(AUTO) == count_workers(AUTO, len(os.sched_getaffinity(0)))
    assert [count_workers(n, 2) for n in (1, 5, 16)] == [1, 5, 16]


def test_in_memory_there_is_one_queue_and_one_worker() -> None:
    with Running(1) as one, Running(2) as two:
        connect(one, two)
        assert one.call(lambda e: (e.workers, e.device.pump.workers)) == (1, 1)
        ping(one, two)


def test_a_device_from_outside_has_the_workers_but_one_queue() -> None:
    from tunnel.engine import Engine

    tun, user = memory_tun("given")
    engine = Engine(InterfaceState(name="given", workers=3), tun=tun)
    assert (engine.workers, engine.tun.more_queues) == (3, ())
    assert engine.device.pump.workers == 3
    assert engine.device.state.interface.workers == 3
    engine.close()
    user.close()


@pytest.mark.parametrize("value", ["0", "many", "17"])
def test_the_environment_of_tunnel_wg_is_checked(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunnel.cli.wg", "-f", "wgtest"],
        env={**os.environ, "TUNNEL_WORKERS": value},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode != 0
    assert f"TUNNEL_WORKERS is '{value}'" in done.stderr
    assert "1 to 16" in done.stderr
