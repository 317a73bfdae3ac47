"""Sections that say nothing new are passed over; the result is that of taking each."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from tunnel.api import uapi_edits
from tunnel.api.uapi_edits import Edited, edit
from tunnel.api.uapi_parse import UNSET, PeerEdit, SetRequest
from tunnel.state.model import (
    DeviceState,
    Endpoint,
    PeerState,
    Prefix,
    Secret,
    canonical_prefixes,
    prefix_owners,
)
from tunnel.state.plan import diff

KEYS = [bytes([n]) * 32 for n in range(1, 6)]
PREFIXES = [(bytes([10, n, 0, 0]), 16) for n in range(8)]
ENDPOINTS: list[Endpoint] = [(bytes([192, 0, 2, n]), 9, 0) for n in range(2)]
SECRETS = [None, Secret(bytes([7]) * 32)]


class View:
    """A device that has exactly this state; some of its peers have roamed."""

    def __init__(self, state: DeviceState) -> None:
        self._owners = prefix_owners(state.peers)

    def owner(self, prefix: Prefix) -> bytes | None:
        return self._owners.get(prefix)

    def public_key_of(self, private_key: Secret | None) -> bytes | None:
        return None

    def live_endpoint(self, public_key: bytes) -> Endpoint | None:
        return ENDPOINTS[public_key[0] % 2]


def random_state(rng: random.Random) -> DeviceState:
    owned: dict[bytes, list[Prefix]] = {key: [] for key in rng.sample(KEYS, 4)}
    for prefix in PREFIXES:
        owned[rng.choice(list(owned))].append(prefix)
    return DeviceState(
        peers={
            key: PeerState(
                key,
                preshared_key=rng.choice(SECRETS),
                endpoint=rng.choice([None, *ENDPOINTS]),
                allowed_ips=canonical_prefixes(prefixes),
                keepalive=rng.choice([0, 25]),
                enabled=rng.random() < 0.9,
            )
            for key, prefixes in owned.items()
        }
    )


def section(rng: random.Random, state: DeviceState) -> PeerEdit:
    """Usually a peer as it is, perhaps with something changed."""
    key = rng.choice(KEYS)
    peer = state.peers.get(key, PeerState(key))
    made = PeerEdit(key, replace_allowed_ips=True)
    made.allowed_ips = [None, *((True, prefix) for prefix in peer.allowed_ips)]
    if rng.random() < 0.2:
        rng.shuffle(made.allowed_ips)
    if peer.endpoint is not None and rng.random() < 0.7:
        made.endpoint = peer.endpoint
    made.keepalive = rng.choice([UNSET, peer.keepalive])
    made.preshared_key = rng.choice([UNSET, peer.preshared_key])
    match rng.randrange(12):
        case 0:
            made.keepalive = 7
        case 1:
            made.endpoint = rng.choice(ENDPOINTS)
        case 2:
            made.preshared_key = rng.choice(SECRETS)
        case 3 | 4:
            made.allowed_ips.append((True, rng.choice(PREFIXES)))
        case 5:
            made.allowed_ips.append((False, rng.choice(PREFIXES)))
        case 6:
            made.remove = True
        case 7:
            made.replace_allowed_ips = False
            made.allowed_ips = made.allowed_ips[1:]
        case 8:
            made.update_only = True
    return made


def outcome(state: DeviceState, edited: Edited) -> object:
    plan = diff(edited.observed, edited.desired, generation=0, only=edited.only)
    return edited.desired.peers, {action.key: action for action in plan.actions}


def test_passing_over_is_the_same_as_taking(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    passed = 0
    real = uapi_edits._Fold._says_nothing_new

    def counted(fold: uapi_edits._Fold, made: PeerEdit) -> bool:
        nonlocal passed
        found = real(fold, made)
        passed += found
        return found

    for _ in range(1500):
        state = random_state(rng)
        sections = [section(rng, state) for _ in range(rng.randrange(1, 7))]
        request = SetRequest(replace_peers=rng.random() < 0.1, peers=sections)
        monkeypatch.setattr(uapi_edits._Fold, "_says_nothing_new", counted)
        quick = edit(state, request, View(state))
        monkeypatch.setattr(
            uapi_edits._Fold, "_says_nothing_new", lambda fold, made: False
        )
        slow = edit(state, request, View(state))
        assert outcome(state, quick) == outcome(state, slow)
    assert passed > 500


def test_no_field_of_a_peer_is_left_out_when_states_are_compared() -> None:
    peer = PeerState(KEYS[0])
    others = {
        "public_key": KEYS[1],
        "name": "a",
        "preshared_key": SECRETS[1],
        "endpoint": ENDPOINTS[0],
        "allowed_ips": (PREFIXES[0],),
        "keepalive": 1,
        "enabled": False,
    }
    assert others.keys() == set(PeerState.__dataclass_fields__)
    for name, value in others.items():
        other = replace(peer, **{name: value})  # type: ignore[arg-type]
        assert other != peer
        assert other == replace(other)
        assert hash(other) == hash(replace(other))
    assert peer != (KEYS[0],)
