"""The AEAD's Python interface: choosing a kernel, arguments, and the GIL."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from tunnel._fastpath import aead

KEY = bytes(range(32))
TAG = 16
COUNTER_MAX = 2**64 - 1


# ---- choosing a kernel


def test_kernels() -> None:
    assert aead.kernels()[-1] == "scalar"
    assert aead.kernel_name() in aead.kernels()
    with pytest.raises(ValueError, match="kernel 'sparc'"):
        aead.seal_batch(KEY, [], [], kernel="sparc")


def load(tunnel_aead: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "from tunnel._fastpath import aead; print(aead.kernel_name())",
        ],
        env={**os.environ, "TUNNEL_AEAD": tunnel_aead},
        capture_output=True,
        text=True,
    )


def test_environment_chooses_a_kernel(kernel_name: str) -> None:
    assert load(kernel_name).stdout == f"{kernel_name}\n"
    assert load("").stdout == f"{aead.kernels()[0]}\n"


def test_environment_with_an_unknown_kernel_is_refused() -> None:
    done = load("sparc")
    assert done.returncode != 0
    assert "ImportError: TUNNEL_AEAD: kernel 'sparc': unknown" in done.stderr


# ---- arguments, and the GIL


@pytest.mark.parametrize("call", [aead.seal_batch, aead.open_batch])
def test_batches_name_the_argument_they_refuse(call: object) -> None:
    assert callable(call)
    packet = bytes(40)
    for wrong, expected, name in (
        ((b"k" * 31, [packet], [0]), ValueError, "key"),
        ((bytearray(32), [packet], [0]), TypeError, "key"),
        ((None, [packet], [0]), TypeError, "key"),
        ((KEY, [packet], []), ValueError, "counters"),
        ((KEY, [packet, "text"], [0, 1]), TypeError, r"packets\[1\]"),
        ((KEY, [memoryview(packet)[::2]], [0]), ValueError, r"packets\[0\]"),
        ((KEY, [packet], [-1]), ValueError, r"counters\[0\]"),
        ((KEY, [packet], [COUNTER_MAX + 1]), ValueError, r"counters\[0\]"),
        ((KEY, [packet], [1.0]), TypeError, r"counters\[0\]"),
    ):
        with pytest.raises(expected, match=name):
            call(*wrong)
    with pytest.raises(ValueError, match=r"packets\[1\] is shorter than its tag"):
        aead.open_batch(KEY, [packet, bytes(15)], [0, 1])


@pytest.mark.parametrize("call", [aead.seal_into, aead.open_into])
def test_in_place_names_the_argument_it_refuses(call: object) -> None:
    assert callable(call)
    room = bytearray(40)
    for wrong, expected, name in (
        ((b"k" * 33, 0, room, 0, 24), ValueError, "key"),
        ((KEY, -1, room, 0, 24), ValueError, "counter"),
        ((KEY, 0, bytes(40), 0, 24), ValueError, "buffer"),
        ((KEY, 0, "text", 0, 24), TypeError, "buffer"),
        ((KEY, 0, room, -1, 8), ValueError, "offset"),
        ((KEY, 0, room, 0, -1), ValueError, "length"),
        ((KEY, 0, room, 0, 25), ValueError, "buffer"),
        ((KEY, 0, room, 25, 0), ValueError, "buffer"),
        ((KEY, 0, room, 2**62, 2**31 - 1), ValueError, "buffer"),
    ):
        with pytest.raises(expected, match=name):
            call(*wrong)
    assert room == bytes(40)


def test_other_threads_run_meanwhile(kernel_name: str) -> None:
    """Before a forced switch (10 s) only a released GIL lets the other run."""
    stamps: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.is_set():
            stamps.append(time.monotonic())
            time.sleep(0.0005)

    buffer = bytearray((64 << 20) + TAG)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)
    thread = threading.Thread(target=tick)
    try:
        thread.start()
        start = now = time.monotonic()
        while now < start + 8 and sum(start < stamp < now for stamp in stamps) < 3:
            aead.seal_into(KEY, 0, buffer, 0, 64 << 20, kernel=kernel_name)
            now = time.monotonic()
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert sum(start < stamp < now for stamp in stamps) >= 3
