"""Figures taken inside one process: a commit, a plan, a table of a million prefixes."""

from __future__ import annotations

import ipaddress
import json
import os
import random
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tunnel._fastpath.pump import Pump
from tunnel.config.desired import desired_state
from tunnel.config.store import parse_config
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
    """Equal but not identical at every call: nothing can be taken over."""
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


def config_text(private_key: str, peers: list[dict[str, Any]]) -> str:
    tunnel = {"type": "loopback", "name": "memory"}
    whole = {"mode": "server", "privateKey": private_key, "tunnel": tunnel}
    return json.dumps({**whole, "peers": peers}, indent=2)


def peer_entries(count: int) -> list[dict[str, Any]]:
    """As `peer_states`, as they stand in a file."""
    return [
        {
            "name": peer.name,
            "publicKey": b64encode(key).decode(),
            "presharedKey": b64encode(peer.preshared_key.reveal()).decode(),
            "endpoint": f"192.0.2.{peer.endpoint[0][3]}:51820",
            "allowedIPs": [str(ipaddress.ip_address(peer.allowed_ips[0][0])) + "/32"],
        }
        for key, peer in peer_states(count).items()
        if peer.preshared_key is not None and peer.endpoint is not None
    ]


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


@contextmanager
def filled_engine() -> Iterator[tuple[Engine, DeviceState]]:
    """In memory, with all the peers."""
    engine = Engine(InterfaceState(kind="loopback", name="memory"))
    try:
        engine.start()
        device = engine.device
        secret = Secret(clamp(os.urandom(32)))
        full = replace(device.observe(), private_key=secret, peers=peer_states(PEERS))
        device.apply(diff(device.observe(), full, generation=device.generation))
        yield engine, full
    finally:
        engine.close()


def one_change_among_peers(repeats: int = 50) -> dict[str, Any]:
    """Commit, and everything from a configuration that was read to its change being
    in force, with 10,000 peers: `apply_ms` as a saved file does it, `unlike_ms` when
    no object of the states is the same. `parse_ms` is reading the file the first time
    and `again_ms` when one peer in it has changed."""
    found: dict[str, Any] = {"unlike_ms": []}
    with filled_engine() as (engine, full):
        for number in range(repeats):
            desired = _one_changed(full, number)
            start = time.perf_counter_ns()
            engine.apply(engine.plan(desired))
            found["unlike_ms"].append((time.perf_counter_ns() - start) / 1e6)
    with filled_engine() as (engine, full), timed_commits() as commits:
        found |= _from_files(engine, repeats)
    return found | {"commit_us": commits}


def _from_files(engine: Engine, repeats: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {"parse_ms": [], "again_ms": [], "apply_ms": []}

    def timed(what: str, start: int) -> None:
        took[what].append((time.perf_counter_ns() - start) / 1e6)

    private_key, entries = b64encode(os.urandom(32)).decode(), peer_entries(PEERS)
    text = config_text(private_key, entries)
    for _ in range(5):
        start = time.perf_counter_ns()
        config = parse_config(text)
        timed("parse_ms", start)
    engine.apply(engine.plan(desired_state(config)))
    for number in range(repeats):
        key, value = (
            ("allowedIPs", [f"11.0.0.{number}/32"]),
            ("persistentKeepalive", 1 + number),
            ("endpoint", f"192.0.2.1:{1000 + number}"),
        )[number % 3]
        entries[number * 7919 % PEERS][key] = value
        text = config_text(private_key, entries)
        start = time.perf_counter_ns()
        config = parse_config(text, like=config)
        timed("again_ms", start)
        start = time.perf_counter_ns()
        peers = engine.device.observe().peers
        engine.apply(engine.plan(desired_state(config, known=peers)))
        timed("apply_ms", start)
    return took


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
