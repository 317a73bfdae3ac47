"""What the memory of a running `tunnel-wg` is made of, while four TCP streams pass.

    python bench/memory.py [--seconds S]

Needs root. Reads /proc/PID/smaps, in which the kernel says for every mapping how much
of it is resident; the sum is what `make bench` reports as memory under load.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

# PYTHONSAFEPATH, which keeps the checkout's `tunnel` out, keeps `lab` out as well.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from lab.process import LabError
from lab.report import RESULTS, environment, save, table
from lab.requirements import missing
from lab.rigs import contender
from lab.traffic import iperf3

STREAMS = 4
_NO_DUMP = "dd"  # MADV_DONTDUMP: the packet path's own areas
_FILES = (
    ("packet path and ciphers, code", "/_fastpath/"),
    ("X25519 and AEAD of the handshake, code", "/cryptography/"),
    ("Python interpreter, code and tables", "/libpython"),
    ("Python interpreter, code and tables", "/bin/python"),
    ("C library and loader", "/libc.so"),
    ("C library and loader", "/libm.so"),
    ("C library and loader", "/ld-linux"),
)


class Mapping(NamedTuple):
    path: str  # empty for anonymous memory
    resident: int  # bytes
    flags: frozenset[str]  # VmFlags, proc(5)


def mappings(smaps: str) -> Iterator[Mapping]:
    """Every mapping of /proc/PID/smaps."""
    path, resident = "", 0
    for words in map(str.split, filter(None, smaps.splitlines())):
        if words[0] == "Rss:":
            resident = int(words[1]) * 1024
        elif words[0] == "VmFlags:":
            yield Mapping(path, resident, frozenset(words[1:]))
        elif not words[0].endswith(":"):
            path = words[5] if len(words) > 5 else ""


def kind(mapping: Mapping) -> str:
    """The line of the table that a mapping counts in."""
    if not mapping.path.startswith("/"):
        if _NO_DUMP in mapping.flags:
            return "packet buffers and session keys"
        return "Python objects and C heap"
    for name, part in _FILES:
        if part in mapping.path:
            return name
    return "other libraries"


def composition(smaps: str) -> Counter[str]:
    """Resident bytes of a process by kind."""
    found: Counter[str] = Counter()
    for mapping in mappings(smaps):
        found[kind(mapping)] += mapping.resident
    return found


def measure(seconds: float) -> Counter[str]:
    """Of the sending end, in the middle of the transfer."""
    with contender("ours").open() as rig:
        stream = threading.Thread(
            target=iperf3,
            args=(rig.left.host, rig.right.host, rig.right.address),
            kwargs={"seconds": seconds, "parallel": STREAMS},
        )
        stream.start()
        try:
            stream.join(seconds / 2)
            smaps = Path(f"/proc/{rig.processes[0].pid}/smaps").read_text()
        finally:
            stream.join()
    return composition(smaps)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory")
    chosen = parser.parse_args()
    if reasons := missing():
        print("\n".join(reasons), file=sys.stderr)
        return 1
    report: dict[str, Any] = {"environment": environment()}
    try:
        found = measure(chosen.seconds)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    lines = [*found.most_common(), ("sum", found.total())]
    print(
        table(["tunnel-wg, resident", "kB"], [[n, f"{b // 1024:,}"] for n, b in lines])
    )
    report["resident_bytes"] = dict(lines)
    print(f"\n{save('memory', report, chosen.results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
