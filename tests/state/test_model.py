"""The canonical forms: keys, prefixes, memory."""

from __future__ import annotations

import sys
import tracemalloc

import pytest

from tunnel.state.model import (
    DeviceState,
    PeerState,
    Secret,
    canonical_prefixes,
    clamp,
    mask,
    prefix_owners,
    secret_or_none,
    without_peer,
)


def test_secret_is_never_shown() -> None:
    secret = Secret(b"\xaa" * 32)
    peer = PeerState(bytes(32), preshared_key=secret)
    for text in (repr(secret), str(secret), f"{secret}", repr(peer)):
        assert "aa" * 4 not in text
        assert "\\xaa" not in text
    assert secret == Secret(b"\xaa" * 32) != Secret(b"\xab" * 32)
    with pytest.raises(ValueError):
        Secret(b"short")


def test_r68_private_keys_are_clamped_and_zero_is_unset() -> None:
    assert clamp(b"\xff" * 32) == b"\xf8" + b"\xff" * 30 + b"\x7f"
    assert secret_or_none(bytes(32)) is None
    assert secret_or_none(None) is None


def test_r71_host_bits_are_masked() -> None:
    assert mask(bytes([10, 1, 2, 3]), 8) == (bytes([10, 0, 0, 0]), 8)
    assert mask(bytes([10, 1, 2, 3]), 0) == (bytes(4), 0)
    assert mask(b"\xff" * 16, 129 - 2) == (b"\xff" * 15 + b"\xfe", 127)
    for address, cidr in (
        (bytes(4), 33),
        (bytes(16), 129),
        (bytes(5), 1),
        (bytes(4), -1),
    ):
        with pytest.raises(ValueError):
            mask(address, cidr)


def test_prefixes_have_one_order_and_no_duplicates() -> None:
    a, b, c = (bytes([10, 0, 0, 0]), 8), (bytes([10, 0, 0, 0]), 24), (bytes(16), 0)
    assert canonical_prefixes([c, b, a, b]) == (a, b, c)


def test_owners_leave_out_disabled_peers() -> None:
    prefix = (bytes(4), 0)
    on = PeerState(b"a" * 32, allowed_ips=(prefix,))
    off = PeerState(b"b" * 32, allowed_ips=(prefix,), enabled=False)
    assert prefix_owners({p.public_key: p for p in (on, off)}) == {
        prefix: on.public_key
    }
    state = DeviceState(peers={on.public_key: on})
    assert without_peer(state, on.public_key).peers == {}
    assert without_peer(state, None) is state


def test_ten_thousand_peers_are_cheap() -> None:
    tracemalloc.start()
    try:
        peers = {}
        for n in range(2000):
            key = n.to_bytes(32, "big")
            prefix = (n.to_bytes(4, "big"), 32)
            peers[key] = PeerState(key, allowed_ips=(prefix,))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used / 2000 < 600, f"{used / 2000:.0f} bytes per peer"
    assert sys.getsizeof(PeerState(bytes(32))) < 128
