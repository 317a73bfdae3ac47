"""From a configuration to the desired state of the device."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from tunnel.api.uapi_values import parse_endpoint
from tunnel.config import identity
from tunnel.config.desired import SETTINGS, desired_state
from tunnel.config.schema import Config
from tunnel.errors import ConfigError
from tunnel.state.model import DeviceState, PeerState, Secret

PRIVATE = b64encode(bytes(range(8, 40))).decode()
KEYS = [b64encode(bytes([n]) * 32).decode() for n in range(1, 5)]
PSK = "glass-otter-93-Lantern-quiver"

# The client of the project's first example, with a passphrase nobody has printed.
FIRST_CLIENT = f"""
{{
  "mode": "client",
  "endpoint": "server.example.com:51820",
  "psk": "{PSK}",
  "tunnel": {{
    "type": "tun", "name": "stp0", "mtu": 1420, "address": "10.0.0.2/24",
    "autoConfigure": true, "routes": ["192.168.0.0/16"]
  }},
  "peers": [
    {{"name": "server", "allowedIPs": ["10.0.0.0/24", "192.168.0.0/16"]}}
  ]
}}
"""

Parse = Callable[..., Config]


def no_resolver(*arguments: Any, **options: Any) -> list[Any]:
    raise AssertionError(f"resolved {arguments}")


def resolver(answers: dict[str, list[str]]) -> Callable[..., list[Any]]:
    """As `socket.getaddrinfo`, out of a table; `%n` after an address is its scope."""

    def resolve(host: str, port: object, **options: Any) -> list[Any]:
        if host not in answers:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        rows: list[Any] = []
        for text in answers[host]:
            address, _, scope = text.partition("%")
            if ":" in address:
                sockaddr: tuple[Any, ...] = (address, 0, 0, int(scope or 0))
                rows.append((socket.AF_INET6, socket.SOCK_DGRAM, 17, "", sockaddr))
            else:
                rows.append((socket.AF_INET, socket.SOCK_DGRAM, 17, "", (address, 0)))
        return rows

    return resolve


def server(*peers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"mode": "server", "privateKey": PRIVATE, "peers": list(peers), **more}


def one_peer(state: DeviceState) -> PeerState:
    (peer,) = state.peers.values()
    return peer


def test_everything_arrives(parse: Parse) -> None:
    config = parse(
        server(
            {
                "name": "laptop",
                "publicKey": KEYS[0],
                "presharedKey": KEYS[1],
                "endpoint": "192.0.2.7:1234",
                "allowedIPs": ["10.0.0.9/24", "fd00::5/64", "10.0.0.3/24", "10.0.0.1"],
                "persistentKeepalive": "1m",
                "enabled": False,
            },
            listen="[::1]:999",
            fwmark="0x10",
            workers=3,
            tunnel={
                "name": "wg7",
                "mtu": 1380,
                "address": "10.0.0.1/24",
                "addresses": ["fd00::1/64", "10.0.0.1/24"],
                "routes": ["172.16.5.5/12"],
                "dns": ["10.0.0.1", "fd00::1"],
                "autoConfigure": False,
            },
            logging={"level": "debug"},
        )
    )
    state = desired_state(config, no_resolver)
    assert state.private_key == Secret(bytes(range(8, 39)) + bytes([39 | 0x40]))
    assert (state.listen_port, state.fwmark, state.log_level) == (999, 16, "debug")
    ten = socket.inet_aton
    v6 = socket.inet_pton(socket.AF_INET6, "fd00::1")
    assert state.interface.name == "wg7"
    assert state.interface.mtu == 1380
    assert state.interface.addresses == ((ten("10.0.0.1"), 24), (v6, 64))
    assert state.interface.routes == ((ten("172.16.0.0"), 12),)
    assert state.interface.dns == (ten("10.0.0.1"), v6)
    assert not state.interface.auto_configure
    assert state.interface.workers == 3
    assert one_peer(state) == PeerState(
        public_key=bytes([1]) * 32,
        name="laptop",
        preshared_key=Secret(bytes([2]) * 32),
        endpoint=(ten("192.0.2.7"), 1234, 0),
        allowed_ips=(
            (ten("10.0.0.0"), 24),
            (ten("10.0.0.1"), 32),
            (v6[:8] + bytes(8), 64),
        ),
        keepalive=60,
        enabled=False,
    )


def test_settings_are_those_listed(parse: Parse) -> None:
    state = desired_state(parse(server()))
    assert [name for name, _ in state.settings] == [name for name, _ in SETTINGS]
    assert [name for name, _ in SETTINGS] == sorted(name for name, _ in SETTINGS)
    hash(state.settings)
    assert dict(state.settings)["listen.address"] == b""


def test_defaults(parse: Parse) -> None:
    state = desired_state(parse(server({"publicKey": KEYS[0]})))
    assert state.listen_port == 51820
    assert state.interface.mtu == 1420
    assert one_peer(state) == PeerState(bytes([1]) * 32)
    client = {
        "mode": "client",
        "privateKey": PRIVATE,
        "endpoint": "192.0.2.1:5",
        "peers": [{"publicKey": KEYS[0]}],
    }
    assert desired_state(parse(client)).listen_port == 0


def test_same_text_same_state(parse: Parse) -> None:
    text = FIRST_CLIENT.replace("server.example.com", "192.0.2.1")
    assert desired_state(parse(text)) == desired_state(parse(text))


def test_keepalive_is_a_default(parse: Parse) -> None:
    config = parse(
        server(
            {"publicKey": KEYS[0]},
            {"publicKey": KEYS[1], "persistentKeepalive": 0},
            keepalive="15s",
        )
    )
    peers = desired_state(config).peers.values()
    assert [peer.keepalive for peer in peers] == [15, 0]


@pytest.mark.parametrize(
    ("tunnel", "more"),
    [
        ({}, {"fwmark": 7}),
        ({"autoConfigure": False}, {}),
        ({"type": "loopback"}, {}),
    ],
)
def test_a_default_route_where_nothing_is_wrong_with_it(
    parse: Parse, tunnel: dict[str, Any], more: dict[str, Any]
) -> None:
    config = parse(server(tunnel={"routes": ["0.0.0.0/0"], **tunnel}, **more))
    assert desired_state(config).interface.routes == ((bytes(4), 0),)


def test_a_disabled_peer_owns_nothing(parse: Parse) -> None:
    config = parse(
        server(
            {"publicKey": KEYS[0], "allowedIPs": ["10.0.0.2/32"], "enabled": False},
            {"publicKey": KEYS[1], "allowedIPs": ["10.0.0.2/32"]},
        )
    )
    enabled = [peer.enabled for peer in desired_state(config).peers.values()]
    assert enabled == [False, True]


def test_prefixes_inside_each_other(parse: Parse) -> None:
    config = parse(
        server(
            {"publicKey": KEYS[0], "allowedIPs": ["0.0.0.0/0", "10.0.0.0/8"]},
            {"publicKey": KEYS[1], "allowedIPs": ["10.0.0.0/24", "::/0"]},
        )
    )
    assert len(desired_state(config).peers) == 2


# --- endpoints


def test_names_are_resolved_once(parse: Parse) -> None:
    asked: list[str] = []
    table = resolver({"a.example": ["192.0.2.9"]})

    def counting(host: str, *rest: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return table(host, *rest, **options)

    peers = [
        {"publicKey": key, "endpoint": f"a.example:{port}"}
        for port, key in enumerate(KEYS, 1)
    ]
    state = desired_state(parse(server(*peers)), counting)
    assert asked == ["a.example"]
    address = socket.inet_aton("192.0.2.9")
    endpoints = [peer.endpoint for peer in state.peers.values()]
    assert endpoints == [(address, port, 0) for port in range(1, 5)]


def test_rotating_answers_are_no_change(parse: Parse) -> None:
    config = parse(server({"publicKey": KEYS[0], "endpoint": "a.example:5"}))
    answers = ["192.0.2.9", "192.0.2.5", "2001:db8::1"]
    one = desired_state(config, resolver({"a.example": answers}))
    answers = ["192.0.2.5", "192.0.2.9", "2001:db8::1"]
    assert desired_state(config, resolver({"a.example": answers})) == one
    assert one_peer(one).endpoint == (socket.inet_aton("192.0.2.5"), 5, 0)


def test_an_ipv4_endpoint_written_as_ipv6_is_the_one_that_wg_sets(parse: Parse) -> None:
    """`wg showconf | wg syncconf` would change it otherwise."""
    mapped = parse_endpoint(b"[::ffff:192.0.2.9]:5")
    assert mapped == (socket.inet_aton("192.0.2.9"), 5, 0)
    table = resolver({"a.example": ["::ffff:192.0.2.9"]})
    for host in ("[::ffff:192.0.2.9]", "[::ffff:c000:209]", "192.0.2.9", "a.example"):
        config = parse(server({"publicKey": KEYS[0], "endpoint": f"{host}:5"}))
        assert one_peer(desired_state(config, table)).endpoint == mapped


def test_scope_of_a_link_local_address(parse: Parse) -> None:
    config = parse(server({"publicKey": KEYS[0], "endpoint": "[fe80::1%eth9]:5"}))
    state = desired_state(config, resolver({"fe80::1%eth9": ["fe80::1%7"]}))
    packed = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert one_peer(state).endpoint == (packed, 5, 7)


def test_unknown_names_are_all_reported(parse: Parse) -> None:
    config = parse(
        server(
            {"publicKey": KEYS[0], "endpoint": "a.example:5"},
            {"publicKey": KEYS[1], "endpoint": "192.0.2.1:5"},
            {"publicKey": KEYS[2], "endpoint": "b.example:5"},
        )
    )
    with pytest.raises(ConfigError) as caught:
        desired_state(config, resolver({"b.example": []}))
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["peers[0].endpoint", "peers[2].endpoint"]


# --- clients


def test_endpoint_of_a_client_is_its_servers(parse: Parse) -> None:
    text = json.loads(FIRST_CLIENT)
    text["peers"].insert(0, {"name": "peer2", "allowedIPs": ["100.64.0.0/10"]})
    table = resolver({"server.example.com": ["192.0.2.1"]})
    peers = desired_state(parse(text), table).peers.values()
    found = {peer.name: peer.endpoint for peer in peers}
    assert found == {"peer2": None, "server": (socket.inet_aton("192.0.2.1"), 51820, 0)}


def test_a_clients_server_without_allowed_ips(parse: Parse) -> None:
    text = json.loads(FIRST_CLIENT)
    text["endpoint"] = "192.0.2.1:5"
    expected = (
        (socket.inet_aton("10.0.0.0"), 24),
        (socket.inet_aton("192.168.0.0"), 16),
    )
    for more in ({"peers": [{"name": "server"}]}, {"peers": []}, {}):
        del text["peers"]
        text.update(more)
        peer = one_peer(desired_state(parse(text)))
        text.setdefault("peers", [])
        assert (peer.name, peer.allowed_ips) == ("server", expected)
    nothing = {"name": "server", "allowedIPs": []}
    assert (
        one_peer(desired_state(parse({**text, "peers": [nothing]}))).allowed_ips == ()
    )


# --- passphrases


def test_client_and_server_of_the_first_example_fit(parse: Parse) -> None:
    """With a passphrase and names only, each end knows the other's key."""
    table = resolver({"server.example.com": ["192.0.2.1"]})
    client = desired_state(parse(FIRST_CLIENT), table)
    server = desired_state(
        parse(
            {
                "mode": "server",
                "psk": PSK,
                "peers": [{"name": "client", "allowedIPs": ["10.0.0.2/32"]}],
            }
        )
    )
    assert client.private_key is not None
    assert server.private_key is not None
    at_client, at_server = one_peer(client), one_peer(server)
    own_key = identity.public_key(client.private_key.reveal())
    assert at_server.public_key == own_key
    own_key = identity.public_key(server.private_key.reveal())
    assert at_client.public_key == own_key
    assert at_client.preshared_key == at_server.preshared_key
    assert at_client.preshared_key is not None


def test_named_clients_have_their_own_keys(parse: Parse) -> None:
    peers = [{"name": f"client{n}"} for n in range(3)]
    state = desired_state(parse({"mode": "server", "psk": PSK, "peers": peers}))
    mode = identity.psk_mode(PSK)
    assert list(state.peers) == [mode.public_key(f"client{n}") for n in range(3)]
    assert len({peer.preshared_key for peer in state.peers.values()}) == 3


def test_a_peer_with_a_key_is_plain_wireguard(parse: Parse) -> None:
    mode = identity.psk_mode(PSK)
    peers = [
        {"name": "phone", "publicKey": KEYS[0]},
        {"name": "own", "publicKey": KEYS[1], "psk": PSK},
        {"name": "mixed", "presharedKey": KEYS[2]},
    ]
    state = desired_state(parse({"mode": "server", "psk": PSK, "peers": peers}))
    phone, own, mixed = state.peers.values()
    assert phone.preshared_key is None
    assert own.preshared_key == Secret(mode.preshared_key("server", "own"))
    assert mixed.public_key == mode.public_key("mixed")
    assert mixed.preshared_key == Secret(bytes([3]) * 32)


def test_private_key_beside_a_passphrase(parse: Parse) -> None:
    state = desired_state(parse(server({"name": "client"}, psk=PSK)))
    assert state.private_key == Secret(bytes(range(8, 39)) + bytes([39 | 0x40]))
    assert one_peer(state).public_key == identity.psk_mode(PSK).public_key("client")


@pytest.mark.parametrize("name", ["client", "server"])
def test_a_written_key_that_is_derived_too(parse: Parse, name: str) -> None:
    key = identity.encode_key(identity.psk_mode(PSK).public_key(name))
    peers = [{"name": "client"}, {"name": "other", "publicKey": key}]
    config = parse({"mode": "server", "psk": PSK, "peers": peers})
    with pytest.raises(ConfigError) as caught:
        desired_state(config)
    assert key not in str(caught.value)
