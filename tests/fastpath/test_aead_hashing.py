"""Both ways of larger batches through the AVX-512 kernel, whichever this CPU takes.

Where it pays, Poly1305 of some packets is computed between the ChaCha20 rounds of
others. The tests of all kernels see only one of the ways; this chooses each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunnel._fastpath import aead

from . import test_aead_kernels as general
from .parts import Guarded, Kernel
from .test_aead_residue import program, residue

__all__ = ["program"]  # a fixture

HERE = [name for name in aead.kernels() if name == "avx512"]
ZEN_4, ZEN_5 = 0x19, 0x1A


@pytest.fixture(params=HERE)
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    return ctypes.CDLL(aead.__file__)


@pytest.fixture(params=[0, 1], ids=["general", "hashing"])
def way(library: ctypes.CDLL, request: pytest.FixtureRequest) -> Iterator[str]:
    chosen = ctypes.c_int.in_dll(library, "aead_avx512_hashing")
    before = chosen.value
    chosen.value = request.param
    yield "avx512"
    assert chosen.value == request.param  # nobody has changed it on the way
    chosen.value = before


@pytest.fixture
def arena() -> Iterator[Guarded]:
    found = Guarded(general.ARENA)
    yield found
    found.close()


@pytest.mark.parametrize("count", [9, 10, 12, 16, 23, 32, 33, 40, 64, 65, 100, 200])
def test_batches(way: str, arena: Guarded, seed: int, count: int) -> None:
    for more in range(4):
        general.test_batches_equal_the_scalar_kernel(
            Kernel(way), arena, seed + more, count
        )


@pytest.mark.parametrize("length", [1420, 1024, 80, 79])
def test_a_forged_packet(way: str, seed: int, length: int) -> None:
    general.test_one_forged_packet_in_each_lane_of_a_group(way, seed, length, 40)


@pytest.mark.parametrize("fill", [0x00, 0xFF, None], ids=["zeros", "ones", "random"])
def test_accumulators(way: str, seed: int, fill: int | None) -> None:
    for together in (1000, 20):
        general.test_accumulators_at_the_modulus(
            way, seed, fill, general.LONG, together
        )


@pytest.mark.parametrize("length", range(768, 768 + 160))
def test_every_length_of_a_last_piece(way: str, seed: int, length: int) -> None:
    """The blocks in front of the first piece, and the padding behind the last."""
    counters = range(seed % 1000, seed % 1000 + 24)
    plain = [bytes([i]) * length for i in range(24)]
    sealed = aead.seal_batch(bytes(32), plain, counters, kernel="scalar")
    assert aead.seal_batch(bytes(32), plain, counters, kernel=way) == sealed
    assert aead.open_batch(bytes(32), sealed, counters, kernel=way) == plain


@pytest.mark.parametrize("name", [f"{name}-general" for name in HERE])
def test_no_secret_is_left(program: Path, name: str, seed: int) -> None:
    assert residue(program, name, seed) == []


def test_where_it_pays(library: ctypes.CDLL) -> None:
    """Measured on Zen 4 only; Zen 5 has half the time to fill. 0: not made by AMD."""
    pays = library.aead_avx512_hashing_pays
    assert [bool(pays(family)) for family in (0, ZEN_4, ZEN_5, ZEN_5 + 1)] == [
        True,
        True,
        False,
        False,
    ]
    assert ctypes.c_int.in_dll(library, "aead_avx512_hashing").value in (0, 1)
