"""What a pump leaves behind that is stopped in the middle of something."""

from __future__ import annotations

import gc
from pathlib import Path

from .rig import Rig, ipv4

PEERS, EACH = 100, 100  # packets that wait
PACKET = bytes(1280)
CYCLES = 8
ALL = PEERS * EACH * len(PACKET) * CYCLES


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def one_life(remove: bool) -> None:
    """If its peers are removed, it is stopped before a worker has seen that."""
    with Rig(workers=2) as rig:
        paths = [rig.pump.add_peer(None) for _ in range(PEERS)]
        with rig.pump.begin() as change:
            for n, path in enumerate(paths):
                path.set_endpoint((bytes([127, 0, 0, 1]), 9, 0))
                change.insert_prefix(bytes([10, 0, 1, n]), 32, path)
        rig.settle()
        for n in range(PEERS):
            for _ in range(EACH):
                rig.write(ipv4("10.1.1.1", f"10.0.1.{n}", PACKET))
        rig.until(lambda: sum(path.staged for path in paths) == PEERS * EACH)
        if not remove:
            return
        with rig.pump.begin() as change:
            for n, path in enumerate(paths):
                change.remove_prefix(bytes([10, 0, 1, n]), 32)
                change.remove_peer(path)


def growth(remove: bool) -> int:
    before = resident()
    for _ in range(CYCLES):
        one_life(remove)
    return resident() - before


def test_packets_that_waited_for_removed_peers_are_freed() -> None:
    """As those of others are; a sanitizer keeps what is freed for a while."""
    one_life(True)
    usual = growth(False)
    assert growth(True) < usual + ALL // 5
