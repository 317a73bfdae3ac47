"""Errors of the socket calls, injected: what they may cost, and that they end."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from .preload import run_preloaded

PROGRAM = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from fastpath.rig import Rig, ipv4
got_out, got_in = [], []
with Rig() as rig:
    path, end, keypair = rig.session("10.0.0.2/32")
    def drops():
        return {k: v for k, v in rig.pump.counters().items() if v and "drop" in k}

    for start in range(0, 200, 20):
        for i in range(start, start + 20):
            rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))

        def settled():  # each has arrived or was counted
            while not end.quiet(0):
                got_out.append(end.receive()[1][20])
            return len(got_out) + sum(drops().values()) >= start + 20

        rig.until(settled)
    for i in range(50):
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes([i]))))
        got_in.append(rig.read()[20])
    drops = drops()
print(json.dumps({"out": got_out, "in": got_in, "drops": drops}))
"""


def traffic(shim: Path, **settings: int) -> tuple[list[int], list[int], dict[str, int]]:
    """200 packets out and 50 in; which arrived, and the drops that were counted."""
    found = run_preloaded(shim, PROGRAM, **settings)
    return found["out"], found["in"], found["drops"]


@pytest.mark.parametrize("most", [1, 3])
def test_r64_partial_sends_go_on_with_the_rest(shim: Path, most: int) -> None:
    out, into, drops = traffic(shim, shim_send_most=most)
    assert out == list(range(200))
    assert into == list(range(50))
    assert drops == {}


@pytest.mark.parametrize("name", ["EAGAIN", "ENOBUFS", "EINTR", "ECONNREFUSED"])
def test_f38_passing_errors_lose_nothing(shim: Path, name: str) -> None:
    """Those of a full queue pass in time, whatever the machine does meanwhile."""
    settings = {"shim_send_errno": getattr(errno, name), "shim_clock_stands": 1}
    settings["shim_send_times"] = 2 if name == "ECONNREFUSED" else 5
    out, into, drops = traffic(shim, **settings)
    assert out == list(range(200))
    assert into == list(range(50))
    assert drops == {}


@pytest.mark.parametrize("name", ["EPERM", "EMSGSIZE", "EIO", "ENETUNREACH", "EINVAL"])
def test_f38_other_errors_cost_one_packet_each(shim: Path, name: str) -> None:
    code = getattr(errno, name)
    out, into, drops = traffic(shim, shim_send_errno=code, shim_send_times=1)
    assert out == sorted(out)
    assert len(out) == 200 - drops.get("drop.tx_socket", 0)
    assert len(out) > 100
    assert into == list(range(50))


@pytest.mark.parametrize("name", ["EIO", "EINVAL", "EMSGSIZE", "EPERM"])
def test_f38_a_train_that_is_refused_goes_out_one_by_one(shim: Path, name: str) -> None:
    out, into, drops = traffic(shim, shim_gso_errno=getattr(errno, name))
    assert out == list(range(200))
    assert into == list(range(50))
    assert drops == {}


@pytest.mark.parametrize("name", ["ECONNREFUSED", "ENETDOWN", "EINTR", "ENOMEM"])
def test_f39_receiving_survives_errors(shim: Path, name: str) -> None:
    out, into, drops = traffic(shim, shim_recv_errno=getattr(errno, name))
    assert out == list(range(200))
    assert into == list(range(50))
    assert drops == {}


READING = r"""
import json, sys
sys.path.insert(0, sys.argv[1])
from fastpath.rig import Rig, ipv4
got = []
with Rig() as rig:
    path, end, keypair = rig.session("10.0.0.2/32")
    for i in range(100):
        dropped = rig.pump.counters()["drop.tx_vnet_header"]
        rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))
        rig.until(lambda: not end.quiet(0) or rig.pump.failure
            or rig.pump.counters()["drop.tx_vnet_header"] > dropped)
        if rig.pump.failure:
            break
        if not end.quiet(0):
            got.append(end.receive()[1][20])
    drops = {k: v for k, v in rig.pump.counters().items() if v and "drop" in k}
    print(json.dumps([got, drops, rig.pump.failure]))
"""


def test_a_packet_that_the_tun_cannot_describe_costs_only_itself(shim: Path) -> None:
    settings = {"shim_readv_errno": errno.EINVAL, "shim_readv_every": 10}
    got, drops, failure = run_preloaded(shim, READING, **settings)
    assert got == [i for i in range(100) if i % 10 != 9]
    assert drops == {"drop.tx_vnet_header": 10}
    assert failure == ""


@pytest.mark.parametrize("name", ["EBADFD", "ECONNRESET", "EFAULT"])
def test_e7_other_errors_of_the_tun_are_its_end(shim: Path, name: str) -> None:
    settings = {"shim_readv_errno": getattr(errno, name), "shim_readv_every": 10}
    got, _, failure = run_preloaded(shim, READING, **settings)
    assert got == list(range(9))
    assert failure == "the TUN device is gone"
