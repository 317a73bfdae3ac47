"""Random merges into files: what is in them afterwards is what `merge` says."""

from __future__ import annotations

import random
from base64 import b64encode
from pathlib import Path

import pytest

from tunnel.errors import ConfigError
from tunnel.fleet.files import open_file
from tunnel.fleet.partial import PartialSet
from tunnel.fleet.standins import StandIns
from tunnel.state.merge import PartialPeer, merge
from tunnel.state.model import PeerState, Secret

FIELDS = ["allowed_ips", "endpoint", "keepalive", "name", "preshared_key"]


def random_part(rng: random.Random, names: StandIns) -> PartialPeer:
    n = rng.randrange(1, 8)
    host = rng.choice(["192.0.2.1", "vpn.example.com", "2001:db8::1"])
    state = PeerState(
        bytes([n]) * 32,
        f"peer {rng.randrange(8)}",
        Secret(rng.randbytes(32)),
        names.endpoint((host, rng.randrange(1, 9))),
        tuple((bytes([10, n, 0, m]), 32) for m in range(rng.randrange(3))),
        rng.choice([0, 25]),
    )
    return PartialPeer(
        state, frozenset(rng.sample(FIELDS, rng.randrange(6))) | {"name"}
    )


@pytest.mark.parametrize("name", ["wg0.conf", "peers.json", "config.json"])
def test_files_say_what_the_merge_decides(name: str, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / name
    if name == "config.json":
        key = b64encode(b"k" * 32).decode()
        path.write_text(f'{{"mode": "server", "privateKey": "{key}", "keepalive": 7}}')
    rounds = merged_ones = 0
    while rounds < 60 or merged_ones <= 15:  # others are refused, as chance has it
        rounds += 1
        assert rounds < 1000
        names = StandIns()
        file = open_file(path, names, create=True)
        parts = tuple(random_part(rng, names) for _ in range(rng.randrange(1, 3)))
        given = PartialSet(file.complete(PartialSet(parts)))
        try:
            merged = merge(file.state, given.peers, prune=rng.random() < 0.1)
        except ConfigError:
            continue
        for text in file.texts(merged, given):
            text.path.write_text(text.new)
        merged_ones += 1
        names = StandIns()
        again = open_file(path, names, create=True)
        assert again.state.peers == merged.peers
        assert again.texts(again.state, PartialSet(())) == []
