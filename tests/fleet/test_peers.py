"""Peers as dictionaries: parsing, merging, filtering."""

from __future__ import annotations

from base64 import b64encode

import pytest

from tunnel.errors import ConfigError
from tunnel.fleet.peers import (
    filter_peers_by_inventory,
    merge_wireguard_peers,
    parse_wireguard_peers,
)


def key(n: int) -> str:
    return b64encode(bytes([n]) * 32).decode()


CM4 = {"public_key": key(1), "allowed_ips": "10.0.0.3/32"}
S2204 = {
    "public_key": key(2),
    "allowed_ips": "10.0.0.4/32, fd00::4/128",
    "endpoint": "vpn.example.com:51820",
    "persistent_keepalive": "25",
    "preshared_key": key(9),
}


def test_parse() -> None:
    text = f"""[Interface]
[Peer]
# s2204
PublicKey = {key(2)}
AllowedIPs = 10.0.0.4, fd00::4
Endpoint = vpn.example.com:51820
PersistentKeepalive = 25
PresharedKey = {key(9)}

[Peer]
PublicKey = {key(1)}
AllowedIPs = 10.0.0.3/32
"""
    peers = parse_wireguard_peers(text)
    assert peers == {key(1): CM4, "s2204": S2204}
    assert list(peers) == sorted(peers)
    assert parse_wireguard_peers("") == {}
    with pytest.raises(ConfigError, match="line 1"):
        parse_wireguard_peers("[Peer]")


def test_merge_adds_updates_preserves_and_is_idempotent() -> None:
    new = {"cm4": CM4 | {"allowed_ips": ["10.0.0.9", "10.0.0.3/32"]}}
    merged = merge_wireguard_peers({"s2204": S2204}, new)
    assert merged == {
        "cm4": CM4 | {"allowed_ips": "10.0.0.3/32, 10.0.0.9/32"},
        "s2204": S2204,
    }
    assert merge_wireguard_peers(merged, new) == merged
    update = {"s2204": {"public_key": key(2), "persistent_keepalive": 0}}
    kept = dict(S2204)
    del kept["persistent_keepalive"]
    assert merge_wireguard_peers({"s2204": S2204}, update) == {"s2204": kept}


def test_merge_by_key_and_by_name() -> None:
    assert merge_wireguard_peers({"cm4": CM4}, {"cm5": CM4}) == {"cm5": CM4}
    rotated = {"s2204": {"public_key": key(5)}}
    assert merge_wireguard_peers({"s2204": S2204}, rotated) == {
        "s2204": S2204 | {"public_key": key(5)}
    }
    nameless = {key(1): {"public_key": key(1), "allowed_ips": "10.0.0.3"}}
    assert merge_wireguard_peers({}, nameless) == {key(1): CM4}
    assert merge_wireguard_peers({"cm4": CM4}, nameless) == {"cm4": CM4}


@pytest.mark.parametrize(
    "entry",
    [
        {"public_key": "x"},
        {"allowed_ips": "10.0.0.1"},
        {"public_key": key(3), "allowed_ips": "10.0.0.1/99"},
        {"public_key": key(3), "endpoint": "nowhere"},
        {"public_key": key(3), "colour": "red"},
        {"public_key": key(3), "allowed_ips": "10.0.0.3/32"},
    ],
)
def test_what_is_wrong_names_the_peer(entry: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="laptop"):
        merge_wireguard_peers({"cm4": CM4}, {"laptop": entry})


def test_filter() -> None:
    peers = {"s2204": S2204, "cm4": CM4}
    assert filter_peers_by_inventory(peers, ["cm4", "other"]) == {"cm4": CM4}
    assert list(filter_peers_by_inventory(peers, [key(2), "cm4"])) == ["cm4", "s2204"]
    assert filter_peers_by_inventory(peers, []) == {}
