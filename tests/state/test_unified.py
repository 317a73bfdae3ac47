"""The unified diff against applying it: what it says is what differs, and no secret."""

from __future__ import annotations

import random
import re
from base64 import b64encode
from dataclasses import replace

import pytest

from tunnel.state.model import DeviceState, PeerState, Secret
from tunnel.state.unified import unified_diff

from .random_states import random_state


def patched(diff: str, before: list[str]) -> list[str]:
    """What `patch` makes of the lines; checks every context and removed line."""
    result, at = [], 0
    lines = diff.splitlines()[2:]
    for line in lines:
        hunk = re.fullmatch(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@", line)
        if hunk:
            start = int(hunk[1]) - (hunk[2] != "0")
            result += before[at:start]
            at = start
            assert int(hunk[3]) - (hunk[4] != "0") == len(result)
        elif line[0] == "+":
            result.append(line[1:])
        else:
            assert before[at] == line[1:]
            at += 1
            if line[0] == " ":
                result.append(line[1:])
    return result + before[at:]


@pytest.mark.parametrize("size", [0, 1, 5, 40])
def test_the_diff_leads_from_one_to_the_other(seed: int, size: int) -> None:
    rng = random.Random(seed)
    for _ in range(30):
        before = replace(random_state(rng), peers=_peers(rng, size))
        after = replace(before, peers=_changed(rng, before))
        diff = unified_diff(before, after, ("a", "b"))
        if dict(before.peers) == dict(after.peers):
            assert diff == ""
            continue
        old, new = _lines(before, after), _lines(after, before, new=True)
        assert patched(diff, old) == new


def _peers(rng: random.Random, size: int) -> dict[bytes, PeerState]:
    keys = [rng.randbytes(32) for _ in range(size)]
    return {key: PeerState(key, f"p{n}") for n, key in enumerate(keys)}


def _changed(rng: random.Random, state: DeviceState) -> dict[bytes, PeerState]:
    peers = {
        key: replace(peer, keepalive=5) if rng.random() < 0.2 else peer
        for key, peer in state.peers.items()
        if rng.random() < 0.9
    }
    if rng.random() < 0.5:
        key = rng.randbytes(32)
        peers[key] = PeerState(key, "new", allowed_ips=((bytes(4), 0),))
    return peers


def _lines(state: DeviceState, other: DeviceState, *, new: bool = False) -> list[str]:
    from tunnel.state import unified

    lines = unified._device_lines(state, other, new)
    for key, peer in state.peers.items():
        lines += unified._peer_lines(peer, other.peers.get(key), new)
    return lines


def test_a_changed_secret_is_seen_and_not_shown() -> None:
    keys = [bytes([n]) * 32 for n in range(4)]
    peer = PeerState(b"k" * 32, preshared_key=Secret(keys[0]))
    before = DeviceState(private_key=Secret(keys[1]), peers={peer.public_key: peer})
    other = replace(peer, preshared_key=Secret(keys[2]))
    after = DeviceState(private_key=Secret(keys[3]), peers={peer.public_key: other})
    diff = unified_diff(before, after, ("a", "b"))
    assert diff.count("(set, another one)") == 2
    assert not any(b64encode(key).decode() in diff for key in keys)
