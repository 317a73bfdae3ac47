"""The packet path allocates no Python object and takes no lock per packet.

Two ways to know. The compiled stages refer to nothing of Python's and to no lock: their
undefined symbols are listed and compared. And in a running process the interpreter's
block count stands still while packets from another process go through the pump.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STAGES = (
    *("tx.c", "outbox.c", "staging.c", "train.c", "address.c", "send.c", "isolation.c"),
    *("rx.c", "source.c", "open.c", "tun_write.c", "vnet.c", "gso.c", "gro.c"),
    *("path.c", "worker.c", "lane.c", "ring.c", "handshakes.c", "b2s.c"),
    *("cookies.c", "endpoint.c"),
)
FORBIDDEN = re.compile(r"^_?Py|pthread|^sem_|futex|^mtx_|^cnd_|lockf?$")

# so many packets for each byte of input
TRAFFIC = r"""
import socket, sys, time
out = socket.socket(fileno=int(sys.argv[1]))
out.setblocking(True)
head = bytes.fromhex("4500003000000000401100000a0000010a000002")
packet = bytes(10) + head + bytes(28)
while sys.stdin.buffer.raw.read(1):
    for i in range(int(sys.argv[2])):
        out.send(packet)
        if i % 32 == 0:
            time.sleep(0.0005)
"""

MEASURED = r"""
import gc, socket, subprocess, sys, threading, time
sys.path.insert(0, sys.argv[1])
from fastpath.rig import Rig
with Rig() as rig:
    path, end, keypair = rig.session("10.0.0.2/32")
    sender = subprocess.Popen(
        [sys.executable, "-c", sys.argv[2], str(rig.tun.fileno()), "1000"],
        stdin=subprocess.PIPE, bufsize=0, pass_fds=[rig.tun.fileno()])
    gc.disable()
    samples = []
    for sent in range(1000, 21_000, 1000):
        sender.stdin.write(b"*")
        while keypair.send_counter < sent:
            time.sleep(0.002)
        samples.append((keypair.send_counter, sys.getallocatedblocks()))
    sender.stdin.close()
    assert sender.wait() == 0
    blocks = [b for _, b in samples]
    print(len(samples), samples[-1][0] - samples[0][0], max(blocks) - min(blocks))
"""


def undefined(source: str, where: Path) -> list[str]:
    made = where / (source + ".o")
    subprocess.run(
        ["gcc", "-std=gnu11", "-O2", "-c", "-o", str(made), source],
        cwd=ROOT / "_fastpath",
        check=True,
    )
    listing = subprocess.run(
        ["nm", "-u", "--format=posix", str(made)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [line.split()[0] for line in listing.splitlines()]


@pytest.mark.parametrize("source", STAGES)
def test_stage_refers_to_no_python_and_no_lock(source: str, tmp_path: Path) -> None:
    symbols = undefined(source, tmp_path)
    assert [s for s in symbols if FORBIDDEN.search(s)] == []


def test_the_check_would_notice(tmp_path: Path) -> None:
    for name in ("PyObject_Call", "pthread_mutex_lock", "sem_wait", "mtx_lock"):
        assert FORBIDDEN.search(name)
    # memory comes from malloc in one place only: packets that wait for a session
    users = [s for s in STAGES if "malloc" in undefined(s, tmp_path)]
    assert users == ["path.c"]


def test_running_traffic_allocates_no_python_object() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(ROOT / "tests"), TRAFFIC],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    samples, packets, blocks = map(int, done.stdout.split())
    assert samples >= 5
    assert packets >= 10_000
    # the list of samples itself grows; one object per packet would be thousands
    assert blocks < 10 * samples
