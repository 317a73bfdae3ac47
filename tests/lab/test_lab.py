"""The lab itself: its networks vanish, its flows find what is wrong with a network."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lab.engines import EngineKind
from lab.network import Lab, Namespace
from lab.pair import Exchange, tunnel_pair
from lab.process import LabError, wait_until
from lab.traffic import Receiver, Sender, iperf3, ping

pytestmark = pytest.mark.root

BENCH = Path(__file__).parents[2] / "bench"


def inode(host: Namespace) -> int:
    return Path(f"/proc/{host.pid}/ns/net").stat().st_ino


def living_network_namespaces() -> set[int]:
    found = set()
    for each in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(each.stat().st_ino)
        except OSError:  # the process has ended meanwhile
            continue
    return found


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c")], ids=["pair", "bridge"])
def test_every_host_reaches_every_other_at_once(names: tuple[str, ...]) -> None:
    with Lab(*names) as lab:
        for host in lab:
            for other in lab:
                for address in (other.ipv4, other.ipv6):
                    found = ping(host, address, count=1, wait=1)
                    assert found.lost == 0
                    assert found.rtts_ms[0] < 500


def test_nothing_is_left_after_a_failure() -> None:
    before = living_network_namespaces()
    with pytest.raises(ZeroDivisionError), Lab("a", "b") as lab:
        mine = {inode(host) for host in lab}
        process = lab["a"].popen("sleep", "1000")
        assert mine <= living_network_namespaces()
        raise ZeroDivisionError
    assert not process.running
    assert not mine & living_network_namespaces()
    assert len(before) >= 1


def test_nothing_is_left_when_its_owner_is_killed() -> None:
    code = (
        "import os\n"
        "from lab.network import Lab\n"
        "with Lab('a', 'b') as lab:\n"
        "    lab['a'].popen('sleep', '1000')\n"
        "    for host in lab:\n"
        "        print(os.stat(f'/proc/{host.pid}/ns/net').st_ino, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=BENCH,
        env={**os.environ, "PYTHONSAFEPATH": "", "PYTHONPATH": str(BENCH)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL
    theirs = {int(line) for line in done.stdout.split()}
    assert len(theirs) == 2
    wait_until(
        "the end of its namespaces",
        lambda: not theirs & living_network_namespaces(),
        timeout=20,
    )


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with Lab("a") as lab:
        trapped = tmp_path / "trapped"
        loop = f"trap '' TERM; : >{trapped}; while :; do sleep 1; done"
        stubborn = lab["a"].popen("sh", "-c", loop)
        wait_until("its trap", trapped.exists, timeout=20)
        assert stubborn.end(grace=0.2) == -signal.SIGKILL


def test_code_runs_in_a_namespace_and_failures_come_back() -> None:
    def names() -> set[str]:
        return {name for _, name in socket.if_nameindex()}

    def fails() -> None:
        raise KeyError("inside")

    with Lab("a", "b") as lab:
        assert lab["a"].call(names) == {"lo", "eth0"}
        with pytest.raises(KeyError, match="inside"):
            lab["a"].call(fails)
        with lab["b"].socket(socket.AF_INET, socket.SOCK_DGRAM) as far:
            far.bind((lab["b"].ipv4, 999))
    with Lab("a") as lab, pytest.raises(LabError, match="exit 3"):
        lab["a"].run("sh", "-c", "exit 3")


def test_uapi_directory_is_private_to_a_host() -> None:
    with Lab("a", "b") as lab:
        probe = f"/var/run/wireguard/probe-{os.getpid()}"
        lab["a"].run("touch", probe)
        assert lab["a"].path(probe).exists()
        assert not lab["b"].path(probe).exists()
        assert not Path(probe).exists()


def test_a_flow_counts_lost_duplicated_and_misrouted_packets() -> None:
    """A relay drops every 10th packet, doubles every 4th and changes the sender."""
    with Lab("a", "b") as lab:
        far = Receiver(lab["b"])
        entry = lab["a"].socket(socket.AF_INET, socket.SOCK_DGRAM)
        entry.bind((lab["a"].ipv4, 7001))
        entry.settimeout(5)
        sender = Sender(
            lab["a"],
            source="127.0.0.1",
            to=lab["a"].ipv4,
            port=7001,
            rate=2000,
            count=200,
        )
        with entry, lab["a"].socket(socket.AF_INET, socket.SOCK_DGRAM) as exit_:
            for number in range(200):
                data = entry.recv(2048)
                for _ in range(0 if number % 10 == 9 else 1 + (number % 4 == 0)):
                    exit_.sendto(data, (lab["b"].ipv4, 7000))
        assert sender.finish() == 200
        seen = far.finish()[1]
        assert seen.received == 180
        assert seen.duplicated == 50
        assert seen.misrouted == 230


def test_traffic_through_a_tunnel_of_another_engine(
    engine: Callable[[str], EngineKind],
) -> None:
    kind = engine("wireguard-go")
    with tunnel_pair(kind, kind, preshared=True) as pair:
        left, right = pair.left, pair.right
        assert ping(left.host, right.ipv6).lost == 0
        for sent, seen in Exchange(pair, rate=1000, count=500).finish():
            assert seen is not None
            assert (sent, seen.received, seen.misrouted) == (500, 500, 0)
        assert iperf3(left.host, right.host, right.ipv4, seconds=1).bytes > 0
        assert right.engine.peer().endpoint == f"{left.host.ipv4}:51820"
        left.engine.kill()
        assert not left.host.has_interface("wg0")
