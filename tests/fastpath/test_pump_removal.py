"""A prefix moves from a peer that is removed: each packet has a way (R71, R76)."""

from __future__ import annotations

import threading

from .rig import Rig, boottime, ipv4, prefix

NET = "10.0.0.0/24"
PATIENCE_OF_COMMITS = 100_000_000  # ns: SETTLE_MOST of engine.c


def test_a_batch_under_way_still_reaches_a_peer_that_is_removed() -> None:
    """Its keys are there until no batch uses the table that led to it."""
    for _ in range(5):
        lost, longest = removed_under_traffic()
        # a machine that stood still for so long in a commit proves nothing
        if not lost or longest < PATIENCE_OF_COMMITS:
            break
    assert lost == {}


def removed_under_traffic() -> tuple[dict[str, int], int]:
    """Packets that were dropped, and how long the longest commit took."""
    longest = 0
    with Rig() as rig:
        old, _, _ = rig.session(NET)
        stop = threading.Event()

        def feed() -> None:
            while not stop.is_set():
                rig.write(ipv4("10.0.1.1", "10.0.0.2", bytes(1000)))

        threads = [threading.Thread(target=feed) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(150):
            new, end, _ = rig.session()
            before, began = new.tx_bytes, boottime()
            with rig.pump.begin() as t:
                t.insert_prefix(*prefix(NET), new)
                t.remove_peer(old)
            longest = max(longest, boottime() - began)
            rig.until(lambda new=new, before=before: new.tx_bytes > before)
            end.socket.close()
            rig.drain()
            old = new
        stop.set()
        for thread in threads:
            thread.join()
        rig.until(lambda: rig.pump.counters()["udp_sent"] >= 150)
        counters = rig.pump.counters()
    lost = {k: n for k, n in counters.items() if k.startswith("drop.tx_") and n}
    return lost, longest
