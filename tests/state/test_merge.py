"""Merging a partial set: who is who, what stays, what is refused."""

from __future__ import annotations

import random
from base64 import b64encode
from dataclasses import replace

import pytest

from tunnel.errors import ConfigError
from tunnel.state.merge import (
    GIVEN_ALL,
    PartialPeer,
    merge,
    presence,
    sorted_peers,
)
from tunnel.state.model import DeviceState, PeerState, Secret
from tunnel.state.plan import ActionKind, diff

from .random_states import KEYS, PREFIXES, random_state

A, B, C, D = KEYS[:4]
P, Q, R = PREFIXES[:3]
PSK = Secret(bytes([7]) * 32)


def state(*peers: PeerState) -> DeviceState:
    return DeviceState(fwmark=7, peers={p.public_key: p for p in peers})


def only(peer: PeerState, *fields: str) -> PartialPeer:
    return PartialPeer(peer, frozenset(fields))


def refused(base: DeviceState, *partial: PartialPeer, **options: object) -> str:
    with pytest.raises(ConfigError) as caught:
        merge(base, partial, **options)  # type: ignore[arg-type]
    return str(caught.value)


ALICE = PeerState(A, "alice", PSK, (b"\1\2\3\4", 5, 0), (P,), 25)
BOB = PeerState(B, "bob", allowed_ips=(Q,))


def test_new_added_known_updated_others_preserved() -> None:
    base = state(BOB, ALICE)
    carol = PeerState(C, "carol", allowed_ips=(R,))
    merged = merge(
        base, [only(replace(BOB, keepalive=9), "keepalive"), PartialPeer(carol)]
    )
    assert merged == replace(
        base, peers={A: ALICE, B: replace(BOB, keepalive=9), C: carol}
    )
    assert list(merged.peers) == [A, B, C]


def test_what_is_not_given_is_kept() -> None:
    merged = merge(state(ALICE), [only(PeerState(A, allowed_ips=(Q,)), "allowed_ips")])
    assert merged.peers[A] == replace(ALICE, allowed_ips=(Q,))
    by_name = merge(
        state(ALICE), [only(PeerState(b"", "alice", keepalive=1), "keepalive")]
    )
    assert by_name.peers[A] == replace(ALICE, keepalive=1)


def test_the_same_key_under_another_name_is_the_same_peer() -> None:
    merged = merge(state(ALICE), [only(PeerState(A, "alicia"), "name")])
    assert merged.peers == {A: replace(ALICE, name="alicia")}
    (action,) = diff(state(ALICE), merged, generation=0).actions
    assert action.kind is ActionKind.UPDATE


def test_the_same_name_with_a_new_key_is_a_new_key_of_that_peer() -> None:
    merged = merge(state(ALICE), [only(PeerState(C, "alice"), "name")])
    assert merged.peers == {C: replace(ALICE, public_key=C)}


def test_a_name_that_was_given_up_belongs_to_a_new_peer() -> None:
    renamed = only(PeerState(A, "old"), "name")
    fresh = PartialPeer(PeerState(C, "alice", allowed_ips=(R,)))
    for partial in ([renamed, fresh], [fresh, renamed]):
        merged = merge(state(ALICE), partial)
        assert merged.peers == {A: replace(ALICE, name="old"), C: fresh.state}


def test_two_peers_may_exchange_their_names() -> None:
    partial = [
        only(PeerState(A, "bob"), "name"),
        only(PeerState(B, "alice"), "name"),
    ]
    merged = merge(state(ALICE, BOB), partial)
    assert {k: p.name for k, p in merged.peers.items()} == {
        A: "bob",
        B: "alice",
    }


def test_conflicts_name_both() -> None:
    both = state(ALICE, BOB)
    said = refused(both, only(PeerState(A, "bob"), "name"))
    assert "bob (AQEB" in said
    assert "bob (AgIC" in said
    said = refused(
        both,
        only(PeerState(C, "carol", allowed_ips=(Q,)), "name", "allowed_ips"),
    )
    assert "carol" in said
    assert "bob" in said
    assert "10.0.1.0/24" in said
    twice = PartialPeer(PeerState(C, "one")), PartialPeer(PeerState(C, "two"))
    said = refused(both, *twice)
    assert "one (" in said
    assert "two (" in said
    assert "the same name" in refused(
        both, PartialPeer(PeerState(C, "x")), PartialPeer(PeerState(D, "x"))
    )
    assert "no public key" in refused(both, only(PeerState(b"", "nobody")))
    assert "itself" in refused(both, PartialPeer(PeerState(D)), own_key=D)
    for text in (said, repr(twice)):
        assert "\\x07" * 4 not in text


def test_prune_keeps_the_inventory_only() -> None:
    base = state(ALICE, BOB, PeerState(C))
    key = b64encode(C).decode()
    assert list(merge(base, [], prune=True, inventory=["bob", key]).peers) == [
        B,
        C,
    ]
    assert list(merge(base, [only(PeerState(A))], prune=True).peers) == [A]
    assert list(merge(base, [only(PeerState(D, "bob"))], prune=True).peers) == [D]
    said = refused(base, only(PeerState(A)), prune=True, inventory=["bob"])
    assert "alice" in said
    assert "not in the inventory" in said


def test_presence() -> None:
    found = presence([ALICE, BOB], ["bob", "carol"])
    assert found.missing == ("carol",)
    assert found.extra == (ALICE,)


def test_a_mapping_is_whole_peers() -> None:
    assert merge(state(ALICE), {A: PeerState(A)}).peers == {A: PeerState(A, "alice")}


def slow_merge(base: DeviceState, partial: list[PartialPeer]) -> dict[bytes, PeerState]:
    """The rules, one after the other, for partial sets without conflicts."""
    result = list(base.peers.values())
    keys = {part.state.public_key for part in partial}
    for part in partial:
        new = part.state
        same = [p for p in base.peers.values() if p.public_key == new.public_key]
        same = same or [
            p
            for p in base.peers.values()
            if new.name and p.name == new.name and p.public_key not in keys
        ]
        if same:
            values = {f: getattr(new, f) for f in part.given if f != "name" or new.name}
            result.remove(same[0])
            result.append(replace(same[0], public_key=new.public_key, **values))
        else:
            result.append(new)
    return sorted_peers(result)


def named(base: DeviceState) -> DeviceState:
    """Every peer with a name of its own."""
    peers = {k: replace(p, name=f"n{i}") for i, (k, p) in enumerate(base.peers.items())}
    return replace(base, peers=peers)


def test_random_merges_agree_with_the_rules_and_are_idempotent(
    seed: int,
) -> None:
    rng = random.Random(seed)
    merged_ones = refused_ones = 0
    for _ in range(600):
        base = named(random_state(rng))
        source = random_state(rng)
        partial = [
            PartialPeer(
                replace(peer, name=rng.choice(["", f"n{rng.randrange(9)}"])),
                frozenset(rng.sample(sorted(GIVEN_ALL), rng.randrange(7))),
            )
            for peer in list(source.peers.values())[: rng.randrange(4)]
        ]
        partial = [PartialPeer(p.state, p.given | {"name"}) for p in partial]
        try:
            merged = merge(base, partial)
        except ConfigError:
            refused_ones += 1
            continue
        merged_ones += 1
        assert merged.peers == slow_merge(base, partial)
        assert list(merged.peers) == list(sorted_peers(merged.peers.values()))
        assert merge(merged, partial) == merged
        assert diff(merged, merge(merged, partial), generation=0).empty
        shuffled = rng.sample(partial, len(partial))
        assert merge(base, shuffled) == merged
    assert merged_ones > 50
    assert refused_ones > 50
