"""F6: SIGTERM under load, and what is left after many starts and stops."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from lab.echo import ping
from lab.engines import Engine, EngineKind
from lab.network import Lab
from lab.pair import tunnel_pair
from lab.process import wait_until
from lab.traffic import listens

pytestmark = pytest.mark.root

Engines = Callable[[str], EngineKind]

END_S = 2.0
IPERF3 = 5201
CYCLES = 50


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loaded", ["sender", "receiver"])
def test_f6_a_signal_under_load_ends_it_cleanly(
    engine: Engines, number: signal.Signals, loaded: str
) -> None:
    with tunnel_pair(engine("ours"), engine("ours")) as pair:
        left, right = pair.left, pair.right
        end = left if loaded == "sender" else right
        assert ping(left.host, right.ipv4, count=2).lost == 0
        right.host.popen("iperf3", "-s", "-1", "--forceflush")
        wait_until("iperf3", lambda: listens(right.host, IPERF3), timeout=10)
        load = left.host.popen("iperf3", "-c", right.ipv4, "-t", "30", "-P", "2")
        time.sleep(1.0)
        assert load.running
        assert "wg0" in end.host.ip("route")
        start = time.monotonic()
        end.engine.process.signal(number)
        assert end.engine.process.wait(END_S) == 0
        assert time.monotonic() - start <= END_S
        assert not end.engine.socket_path.exists()
        assert not end.host.has_interface("wg0")
        assert "wg0" not in end.host.ip("route") + end.host.ip("-6", "route")


def test_f11_the_engine_ends_with_its_interface(engine: Engines) -> None:
    with Lab("left") as lab:
        ours = Engine(engine("ours"), lab["left"])
        lab["left"].ip("link", "delete", "wg0")
        ours.process.wait(1.0)
        assert not ours.socket_path.exists()


def test_r74_the_engine_ends_with_its_socket(engine: Engines) -> None:
    with Lab("left") as lab:
        ours = Engine(engine("ours"), lab["left"])
        ours.socket_path.unlink()
        assert ours.process.wait(1.0) == 0
        assert not lab["left"].has_interface("wg0")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_starts_and_stops_leave_nothing_in_the_namespace(engine: Engines) -> None:
    with Lab("left") as lab:
        host, kind = lab["left"], engine("ours")
        fresh = (host.ip("-br", "address"), host.ip("route"), host.ip("rule"))
        for _ in range(CYCLES):
            ours = Engine(kind, host)
            ours.addresses("10.77.0.1/24", "fd00:77::1/64")
            ours.process.signal(signal.SIGTERM)
            assert ours.process.wait(END_S) == 0
            ours.process.end()
        assert list(host.path("/var/run/wireguard").iterdir()) == []
        assert (host.ip("-br", "address"), host.ip("route"), host.ip("rule")) == fresh
