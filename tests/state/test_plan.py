"""The plan: apply(plan(a, b)) on a is b, and it says what it does."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest

from tunnel.errors import NeedsRestart, PlanStale
from tunnel.state.apply import apply, revert
from tunnel.state.model import DeviceState, InterfaceState, PeerState, Secret
from tunnel.state.plan import ActionKind, Move, SessionEffect, diff
from tunnel.state.targets import RecordingTarget

from .random_states import KEYS, PREFIXES, random_state

A, B, C = KEYS[:3]
P, Q = PREFIXES[:2]


def state(*peers: PeerState, **fields: object) -> DeviceState:
    return DeviceState(peers={p.public_key: p for p in peers}, **fields)  # type: ignore[arg-type]


def test_apply_of_a_plan_reaches_the_desired_state(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(500):
        before, after = random_state(rng), random_state(rng)
        target = RecordingTarget(before)
        plan = diff(before, after, generation=0)
        assert apply(plan, target) == (0 if plan.empty else 1)
        assert target.observe() == after
        assert diff(target.observe(), after, generation=1).empty
        if not plan.empty:
            revert(plan, target)
            assert target.observe() == before


def test_untouched_peers_are_in_no_action(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        before, after = random_state(rng), random_state(rng)
        plan = diff(before, after, generation=0)
        named = {action.key for action in plan.actions if action.key}
        everybody = before.peers.keys() | after.peers.keys()
        differ = {k for k in everybody if before.peers.get(k) != after.peers.get(k)}
        assert named == differ


def test_only_gives_the_same_plan_when_it_names_what_differs(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(200):
        before, after = random_state(rng), random_state(rng)
        everybody = before.peers.keys() | after.peers.keys()
        whole = diff(before, after, generation=0)
        part = diff(before, after, generation=0, only=everybody)
        assert part.hash == whole.hash


def test_objects_that_both_states_share_are_passed_over(seed: int) -> None:
    """The plan is the one between states that share nothing, action by action."""
    rng = random.Random(seed)
    for _ in range(300):
        before, other = random_state(rng), random_state(rng)
        peers = dict(before.peers)
        for key in list(peers):
            what = rng.randrange(6)
            if what == 0:
                del peers[key]
            elif what == 1:
                peers[key] = replace(peers[key])  # equal, another object
            elif what == 2:
                peers[key] = replace(peers[key], keepalive=77)
        for key in other.peers.keys() - peers.keys():
            peers[key] = other.peers[key]
        after = replace(before, peers=peers)
        apart = replace(after, peers={k: replace(p) for k, p in peers.items()})
        shared = diff(before, after, generation=0).actions
        expected = [
            (a.kind, a.key, a.before, a.after)
            for a in diff(before, apart, generation=0).actions
        ]
        assert [(a.kind, a.key, a.before, a.after) for a in shared] == expected
        differ = {k for k in before.peers if peers.get(k) != before.peers[k]}
        differ |= peers.keys() - before.peers.keys()
        assert {a.key for a in shared} == differ


def test_moves_are_what_comparing_owners_by_hand_finds(seed: int) -> None:
    rng = random.Random(seed)

    def owners(s: DeviceState) -> dict[object, bytes]:
        return {
            p: k
            for k, peer in s.peers.items()
            if peer.enabled
            for p in peer.allowed_ips
        }

    for _ in range(300):
        before, after = random_state(rng), random_state(rng)
        old, new = owners(before), owners(after)
        expected = {
            (p, old[p], new[p]) for p in old.keys() & new.keys() if old[p] != new[p]
        }
        assert set(diff(before, after, generation=0).moves) == expected


def test_what_happens_to_sessions() -> None:
    peer = PeerState(A, allowed_ips=(P,))

    def effect(
        after: PeerState | None, before: PeerState | None = peer
    ) -> SessionEffect:
        one = state(*([before] if before else []))
        two = state(*([after] if after else []))
        (action,) = diff(one, two, generation=0).actions
        return action.session

    assert effect(peer, None) is SessionEffect.NEW
    assert effect(None) is SessionEffect.ENDS
    assert effect(replace(peer, enabled=False)) is SessionEffect.ENDS
    assert effect(replace(peer, allowed_ips=(Q,))) is SessionEffect.KEPT
    assert effect(replace(peer, endpoint=(b"\1\2\3\4", 5, 0))) is SessionEffect.KEPT
    assert effect(replace(peer, keepalive=9)) is SessionEffect.KEPT
    assert effect(replace(peer, name="x")) is SessionEffect.KEPT
    psk = replace(peer, preshared_key=Secret(bytes(31) + b"\1"))
    assert effect(psk) is SessionEffect.NEXT_HANDSHAKE
    (key,) = diff(state(), state(private_key=Secret(b"k" * 32)), generation=0).actions
    assert key.session is SessionEffect.NEW
    (port,) = diff(state(), state(listen_port=9), generation=0).actions
    assert port.session is SessionEffect.KEPT


def test_removals_come_before_updates_and_additions() -> None:
    before = state(PeerState(A, allowed_ips=(P,)), PeerState(B))
    after = state(PeerState(C, allowed_ips=(P,)), PeerState(B, keepalive=1))
    plan = diff(before, after, generation=0)
    assert [a.kind for a in plan.actions] == [
        ActionKind.REMOVE,
        ActionKind.UPDATE,
        ActionKind.ADD,
    ]
    assert plan.moves == (Move(P, A, C),)


def test_hash_names_the_change_and_not_its_order() -> None:
    one = state(PeerState(A), PeerState(B, keepalive=1))
    two = state(PeerState(B, keepalive=1), PeerState(A))
    assert (
        diff(state(), one, generation=0).hash == diff(state(), two, generation=5).hash
    )
    other = state(PeerState(A), PeerState(B, keepalive=2))
    assert (
        diff(state(), one, generation=0).hash != diff(state(), other, generation=0).hash
    )
    keys = [state(private_key=Secret(bytes([n]) * 32)) for n in (1, 2)]
    hashes = {diff(state(), k, generation=0).hash for k in keys}
    assert len(hashes) == 2


def test_json_has_the_documented_shape_and_no_secret() -> None:
    psk = Secret(b"\x99" * 32)
    peer = PeerState(
        A, name="alice", preshared_key=psk, allowed_ips=(P,), keepalive=25,
        endpoint=(bytes.fromhex("fe80" + "00" * 13 + "01"), 51820, 3),
    )  # fmt: skip
    before = state(private_key=Secret(b"\x77" * 32))
    plan = diff(before, state(peer), generation=4)
    spelled = json.loads(json.dumps(plan.json()))
    add = next(d for d in spelled["diffs"] if d["action"] == "add")
    assert add["public_key"] == "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
    assert add["new_state"] == {
        "name": "alice",
        "allowed_ips": ["10.0.0.0/24"],
        "preshared_key": "(set)",
        "persistent_keepalive": 25,
        "endpoint": "[fe80::1%3]:51820",
        "enabled": True,
    }
    assert {c["field"] for c in add["changes"]} >= {"allowed_ips", "preshared_key"}
    assert add["session"] == "new handshake"
    assert spelled["generation"] == 4
    assert spelled["total_changes"] == 2
    for text in (json.dumps(spelled), plan.text(), repr(plan)):
        for secret in (b"\x99" * 32, b"\x77" * 32):
            assert secret.hex() not in text
            assert repr(secret) not in text


def test_text_is_a_table() -> None:
    before = state(PeerState(A, name="alice", allowed_ips=(P,)))
    after = state(
        PeerState(A, name="alice"), PeerState(B, name="bob", allowed_ips=(P,))
    )
    lines = diff(before, after, generation=0).text().splitlines()
    assert "alice (AQEBAQEBAQEB…)" in lines[1]
    assert "-10.0.0.0/24" in lines[1]
    assert lines[2].startswith("+ ")
    assert "new handshake" in lines[2]
    assert "10.0.0.0/24 moves from alice (AQEBAQEBAQEB…) to bob" in lines[3]
    assert diff(before, before, generation=0).text() == "nothing to change\n"


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "loopback"), ("name", "wg7"), ("workers", 4)]
)
def test_a_change_that_needs_a_restart_is_planned_and_refused(
    field: str, value: object
) -> None:
    after = state(interface=replace(InterfaceState(), **{field: value}))
    plan = diff(state(), after, generation=0)
    assert plan.restart
    assert "restart" in plan.text()
    target = RecordingTarget(state())
    with pytest.raises(NeedsRestart, match=r"^(tunnel\.(type|name)|workers) cannot"):
        apply(plan, target)
    assert target.observe() == state()
    assert target.log == []


def test_a_stale_plan_is_refused() -> None:
    target = RecordingTarget(state())
    plan = diff(state(), state(PeerState(A)), generation=0)
    apply(plan, target)
    with pytest.raises(PlanStale):
        apply(plan, target)
