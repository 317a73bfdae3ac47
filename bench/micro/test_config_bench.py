"""How long a configuration of ten thousand peers takes, with `json.loads` beside it.

Run with `pytest bench/micro/test_config_bench.py`. The figures of one run are only
comparable with each other: the ratio to `json.loads` is what travels between machines.
"""

from __future__ import annotations

import json
import random
from base64 import b64encode
from typing import Any

import pytest

from tunnel.config.desired import desired_state
from tunnel.config.store import parse_config

PEERS = 10_000
ROUNDS = 20


def make_text(endpoints: bool) -> str:
    """A server with keys: one prefix per peer, an endpoint per peer or none."""
    rng = random.Random(20)
    peers = []
    for number in range(PEERS):
        peer: dict[str, Any] = {
            "name": f"peer{number}",
            "publicKey": b64encode(rng.randbytes(32)).decode(),
            "allowedIPs": [f"10.{number >> 8}.{number & 255}.1/32"],
        }
        if endpoints:
            peer["endpoint"] = f"192.0.2.{number % 250 + 1}:51820"
        peers.append(peer)
    key = b64encode(rng.randbytes(32)).decode()
    return json.dumps({"mode": "server", "privateKey": key, "peers": peers}, indent=2)


@pytest.fixture(scope="module", params=["bare", "endpoints"])
def text(request: pytest.FixtureRequest) -> str:
    return make_text(request.param == "endpoints")


def test_json_loads(benchmark: Any, text: str) -> None:
    benchmark.group = "10k peers"
    value = benchmark.pedantic(json.loads, (text,), rounds=ROUNDS, warmup_rounds=2)
    assert len(value["peers"]) == PEERS


def test_load_and_validate(benchmark: Any, text: str) -> None:
    benchmark.group = "10k peers"
    raw = text.encode()
    config = benchmark.pedantic(parse_config, (raw,), rounds=ROUNDS, warmup_rounds=2)
    assert len(config.facts.peers) == PEERS


def test_desired_state(benchmark: Any, text: str) -> None:
    benchmark.group = "10k peers"
    config = parse_config(text)
    state = benchmark.pedantic(desired_state, (config,), rounds=ROUNDS, warmup_rounds=2)
    assert len(state.peers) == PEERS


def test_every_peer_wrong(benchmark: Any, text: str) -> None:
    """The worst case of error reporting: a problem in each of the peers."""
    from tunnel.errors import ConfigError

    benchmark.group = "10k peers"
    broken = text.replace(".1/32", ".1/33")

    def refuse() -> int:
        try:
            parse_config(broken)
        except ConfigError as error:
            return len(error.problems)
        return 0

    assert benchmark.pedantic(refuse, rounds=3, warmup_rounds=1) == PEERS
