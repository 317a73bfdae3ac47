"""Random states for property tests: few keys and prefixes, so that they collide."""

from __future__ import annotations

import random

from tunnel.state.model import (
    DeviceState,
    InterfaceState,
    PeerState,
    Prefix,
    Secret,
    canonical_prefixes,
    mask,
)

KEYS = [bytes([n]) * 32 for n in range(1, 9)]
PREFIXES: list[Prefix] = [mask(bytes([10, 0, n, 0]), 24) for n in range(6)]
PREFIXES += [mask(bytes([0xFD, n, *bytes(14)]), 16) for n in range(6)]


def random_peer(rng: random.Random, key: bytes, prefixes: list[Prefix]) -> PeerState:
    return PeerState(
        key,
        name=rng.choice(["", "alice", "bob"]),
        preshared_key=rng.choice(
            [None, Secret(bytes([7]) * 32), Secret(bytes([8]) * 32)]
        ),
        endpoint=rng.choice(
            [None, (b"\x7f\0\0\1", 51820, 0), (b"\x7f\0\0\1", 51821, 0)]
        ),
        allowed_ips=canonical_prefixes(prefixes),
        keepalive=rng.choice([0, 0, 25]),
        enabled=rng.random() < 0.9,
    )


def random_state(rng: random.Random) -> DeviceState:
    """A consistent state: no prefix has two owners."""
    keys = rng.sample(KEYS, rng.randrange(len(KEYS)))
    owned: dict[bytes, list[Prefix]] = {key: [] for key in keys}
    for prefix in PREFIXES:
        if keys and rng.random() < 0.8:
            owned[rng.choice(keys)].append(prefix)
    return DeviceState(
        private_key=rng.choice(
            [None, Secret(bytes([1]) * 32), Secret(bytes([2]) * 32)]
        ),
        listen_port=rng.choice([0, 51820, 51821]),
        fwmark=rng.choice([0, 7]),
        interface=InterfaceState(
            mtu=rng.choice([1280, 1420]),
            routes=canonical_prefixes(rng.sample(PREFIXES, 2)),
            auto_configure=rng.random() < 0.5,
        ),
        peers={key: random_peer(rng, key, owned[key]) for key in keys},
        log_level=rng.choice(["info", "debug"]),
        settings=rng.choice(
            [(), (("limits", 5),), (("limits", 6), ("management", "x"))]
        ),
    )
