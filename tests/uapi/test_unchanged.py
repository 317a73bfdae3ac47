"""Sections that are passed over in C: the same answers, states and plans as without."""

from __future__ import annotations

import random

import pytest

from tunnel._fastpath.uapi import unchanged
from tunnel.api import uapi_edits
from tunnel.api.uapi import UapiSession
from tunnel.api.uapi_parse import Parser
from tunnel.api.uapi_requests import PeerEdit, SetRequest, Unchanged
from tunnel.state.model import DeviceState, PeerState
from tunnel.state.plan import Action
from tunnel.status import Live

from .fake import FakeDevice
from .sections import (
    ENDPOINTS,
    KEYS,
    Slow,
    damaged,
    pieces,
    random_state,
    request,
    section,
)


def actions(device: FakeDevice) -> list[tuple[Action, ...]]:
    return [plan.actions for plan in device.plans]


def test_passing_over_changes_nothing_but_the_time(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    passed = taken = parsed = 0
    real = uapi_edits._Fold.still

    def counted(fold: uapi_edits._Fold, run: Unchanged) -> bool:
        nonlocal passed, taken
        still = real(fold, run)
        passed, taken = passed + still, taken + (not still)
        return still

    monkeypatch.setattr(uapi_edits._Fold, "still", counted)
    for _ in range(300):
        state = random_state(rng)
        quick, slow = FakeDevice(state), FakeDevice(state)
        lives = {key: Live(rng.choice([None, *ENDPOINTS])) for key in KEYS}
        quick.lives = slow.lives = lives
        ends = UapiSession(quick), Slow(slow)
        others = UapiSession(quick), Slow(slow)
        for _ in range(3):
            stream = request(rng, quick.state)
            between = rng.randint(0, len(stream)) if rng.random() < 0.2 else -1
            answers, at = (b"", b""), 0
            for piece in pieces(rng, stream):
                at += len(piece)
                answers = tuple(
                    a + e.feed(piece) for a, e in zip(answers, ends, strict=True)
                )
                if 0 <= between < at:  # another client has its way meanwhile
                    other, between = request(rng, quick.state), -1
                    one, two = (end.feed(other) for end in others)
                    assert one == two
            assert answers[0] == answers[1]
            parsed += answers[0] == b"errno=0\n\n"
            assert [end.closing for end in ends] == [ends[0].closing] * 2
            assert quick.state == slow.state
            assert [*quick.state.peers] == [*slow.state.peers]
            assert actions(quick) == actions(slow)
            if ends[0].closing or others[0].closing:
                break
    assert passed > 500
    assert taken > 50
    assert parsed > 300


def says_nothing_new(edit: PeerEdit, state: DeviceState) -> bool:
    device = FakeDevice(state)
    return uapi_edits._Fold(state.peers, device)._says_nothing_new(edit)


def parsed_section(text: bytes) -> PeerEdit | None:
    """As the Python parser understands one section; None: not at all, or as more."""
    found = [*Parser().feed(b"set=1\n%b\n" % text)]
    if len(found) != 1 or not isinstance(found[0], SetRequest):
        return None
    return found[0].peers[0] if len(found[0].peers) == 1 else None


def test_a_section_is_passed_over_only_if_it_says_nothing_new(seed: int) -> None:
    rng = random.Random(seed)
    right = wrong = 0
    for _ in range(3000):
        state = random_state(rng)
        peers = dict(state.peers)
        lines = section(rng, state)
        plain = "".join(f"{line}\n" for line in lines).encode()
        text = damaged(rng, plain) if rng.random() < 0.4 else plain
        states: list[PeerState] = []
        end, cut = unchanged(text + b"\n", 0, peers, states)
        if not states:
            wrong += 1
            assert end == 0
            assert text != plain or not usual(lines, state)
            continue
        assert not cut
        right += 1
        edit = parsed_section(text[:end])
        assert edit is not None
        assert states == [peers[edit.public_key]]
        assert says_nothing_new(edit, state)
    assert right > 500
    assert wrong > 500


def usual(lines: list[str], state: DeviceState) -> bool:
    """Whether it is one that `wg` would write for a peer as it is."""
    edit = parsed_section("".join(f"{line}\n" for line in lines).encode())
    keys = [line.partition("=")[0] for line in lines]
    single = [key for key in keys if key != "allowed_ip"]
    return (
        edit is not None
        and len(single) == len(set(single))
        and not any("::ffff:" in line for line in lines)
        and says_nothing_new(edit, state)
    )
