"""A program that forks while its tunnel runs: the tunnel is the parent's alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SETTING = """
import os, subprocess, sys
sys.path.insert(0, sys.argv[1])
from device.rig import Running, connect, ping
a, b = Running(1), Running(2)
connect(a, b)
ping(a, b)
"""
GOES_ON = """
for number in range(2, 50):
    ping(a, b, number)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
a.remove(b.public), b.remove(a.public)
connect(a, b)  # a new session: the control threads hear of everything
ping(a, b, 51)
assert a.failure is None and b.failure is None
for each in a, b:
    each.__exit__(None, None, None)
"""
COUNT = """
listed = "import os; print(len(os.listdir('/proc/self/fd')))"
def count():
    started = [sys.executable, "-c", listed]
    return int(subprocess.run(started, close_fds=False, stdout=-1).stdout)
before = count()
"""
COUNTED = """
assert count() == before
for each in a, b:
    each.__exit__(None, None, None)
"""
ENDS = {
    "at once": "os._exit(3)",
    "like a program": "sys.exit(3)",
    "having closed its copy": "a.engine.close(); b.engine.close(); sys.exit(3)",
    "without its copy": "del a.engine, b.engine, a, b; sys.exit(3)",
}


def run(program: str) -> str:
    tests = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tests)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("end", ENDS)
def test_a_child_that_ends_takes_nothing_from_its_parent(end: str) -> None:
    forked = f"child = os.fork()\nif not child:\n    {ENDS[end]}\n"
    run(SETTING + forked + GOES_ON)


def test_a_program_that_is_started_inherits_nothing() -> None:
    imports, opening = SETTING.split("a, b =")
    run(imports + COUNT + "a, b =" + opening + COUNTED)
