"""Handshakes of the code under test and of its twin, which takes one at a time."""

from __future__ import annotations

import random

import pytest

from tunnel.protocol import noise
from tunnel.protocol.primitives import HandshakeError, PrivateKey
from tunnel.protocol.together import run_together

from . import noise_twin as twin


class Ends:
    """The same two key pairs, in both implementations."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        private_a, private_b = rng.randbytes(32), rng.randbytes(32)
        self.a, self.b = noise.Identity(private_a), noise.Identity(private_b)
        self.twin_a, self.twin_b = twin.Identity(private_a), twin.Identity(private_b)
        self.remote_a = noise.Remote(self.a.public)
        self.remote_b = noise.Remote(self.b.public)
        self.twin_remote_a = twin.Remote(self.a.public)
        self.twin_remote_b = twin.Remote(self.b.public)
        self.psk = rng.choice([None, rng.randbytes(32)])
        self.stamp = rng.randbytes(12)
        self.keys = rng.randbytes(32), rng.randbytes(32)

    def find(self, key: bytes) -> noise.Remote | None:
        return self.remote_a if key == self.a.public else None

    def twin_find(self, key: bytes) -> twin.Remote | None:
        return self.twin_remote_a if key == self.a.public else None


def test_r5_the_twin_makes_the_same_messages_and_keys(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        ends = Ends(rng)
        first, initiated = noise.create_initiation(
            ends.a, ends.remote_b, ends.stamp, ends.keys[0]
        )
        twin_first, twin_initiated = twin.create_initiation(
            ends.twin_a, ends.twin_remote_b, ends.stamp, ends.keys[0]
        )
        assert first == twin_first
        consumed = noise.consume_initiation(ends.b, first, ends.find)
        twin_consumed = twin.consume_initiation(ends.twin_b, first, ends.twin_find)
        assert consumed.timestamp == twin_consumed.timestamp == ends.stamp
        second, keys = noise.create_response(consumed, ends.psk, ends.keys[1])
        twin_second, twin_keys = twin.create_response(
            twin_consumed, ends.psk, ends.keys[1]
        )
        assert second == twin_second
        assert (keys.send, keys.receive) == (twin_keys.send, twin_keys.receive)
        keys = noise.consume_response(ends.a, initiated, second, ends.psk)
        twin_keys = twin.consume_response(ends.twin_a, twin_initiated, second, ends.psk)
        assert (keys.send, keys.receive) == (twin_keys.send, twin_keys.receive)


def test_r5_many_at_once_give_what_each_gives(seed: int) -> None:
    """Some known for the first time, some not, some changed on the way."""
    rng = random.Random(seed)
    for count in (1, 2, 3, 7, 8, 9, 20, 33):
        ends = [Ends(rng) for _ in range(count)]
        steps, wanted = [], []
        for each in ends:
            first, _ = twin.create_initiation(
                each.twin_a, each.twin_remote_b, each.stamp, each.keys[0]
            )
            if rng.randrange(3) == 0:
                part = rng.randrange(3)
                changed = bytearray(first[part])
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
                first = first._replace(**{first._fields[part]: bytes(changed)})
            if rng.randrange(2):
                noise.run(responding(each, first))
            steps.append(responding(each, first))
            wanted.append(twin_response(each, first))
        assert [
            outcome.reason if isinstance(outcome, HandshakeError) else outcome
            for outcome in run_together(steps)
        ] == wanted


def responding(
    ends: Ends, first: noise.InitiationFields
) -> noise.Steps[noise.ResponseFields | str]:
    """What the responder sends, or why it does not."""
    ephemeral = PrivateKey(ends.keys[1])
    try:
        consumed = yield from noise.consume_initiation_steps(
            ends.b,
            first,
            ends.find,
            ephemeral,
        )
        fields, _ = yield from noise.create_response_steps(
            consumed, ends.psk, ephemeral
        )
    except HandshakeError as error:
        return error.reason
    return fields


def twin_response(
    ends: Ends, first: noise.InitiationFields
) -> noise.ResponseFields | str:
    try:
        consumed = twin.consume_initiation(
            ends.twin_b,
            first,
            ends.twin_find,
        )
    except HandshakeError as error:
        return error.reason
    return twin.create_response(consumed, ends.psk, ends.keys[1])[0]


def test_an_error_of_one_is_not_an_error_of_all(seed: int) -> None:
    """Also where it is raised before anything was computed."""
    rng = random.Random(seed)
    good, bad = Ends(rng), Ends(rng)
    low = noise.Remote(bytes(32))

    def failing() -> noise.Steps[None]:
        raise HandshakeError("at once")
        yield [], []

    outcomes = run_together(
        [
            noise.prepare_initiation_steps(good.a, good.remote_b, good.keys[0]),
            noise.prepare_initiation_steps(bad.a, low, bad.keys[0]),
            failing(),
        ]
    )
    assert isinstance(outcomes[0], noise.Prepared)
    assert [str(outcome) for outcome in outcomes[1:]] == ["low_order", "at once"]
    assert low.static_static is None
    with pytest.raises(HandshakeError, match="low_order"):
        noise.create_initiation(bad.a, low, bad.stamp, bad.keys[0])
    assert run_together([]) == []
