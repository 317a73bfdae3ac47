"""How a worker rests: what it looks at after a sleep, how soon it has its turn."""

from __future__ import annotations

import ctypes
import platform
import re
import struct
import time
from pathlib import Path

import pytest

from .preload import run_preloaded
from .rig import Rig, ipv4

SHORT_SLICE_NS = 400_000  # worker.h
_SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}
_ATTR = struct.Struct("=IIQiIQQQ")  # linux/sched/types.h, the first version

LONE_PACKETS = r"""
import ctypes, json, sys
sys.path.insert(0, sys.argv[1])
from fastpath.rig import Rig, ipv4
receives = ctypes.CDLL(None).shim_receives
with Rig() as rig:
    path, end, keypair = rig.session("10.0.0.2/32")
    rig.write(ipv4("10.0.0.1", "10.0.0.2", b"first"))
    end.receive()
    start = receives()
    for i in range(50):
        rig.write(ipv4("10.0.0.1", "10.0.0.2", bytes([i])))
        assert end.receive()[1][20] == i
    out = receives() - start
    for i in range(50):
        end.send(end.seal(ipv4("10.0.0.2", "10.0.0.1", bytes([i]))))
        assert rig.read()[20] == i
print(json.dumps({"out": out, "in": receives() - start - out}))
"""


def test_after_a_sleep_only_what_has_something_is_looked_at(shim: Path) -> None:
    """A lone packet out costs no look at a socket, a lone one in costs one look."""
    assert run_preloaded(shim, LONE_PACKETS) == {"out": 0, "in": 50}


def _slice_ns(tid: int) -> int:
    room = ctypes.create_string_buffer(_ATTR.size)
    numbers = (_SCHED_GETATTR[platform.machine()], tid)
    done = ctypes.CDLL(None).syscall(
        *map(ctypes.c_long, numbers), room, *map(ctypes.c_long, (_ATTR.size, 0))
    )
    assert done == 0
    runtime: int = _ATTR.unpack(room.raw)[5]
    return runtime


def test_slices_are_short_until_there_is_bulk() -> None:
    """A worker has its turn soon; one that carries much is not interrupted for it."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    assert version
    if tuple(map(int, version.groups())) < (6, 12):
        pytest.skip("before Linux 6.12 a thread has no slice of its own")
    usual = _slice_ns(0)
    with Rig() as rig:
        _, end, _ = rig.session("10.0.0.2/32")
        tids = {t.name: t.native_id or 0 for t in rig.threads}
        pump = tids["tunnel-pump"]
        rig.until(lambda: _slice_ns(pump) == SHORT_SLICE_NS)
        large = ipv4("10.0.0.1", "10.0.0.2", bytes(30_000))

        def bulk() -> bool:
            rig.write(large)
            end.receive()
            return _slice_ns(pump) == usual

        rig.until(bulk)  # unless it has been calm again before we look
        # nothing to do for 10 ms, then a lone packet
        time.sleep(0.02)
        rig.write(ipv4("10.0.0.1", "10.0.0.2", b"alone"))
        assert end.receive()[1][20:25] == b"alone"
        rig.until(lambda: _slice_ns(pump) == SHORT_SLICE_NS)
        assert _slice_ns(tids["tunnel-helper"]) == usual
        assert _slice_ns(0) == usual  # the control thread's
