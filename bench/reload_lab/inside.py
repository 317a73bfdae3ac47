"""Figures taken inside one process: a commit, a plan, a table of a million prefixes."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tunnel._fastpath.pump import Pump
from tunnel.device_change import DeviceChange
from tunnel.engine import Engine
from tunnel.io.memory import memory_tun
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret, clamp
from tunnel.state.plan import diff

__all__ = ["one_change_among_peers", "one_change_among_prefixes"]

PEERS = 10_000
PREFIXES = 1_000_000
SEED = 20_261_121


def peer_states(count: int) -> dict[bytes, PeerState]:
    """Equal but not identical at every call, as two readings of one file are."""
    rng = random.Random(SEED)
    peers = {}
    for number in range(count):
        key = rng.randbytes(32)
        peers[key] = PeerState(
            key,
            name=f"peer{number}",
            preshared_key=Secret(rng.randbytes(32)),
            endpoint=(bytes([192, 0, 2, 1 + number % 250]), 51820, 0),
            allowed_ips=((bytes([10, *number.to_bytes(3, "big")]), 32),),
        )
    return peers


@contextmanager
def timed_commits() -> Iterator[list[float]]:
    """Microseconds of every commit meanwhile, from prepared to published."""
    took: list[float] = []
    real = DeviceChange.commit

    def commit(change: DeviceChange) -> None:
        start = time.perf_counter_ns()
        real(change)
        took.append((time.perf_counter_ns() - start) / 1e3)

    DeviceChange.commit = commit  # type: ignore[method-assign]
    try:
        yield took
    finally:
        DeviceChange.commit = real  # type: ignore[method-assign]


def one_change_among_peers(repeats: int = 50) -> dict[str, Any]:
    """Commit, and everything from desired state to done, with 10,000 peers."""
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    try:
        engine.start()
        device = engine.device
        secret = Secret(clamp(os.urandom(32)))
        full = replace(device.observe(), private_key=secret, peers=peer_states(PEERS))
        device.apply(diff(device.observe(), full, generation=device.generation))
        whole: list[float] = []
        with timed_commits() as commits:
            for number in range(repeats):
                desired = _one_changed(full, number)
                start = time.perf_counter_ns()
                device.apply(engine.plan(desired))
                whole.append((time.perf_counter_ns() - start) / 1e6)
    finally:
        engine.close()
    return {"commit_us": commits, "apply_ms": whole}


def _one_changed(full: DeviceState, number: int) -> DeviceState:
    """Another state with one peer's prefixes, keepalive or endpoint changed."""
    peers = peer_states(PEERS)
    key = list(peers)[number * 7919 % PEERS]
    peer = peers[key]
    peers[key] = (
        replace(peer, allowed_ips=((bytes([11, 0, 0, number]), 32),)),
        replace(peer, keepalive=1 + number),
        replace(peer, endpoint=(bytes([192, 0, 2, 1]), 1000 + number, 0)),
    )[number % 3]
    return replace(full, peers=peers)


def one_change_among_prefixes(repeats: int = 500) -> dict[str, Any]:
    """Microseconds of a transaction that replaces one prefix among a million."""
    rng = random.Random(SEED)
    tun, packets = memory_tun()
    pump = Pump(tun.fileno())
    try:
        pump.start()
        path = pump.add_peer(None)
        with pump.begin() as change:
            for number in range(PREFIXES):
                change.insert_prefix(_address(number), 29, path)
        took = []
        for _ in range(repeats):
            address = _address(rng.randrange(PREFIXES))
            start = time.perf_counter_ns()
            change = pump.begin()
            change.remove_prefix(address, 29)
            change.insert_prefix(address, 30, path)
            change.commit()
            took.append((time.perf_counter_ns() - start) / 1e3)
            with pump.begin() as back:
                back.remove_prefix(address, 30)
                back.insert_prefix(address, 29, path)
            pump.drain()
    finally:
        pump.stop()
        packets.close()
        tun.close()
    return {"table_us": took}


def _address(number: int) -> bytes:
    return ((10 << 24) + number * 8).to_bytes(4, "big")
