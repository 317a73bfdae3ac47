"""A secret in the wrong field is not printed either."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from tunnel.config.hidden import hide_keys
from tunnel.config.problems import render_path
from tunnel.config.schema import Config
from tunnel.config.values import shown
from tunnel.config.wgquick import parse_wgquick
from tunnel.errors import ConfigError, ConfigProblem
from tunnel.fleet.peers import parse_wireguard_peers, parts_of
from tunnel.fleet.standins import StandIns

RAW = bytes(range(1, 33))
SECRET = b64encode(RAW).decode()
SPELLED = [SECRET, SECRET[:-1], RAW.hex(), RAW.hex().upper()]
PUBLIC = b64encode(bytes(range(2, 34))).decode()

AROUND = [
    "{}",
    " {} ",
    "[{}]",
    "{}/32",
    "{}:51820",
    "PrivateKey = {}",
    "x{}=",
    "x" * 50 + " {}",
]


def assert_silent(text: object) -> None:
    for secret in SPELLED:
        for start in range(len(secret) - 12):
            assert secret[start : start + 12] not in str(text)


@pytest.mark.parametrize("secret", SPELLED)
@pytest.mark.parametrize("around", AROUND)
def test_what_is_shown_holds_no_key(secret: str, around: str) -> None:
    if len(secret) == 43 and "x{}" in around:
        secret += "="
    assert_silent(shown(around.format(secret)))
    assert_silent(render_path(("peers", around.format(secret), 3)))
    assert "(hidden)" in hide_keys(around.format(secret))


def test_however_many_there_are_and_wherever_it_is_cut() -> None:
    for length in range(70):
        for many in (1, 2, 40):
            assert_silent(shown("-" * length + "\n".join([SECRET] * many)))
            assert_silent(render_path(("-" * length + RAW.hex() * many,)))


@pytest.mark.parametrize(
    "text",
    ["vpn.example.com:51820", "10.0.0.1/24", "a" * 42, "0123456789abcdef" * 3,
     "a-" * 40, "fd00:1111:2222:3333:4444:5555:6666:7777/128", "a" * 60],
)  # fmt: skip
def test_what_is_no_key_is_shown(text: str) -> None:
    assert hide_keys(text) == text


def test_random_texts_that_hold_keys(seed: int) -> None:
    del seed
    for _ in range(200):
        key = b64encode(os.urandom(32)).decode()
        assert hide_keys(f'"{key}"') == '"(hidden)"'


# --- the fields


def of_json(**members: Any) -> dict[str, Any]:
    facts = {"mode": "server", "psk": "quiet harbour 51 lanterns"}
    return facts | members


WRONG_JSON = [
    *({"listen": s} for s in SPELLED),
    *({"keepalive": s} for s in SPELLED),
    *({"workers": s} for s in SPELLED),
    *({"tunnel": {"name": s}} for s in SPELLED),
    *({"tunnel": {"address": s}} for s in SPELLED),
    *({"tunnel": {"dns": [s]}} for s in SPELLED),
    *({"tunnel": {s: 1}} for s in SPELLED),
    *({s: 1} for s in SPELLED),
    *({"management": {"bind": s}} for s in SPELLED),
    *({"peers": [{"name": "a", "endpoint": s}]} for s in SPELLED),
    *({"peers": [{"name": "a", "endpoint": f"{s}:5 1"}]} for s in SPELLED),
    *({"peers": [{"name": "a", "allowedIPs": [s]}]} for s in SPELLED),
    *({"peers": [{"name": "a", "persistentKeepalive": s}]} for s in SPELLED),
    *({"peers": [{"name": s, "publicKey": PUBLIC}, {"name": s}]} for s in SPELLED),
]


@pytest.mark.parametrize("members", WRONG_JSON)
def test_config_json(
    refuse: Callable[..., list[ConfigProblem]], members: dict[str, Any]
) -> None:
    for text in (
        json.dumps(of_json(**members)),
        json.dumps(of_json(**members), indent=1),
    ):
        problems = refuse(text)
        assert problems
        assert_silent([str(problem) for problem in problems])


INTERFACE = [
    "Address",
    "DNS",
    "ListenPort",
    "MTU",
    "Table",
    "FwMark",
    "SaveConfig",
    "PrivateKey",
]
PEER = ["AllowedIPs", "Endpoint", "PersistentKeepalive", "PublicKey"]


@pytest.mark.parametrize("secret", SPELLED)
@pytest.mark.parametrize(
    "text",
    [
        *(f"[Interface]\n{key} = {{}}!" for key in INTERFACE),
        *(f"[Peer]\n{key} = {{}}!" for key in PEER),
        "[{}]\n",
        "[Interface]\n{}\n",
        "[Peer]\n# friendly_name={0}\n[Peer]\n# friendly_name={0}\n",
        f"[Peer]\nPublicKey = {PUBLIC}\nEndpoint = {{}}.invalid.:51820:1\n",
    ],
)
def test_wg_quick(text: str, secret: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_wgquick(text.format(secret))
    assert_silent(caught.value)


@pytest.mark.parametrize("secret", SPELLED)
def test_partial_sets(secret: str) -> None:
    wrong: list[dict[str, Any]] = [
        {secret: {"public_key": "x"}},
        {"a": {"public_key": PUBLIC, secret: 1}},
        {"a": {"public_key": PUBLIC, "allowed_ips": secret}},
        {"a": {"public_key": PUBLIC, "persistent_keepalive": secret}},
    ]
    for peers in wrong:
        with pytest.raises(ConfigError) as caught:
            list(parts_of(peers, StandIns().endpoint))
        assert_silent(caught.value)


def test_a_peer_that_is_called_by_its_public_key_still_is() -> None:
    with pytest.raises(ConfigError) as caught:
        list(parts_of({PUBLIC: {"public_key": PUBLIC, "x": 1}}, StandIns().endpoint))
    assert f"{PUBLIC}.x: unknown key" in str(caught.value)
    text = f"[Peer]\nPublicKey = {PUBLIC}\nEndpoint = vpn.example.com:51820\n"
    assert PUBLIC in parse_wireguard_peers(text)
    with pytest.raises(ConfigError, match="cannot resolve vpn") as caught:
        parse_wgquick(text).state("wg0", lambda _: None)
    assert caught.value.source == PUBLIC


def test_a_host_that_is_a_key_is_not_named(parse: Callable[..., Config]) -> None:
    host = "a" * 43
    text = f"[Peer]\nPublicKey = {PUBLIC}\nEndpoint = {host}:51820\n"
    with pytest.raises(ConfigError) as caught:
        parse_wgquick(text).state("wg0", lambda _: None)
    assert host not in str(caught.value)
    assert "cannot resolve (hidden)" in str(caught.value)
