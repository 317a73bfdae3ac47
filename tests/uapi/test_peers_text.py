"""The peers of a `get`, made in C, are those of a few obvious lines of Python."""

from __future__ import annotations

import random
from dataclasses import replace
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from tunnel._fastpath.uapi import peers_text
from tunnel.state.model import Endpoint, PeerState, Prefix, Secret, mask
from tunnel.status import Live

KEY = bytes(range(32))


def slow_text(peer: PeerState, live: Live) -> str:
    secret = peer.preshared_key
    lines = [
        f"public_key={peer.public_key.hex()}",
        f"preshared_key={(secret.reveal() if secret else bytes(32)).hex()}",
        "protocol_version=1",
    ]
    if live.endpoint is not None:
        packed, port, scope = live.endpoint
        host = str(ip_address(packed))
        if len(packed) == 16:
            host = f"[{host}%{scope}]" if scope else f"[{host}]"
        lines.append(f"endpoint={host}:{port}")
    lines += [
        f"last_handshake_time_sec={live.last_handshake // 10**9}",
        f"last_handshake_time_nsec={live.last_handshake % 10**9}",
        f"tx_bytes={live.tx_bytes}",
        f"rx_bytes={live.rx_bytes}",
        f"persistent_keepalive_interval={peer.keepalive}",
    ]
    for packed, cidr in peer.allowed_ips:
        lines.append(f"allowed_ip={ip_address(packed)}/{cidr}")
    return "".join(f"{line}\n" for line in lines)


def fast_text(peers: list[PeerState], lives: dict[bytes, Live]) -> str:
    return peers_text(
        peers,
        {
            key: SimpleNamespace(path=live, last_handshake_wall=live.last_handshake)
            for key, live in lives.items()
        },
    ).decode()


def random_prefix(rng: random.Random) -> Prefix:
    size = rng.choice([4, 16])
    return mask(rng.randbytes(size), rng.choice([0, 1, size * 7, size * 8]))


def random_endpoint(rng: random.Random) -> Endpoint | None:
    size = rng.choice([0, 4, 16])
    if not size:
        return None
    # runs of zeros, which are written in short
    address = bytes(rng.choice([0, 0, 0, 9, 255]) for _ in range(size))
    if address.startswith(bytes(10)):  # glibc and ipaddress write these differently
        address = b"\x20" + address[1:]
    scope = rng.choice([0, 1, 2**32 - 1]) if size == 16 else 0
    return address, rng.choice([0, 1, 51820, 65535]), scope


def random_peer(rng: random.Random) -> PeerState:
    return PeerState(
        rng.randbytes(32),
        preshared_key=rng.choice([None, Secret(rng.randbytes(32))]),
        allowed_ips=tuple(random_prefix(rng) for _ in range(rng.choice([0, 1, 3, 70]))),
        keepalive=rng.choice([0, 1, 25, 65535]),
        enabled=rng.random() < 0.9,
    )


def test_the_compiled_text_is_the_obvious_one(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        peers = [random_peer(rng) for _ in range(rng.randrange(20))]
        lives = {
            peer.public_key: Live(
                random_endpoint(rng),
                rng.choice([0, 1, 10**9 - 1, 1_600_000_000_000_000_005, 2**64 - 1]),
                rng.choice([0, 9, 10, 2**64 - 1]),
                rng.getrandbits(rng.randrange(1, 65)),
            )
            for peer in peers
            if rng.random() < 0.8
        }
        slow = [
            slow_text(peer, lives.get(peer.public_key, Live()))
            for peer in peers
            if peer.enabled
        ]
        assert fast_text(peers, lives) == "".join(slow)


def test_the_longest_lines_fit() -> None:
    widest = bytes.fromhex("11112222333344445555666677778888")
    peer = PeerState(
        b"\xff" * 32,
        preshared_key=Secret(b"\xff" * 32),
        allowed_ips=((widest, 128),) * 300,
        keepalive=65535,
    )
    live = Live((widest, 65535, 2**32 - 1), 2**64 - 1, 2**64 - 1, 2**64 - 1)
    for one in (peer, replace(peer, allowed_ips=())):
        text = fast_text([one, one], {peer.public_key: live})
        assert text == slow_text(one, live) * 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"public_key": bytes(31)},
        {"allowed_ips": ((bytes(5), 8),)},
        {"allowed_ips": ((bytes(4), 256),)},
        {"keepalive": 65536},
        {"keepalive": -1},
    ],
)
def test_what_no_state_can_have_is_an_error(wrong: dict[str, object]) -> None:
    peer = replace(PeerState(KEY), **wrong)  # type: ignore[arg-type]
    with pytest.raises((ValueError, OverflowError)) as error:
        fast_text([peer], {})
    assert KEY.hex() not in str(error.value)


def test_any_mapping_will_do() -> None:
    from types import MappingProxyType

    assert peers_text([PeerState(KEY)], MappingProxyType({})).startswith(b"public_key=")
