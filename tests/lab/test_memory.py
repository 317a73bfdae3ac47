"""The composition of a process's memory, from what the kernel says of its mappings."""

from __future__ import annotations

import re
import subprocess
import sys

import memory

SMAPS = """\
55d0c0a00000-55d0c0e00000 rw-p 00000000 00:00 0                          [heap]
Size:               4096 kB
Rss:                3700 kB
VmFlags: rd wr mr mw me ac
7fdab244d000-7fdab25b3000 rw-p 00000000 00:00 0
Rss:                 600 kB
VmFlags: rd wr mr mw me nr dd
7fdab262a000-7fdab2632000 r-xp 00000000 fe:00 1 /x/tunnel/_fastpath/pump.so (deleted)
Rss:                 160 kB
VmFlags: rd ex mr mw me
7fdab2a44000-7fdab2a45000 r--p 00000000 fe:00 2 /usr/lib/libz.so.1
Rss:                   4 kB
VmFlags: rd mr mw me
"""


def test_every_mapping_counts_where_it_belongs() -> None:
    assert memory.composition(SMAPS) == {
        "Python objects and C heap": 3700 * 1024,
        "packet buffers and session keys": 600 * 1024,
        "packet path and ciphers, code": 160 * 1024,
        "other libraries": 4 * 1024,
    }


def test_nothing_resident_is_left_out() -> None:
    program = "print(open('/proc/self/smaps').read())"
    smaps = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    resident = sum(map(int, re.findall(r"^Rss: +(\d+) kB", smaps, re.MULTILINE)))
    found = memory.composition(smaps)
    assert found.total() == resident * 1024
    assert found["Python objects and C heap"] > 0
