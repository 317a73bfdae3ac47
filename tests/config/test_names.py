"""Host names that have no address just now: what is refused, and for how long."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from tunnel.config.desired import desired_state
from tunnel.config.schema import Config
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.state.model import DeviceState

from .test_desired import KEYS, resolver, server

Parse = Callable[..., Config]

ALL = {"a.example": ["192.0.2.1"], "b.example": ["192.0.2.2"]}


def peer(number: int, endpoint: str, **more: Any) -> dict[str, Any]:
    return {"publicKey": KEYS[number], "endpoint": endpoint, **more}


def state_of(config: Config) -> DeviceState:
    return desired_state(config, resolver(ALL))


def test_only_what_may_pass_by_itself_is_temporary(parse: Parse) -> None:
    with pytest.raises(ConfigError) as caught:
        desired_state(parse(server(peer(0, "a.example:5"))), resolver({}))
    assert caught.value.temporary
    shared = {"name": "b", "psk": "b long and random enough passphrase, is it not?"}
    own = server(peer(0, "a.example:5"), shared | {"endpoint": "b.example:5"})
    key = list(state_of(parse(own)).peers)[1]
    same = {"name": "c", "publicKey": b64encode(key).decode()}
    twice = parse(server(peer(0, "a.example:5"), shared, same))
    with pytest.raises(ConfigError, match="same public key") as caught:
        desired_state(twice, resolver({}))
    assert len(caught.value.problems) == 2
    assert not caught.value.temporary


def test_a_peer_that_runs_with_the_same_name_keeps_its_endpoint(parse: Parse) -> None:
    before = parse(server(peer(0, "a.example:5"), peer(1, "b.example:5")))
    running = state_of(before).peers
    config = parse(server(peer(0, "a.example:5", persistentKeepalive=7)))
    kept: list[ConfigProblem] = []
    state = desired_state(config, resolver({}), running, before, kept)
    (one,) = state.peers.values()
    assert one.endpoint == (socket.inet_aton("192.0.2.1"), 5, 0)
    assert one.keepalive == 7
    assert [problem.path for problem in kept] == ["peers[0].endpoint"]
    assert "cannot resolve a.example" in kept[0].message


@pytest.mark.parametrize("endpoint", ["b.example:5", "a.example:6"])
def test_another_endpoint_needs_its_address(parse: Parse, endpoint: str) -> None:
    before = parse(server(peer(0, "a.example:5")))
    running = state_of(before).peers
    kept: list[ConfigProblem] = []
    with pytest.raises(ConfigError) as caught:
        desired_state(
            parse(server(peer(0, endpoint))), resolver({}), running, before, kept
        )
    assert caught.value.temporary
    assert kept == []
    # nor is there anything to keep for a peer that does not run, or nobody knows how
    for known, old in (({}, before), (running, None)):
        with pytest.raises(ConfigError, match="cannot resolve"):
            desired_state(before, resolver({}), known, old)


def test_peers_by_passphrase_keep_theirs_as_long_as_it_is_the_same(
    parse: Parse,
) -> None:
    def config(psk: str) -> Config:
        whole = {"name": "b", "endpoint": "b.example:5", "psk": psk}
        return parse(server(whole))

    before = config("a long and random enough passphrase, is it not? 1")
    running = state_of(before).peers
    assert desired_state(before, resolver({}), running, before).peers == running
    with pytest.raises(ConfigError, match="cannot resolve"):
        desired_state(
            config("a long and random enough passphrase, is it not? 2"),
            resolver({}), running, before,
        )  # fmt: skip
