"""Poly1305 of the scalar kernel against Python's integers, at the ends of its limbs."""

from __future__ import annotations

import random

import pytest

from .parts import Parts

P = 2**130 - 5
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
ONES = 2**128 - 1
LIMB_ENDS = (0, 2**26, 2**27, 2**44, 2**45)


def twin(key: bytes, data: bytes) -> bytes:
    """RFC 8439 section 2.5.1, word for word, for whole blocks."""
    r = int.from_bytes(key[:16], "little") & CLAMP
    s = int.from_bytes(key[16:], "little")
    accumulator = 0
    for start in range(0, len(data), 16):
        block = int.from_bytes(data[start : start + 16], "little") + 2**128
        accumulator = (accumulator + block) * r % P
    return (accumulator + s & ONES).to_bytes(16, "little")


def little(*numbers: int) -> bytes:
    return b"".join(n.to_bytes(16, "little") for n in numbers)


@pytest.mark.parametrize("r", [0, 1, 2, 4, CLAMP, 2**124 - 4, 2**96])
@pytest.mark.parametrize("s", [0, 1, ONES])
def test_sums_around_the_modulus(parts: Parts, r: int, s: int) -> None:
    """With r = 1 four blocks add up to 2^130 and a little: p and its neighbours."""
    for low in (*range(12), ONES - 1, ONES):
        for others in ((0, 0, 0), (0, 0, ONES), (ONES, ONES, ONES)):
            for count in range(4):
                data = little(*others[:count], low)
                assert parts.poly1305(little(r, s), data) == twin(little(r, s), data)


def test_results_that_wrap_around_the_modulus(parts: Parts, seed: int) -> None:
    """Blocks made so that h * r is a small number mod p.

    The unreduced accumulator is then that number plus p: every limb at its end, and
    around multiples of 2^26 and 2^44 the carry out of the lowest one as well.
    """
    rng = random.Random(seed)
    ends = [n + d for n in LIMB_ENDS for d in range(-8, 9) if n + d > 0]
    for result in [*ends, *(rng.getrandbits(40) + 1 for _ in range(50))]:
        block = -1
        while not 0 <= block <= ONES:  # one in four fits
            r = rng.getrandbits(128) & CLAMP
            block = result * pow(r, -1, P) % P - 2**128
        key, data = little(r, 0), little(block)
        assert twin(key, data) == little(result)
        assert parts.poly1305(key, data) == little(result)


def test_random_numbers_with_long_runs_of_ones(parts: Parts, seed: int) -> None:
    rng = random.Random(seed)

    def number() -> int:
        kind = rng.randrange(4)
        if kind == 0:
            return rng.getrandbits(128)
        run = (1 << rng.randrange(129)) - 1
        return (run << rng.randrange(64) & ONES) ^ (ONES if kind == 1 else 0)

    for _ in range(3000):
        key = little(number(), number())
        data = little(*(number() for _ in range(rng.randrange(1, 7))))
        assert parts.poly1305(key, data) == twin(key, data)
