"""Random `set` requests around a state, as `wg syncconf` and as others write them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address

from tunnel.api.uapi import UapiSession
from tunnel.api.uapi_parse import Parser
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    PeerState,
    Prefix,
    Secret,
    canonical_prefixes,
    mask,
)
from tunnel.state.render import endpoint_text, prefix_text

from .fake import FakeDevice

KEYS = [bytes([n]) * 32 for n in range(1, 9)]
PREFIXES: list[Prefix] = [
    *(mask(bytes([10, n, 0, 0]), 13 + n) for n in range(6)),
    *(mask(bytes([0xFD, n]) + bytes(14), 21 + n) for n in range(4)),
    (bytes([10, 0, 0, 1]), 32),
    (bytes([0xFD]) + bytes(14) + b"\1", 128),
]
ENDPOINTS: list[Endpoint] = [
    *((bytes([192, 0, 2, n]), port, 0) for n, port in ((1, 9), (2, 9), (1, 10))),
    (bytes.fromhex("20010db8") + bytes(11) + b"\1", 51820, 0),
    *((bytes.fromhex("fe80") + bytes(13) + b"\1", 1, scope) for scope in (0, 6, 7)),
    (bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]), 9, 0),  # no set makes this one
]
SECRETS = [None, Secret(bytes([7]) * 32)]


def random_state(rng: random.Random) -> DeviceState:
    owned: dict[bytes, list[Prefix]] = {key: [] for key in rng.sample(KEYS, 6)}
    for prefix in PREFIXES:
        owned[rng.choice(list(owned))].append(prefix)
    peers = {
        key: PeerState(
            key,
            name=rng.choice(["", key.hex()[:4]]),
            preshared_key=rng.choice(SECRETS),
            endpoint=rng.choice([None, *ENDPOINTS]),
            allowed_ips=canonical_prefixes(prefixes),
            keepalive=rng.choice([0, 25]),
            enabled=rng.random() < 0.9,
        )
        for key, prefixes in owned.items()
    }
    return DeviceState(peers=peers)


def spelled(rng: random.Random, prefix: Prefix) -> str:
    """Perhaps with bits after its length, or without the length of a single address."""
    text, (packed, cidr) = prefix_text(prefix), prefix
    if rng.random() < 0.7:
        return text
    if cidr == len(packed) * 8:
        return text.partition("/")[0]
    host = rng.randrange(1 << (len(packed) * 8 - cidr))
    return f"{ip_address(packed) + host}/{cidr}"


def plain_lines(rng: random.Random, peer: PeerState) -> list[str]:
    """A peer as `wg syncconf` describes it."""
    secret, ips = peer.preshared_key, [*peer.allowed_ips]
    rng.shuffle(ips)
    lines = [f"public_key={peer.public_key.hex()}"]
    if rng.random() < 0.6:
        lines.append(
            f"preshared_key={(secret.reveal() if secret else bytes(32)).hex()}"
        )
    if peer.endpoint is not None and rng.random() < 0.7:
        lines.append(f"endpoint={endpoint_text(peer.endpoint)}")
    if rng.random() < 0.6:
        lines.append(f"persistent_keepalive_interval={peer.keepalive}")
    return [
        *lines,
        "replace_allowed_ips=true",
        *(f"allowed_ip={spelled(rng, p)}" for p in ips),
    ]


def changed_lines(rng: random.Random, lines: list[str]) -> list[str]:
    """One line more, one less, one twice, or another order."""
    prefix = prefix_text(rng.choice(PREFIXES))
    extra = rng.choice(
        [
            "remove=true", "update_only=true", "protocol_version=1",
            "replace_allowed_ips=true", "persistent_keepalive_interval=0025",
            "persistent_keepalive_interval=7", f"preshared_key={'0' * 64}",
            f"preshared_key={'07' * 32}", f"allowed_ip={prefix}",
            f"allowed_ip=-{prefix}", "allowed_ip=10.9.9.9/16", "endpoint=192.0.2.1:9",
            "endpoint=[::ffff:192.0.2.1]:9",
            "endpoint=[fe80::1%7]:1", "endpoint=[2001:DB8::1]:51820",
        ]
    )  # fmt: skip
    at = rng.randrange(1, len(lines) + 1)
    match rng.randrange(4):
        case 0:
            return [*lines[:at], extra, *lines[at:]]
        case 1:
            return lines[:at] + lines[at + 1 :]
        case 2:
            return [*lines[:at], rng.choice(lines[1:]), *lines[at + 1 :]]
        case _:
            rest = lines[1:]
            rng.shuffle(rest)
            return [lines[0], *rest]


def section(rng: random.Random, state: DeviceState) -> list[str]:
    key = rng.choice(KEYS)
    lines = plain_lines(rng, state.peers.get(key, PeerState(key)))
    return changed_lines(rng, lines) if rng.random() < 0.25 else lines


def damaged(rng: random.Random, text: bytes) -> bytes:
    made = bytearray(text)
    at = rng.randrange(len(made))
    match rng.randrange(3):
        case 0:
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            del made[at : at + rng.randrange(1, 9)]
        case _:
            made[at:at] = rng.choice([b"\n", b" ", b"0", b"\0", b"=", b"public_key="])
    return bytes(made)


def request(rng: random.Random, state: DeviceState) -> bytes:
    lines = ["set=1"]
    if rng.random() < 0.1:
        lines.append("replace_peers=true")
    if rng.random() < 0.1:
        lines.append("fwmark=9")
    for _ in range(rng.randrange(9)):
        lines += section(rng, state)
    text = "".join(f"{line}\n" for line in [*lines, ""]).encode()
    return damaged(rng, text) if rng.random() < 0.15 else text


def pieces(rng: random.Random, data: bytes) -> Iterator[bytes]:
    size = rng.choice([1, 7, 100, 1000, 10_000])
    while data:
        cut = rng.randint(1, size)
        yield data[:cut]
        data = data[cut:]


class Slow(UapiSession):
    """The twin: its parser knows no peer, so every line is taken by itself."""

    def __init__(self, device: FakeDevice) -> None:
        super().__init__(device)
        self._parser = Parser()
