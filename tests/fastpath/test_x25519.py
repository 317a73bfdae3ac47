"""X25519 (RFC 7748): every kernel against vectors, the library and libsodium."""

from __future__ import annotations

import copy
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import product

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from nacl.bindings import crypto_scalarmult, crypto_scalarmult_base
from nacl.exceptions import RuntimeError as SodiumError

from tunnel._fastpath import x25519
from tunnel._fastpath.x25519 import LANES, PrivateKey, SharedSecret, exchange

P = 2**255 - 19
ORDER_8 = (
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
LOW_ORDER = [0, 1, *ORDER_8, P - 1, P, P + 1]  # RFC 7748 section 6.1, non-canonical too
EDGES = [0, 1, 2, 3, 9, P - 2, P - 1, P, P + 1, P + 9, P + 18, 2**255 - 1, 2**254]
EDGES += [2**51 * k for k in (1, 2**51, 2**102, 2**153)]  # each limb alone
EDGES += [(2**51 - 1) << 51 * k for k in range(5)]

every_kernel = pytest.mark.parametrize("kernel", x25519.kernels())


def le(number: int) -> bytes:
    return number.to_bytes(32, "little")


def sodium(private: bytes, public: bytes) -> bytes:
    """Zero where it refuses."""
    try:
        return crypto_scalarmult(private, public)
    except SodiumError:
        return bytes(32)


def library(private: bytes, public: bytes) -> bytes:
    try:
        key = X25519PrivateKey.from_private_bytes(private)
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return bytes(32)


def slow(private: bytes, public: bytes) -> bytes:
    """RFC 7748 section 5, with Python's numbers."""
    k = bytearray(private)
    k[0] &= 248
    k[31] = k[31] & 127 | 64
    scalar, u = int.from_bytes(k, "little"), int.from_bytes(public, "little")
    x1 = u % 2**255 % P
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for bit in range(254, -1, -1):
        if swap != scalar >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = scalar >> bit & 1
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % P, c * b % P, a * a % P, b * b % P
        x3, z3 = (da + cb) ** 2 % P, x1 * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, (aa - bb) * (aa + 121665 * (aa - bb)) % P
    if swap:
        x2, z2 = x3, z3
    return le(x2 * pow(z2, P - 2, P) % P)


def exchanged(
    pairs: Sequence[tuple[bytes, bytes]], kernel: str | None = None
) -> list[bytes]:
    """As bytes, zero for a point of low order."""
    asked = [(PrivateKey(private), public) for private, public in pairs]
    results = exchange([*asked], kernel=kernel)
    return [bytes(32) if shared is None else shared.reveal() for shared in results]


# --- vectors


@every_kernel
def test_rfc7748_section_5_2(kernel: str) -> None:
    vectors = [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ]
    unhexed = [tuple(map(bytes.fromhex, vector)) for vector in vectors]
    found = exchanged([(scalar, point) for scalar, point, _ in unhexed], kernel)
    assert found == [wanted for _, _, wanted in unhexed]


@every_kernel
def test_rfc7748_section_5_2_iterated(kernel: str) -> None:
    k = u = le(9)
    seen = {}
    for number in range(1, 1001):
        (shared,) = exchanged([(k, u)], kernel)
        k, u = shared, k
        seen[number] = k.hex()
    assert seen[1] == "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"
    assert (
        seen[1000] == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
    )


@every_kernel
def test_rfc7748_section_6_1(kernel: str) -> None:
    a, b = (
        PrivateKey(bytes.fromhex(key))
        for key in (
            "77076d0a7318a57d3c16c17251b26645df4eba2a7dcd3d6f3d8f2c2a0a4a1b5c",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        )
    )
    assert exchange([(a, None), (b, None)], kernel=kernel) == [None, None]
    b_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert b.public.hex() == b_public
    first, second = exchange([(a, b.public), (b, a.public)], kernel=kernel)
    assert first is not None
    assert second is not None
    assert first.reveal() == second.reveal()


# --- points that are not what they seem


@every_kernel
@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("top", [0, 2**255])
def test_r6_points_of_low_order_have_no_result(
    kernel: str, point: int, top: int, seed: int
) -> None:
    """Whatever the scalar; bit 255 does not count. The other lanes have theirs."""
    rng = random.Random(seed)
    pairs = [(rng.randbytes(32), le(9)) for _ in range(LANES + 1)]
    for lane in range(LANES + 1):
        asked = [*pairs]
        asked[lane] = rng.randbytes(32), le(point + top)
        found = exchanged(asked, kernel)
        assert [result == bytes(32) for result in found].index(True) == lane
        assert found.count(bytes(32)) == 1


@every_kernel
def test_points_beyond_p_are_taken_modulo_p(kernel: str, seed: int) -> None:
    rng = random.Random(seed)
    for u in range(19):
        key = rng.randbytes(32)
        low, high, marked = exchanged(
            [(key, le(u)), (key, le(P + u)), (key, le(2**255 + u))], kernel
        )
        assert low == high == marked == sodium(key, le(u))


@every_kernel
def test_edges_of_scalars_and_limbs(kernel: str) -> None:
    """Against Python's numbers; results near p and 0 are among them."""
    scalars = [0, 1, 7, 8, 2**254, 2**255 - 1, 2**256 - 1, 2**252 + 27742317, P]
    pairs = [(le(k), le(u)) for k, u in product(scalars, EDGES)]
    assert exchanged(pairs, kernel) == [slow(k, u) for k, u in pairs]


# --- many


@every_kernel
@pytest.mark.parametrize("count", [*range(2 * LANES + 2), 63, 64, 65, 130])
def test_random_pairs_in_any_number(kernel: str, count: int, seed: int) -> None:
    rng = random.Random(seed + count)
    for _ in range(4):
        pairs = [(rng.randbytes(32), rng.randbytes(32)) for _ in range(count)]
        found = exchanged(pairs, kernel)
        assert found == [sodium(*pair) for pair in pairs]
        assert found == [library(*pair) for pair in pairs]


def test_random_pairs_of_all_kinds(seed: int) -> None:
    """Public keys, edges and points of low order, mixed."""
    rng = random.Random(seed)
    for kernel in x25519.kernels():
        for _ in range(60):
            privates = [rng.randbytes(32) for _ in range(rng.randrange(20))]
            keys = [PrivateKey(private) for private in privates]
            raw = [rng.choice([None, *EDGES, *LOW_ORDER]) for _ in keys]
            points = [None if u is None else le(u) for u in raw]
            results = exchange([*zip(keys, points, strict=True)], kernel=kernel)
            for i, (point, shared) in enumerate(zip(points, results, strict=True)):
                private = privates[i]
                if point is None:
                    assert keys[i].public == crypto_scalarmult_base(private)
                    assert shared is None
                else:
                    wanted = slow(private, point)
                    assert (shared.reveal() if shared else bytes(32)) == wanted


@every_kernel
def test_a_lane_depends_on_no_other_lane(kernel: str, seed: int) -> None:
    rng = random.Random(seed)
    pair = rng.randbytes(32), rng.randbytes(32)
    wanted = sodium(*pair)
    for lane in range(LANES):
        for others in (bytes(32), b"\xff" * 32, rng.randbytes(32)):
            pairs = [(others, others)] * LANES
            pairs[lane] = pair
            assert exchanged(pairs, kernel)[lane] == wanted


# --- keys


def test_public_is_computed_once() -> None:
    key = PrivateKey(bytes(range(32)))
    assert key.public == crypto_scalarmult_base(bytes(range(32)))
    assert key.public is key.public


def test_same_as_compares_what_is_clamped() -> None:
    raw = bytes(range(100, 132))
    key = PrivateKey(raw)
    assert key.same_as(raw)
    assert key.same_as(bytes([raw[0] ^ 7, *raw[1:31], raw[31] ^ 192]))
    for bit in (3, 100, 253):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert not key.same_as(bytes(changed))


def test_nothing_shows_or_copies_a_secret() -> None:
    for thing in (PrivateKey(b"\x5a" * 32), SharedSecret(b"\x5a" * 32)):
        assert repr(thing) == str(thing) == f"<{type(thing).__name__}>"
        with pytest.raises(TypeError, match="is not pickled"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="is not pickled"):
            copy.copy(thing)


def test_wrong_arguments_are_named() -> None:
    key = PrivateKey(bytes(32))
    with pytest.raises(ValueError, match="private must be 32 bytes, not 31"):
        PrivateKey(bytes(31))
    with pytest.raises(TypeError, match="private"):
        PrivateKey(bytearray(32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="private must be 32 bytes, not 33"):
        key.same_as(bytes(33))
    with pytest.raises(ValueError, match=r"pairs\[1\]: the point must be 32 bytes"):
        exchange([(key, None), (key, bytes(31))])
    with pytest.raises(TypeError, match=r"pairs\[0\]: the point must be bytes"):
        exchange([(key, bytearray(32))])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"pairs\[0\]: bytes is no PrivateKey"):
        exchange([(bytes(32), None)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="kernel 'fast': unknown; this machine has"):
        exchange([(key, None)], kernel="fast")


# --- choosing a kernel


@pytest.mark.parametrize("kernel", ["", *x25519.kernels()])
def test_the_environment_chooses_a_kernel(kernel: str) -> None:
    code = "from tunnel._fastpath import x25519; print(x25519.kernel_name())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "TUNNEL_X25519": kernel},
    )
    assert done.stdout.strip() == (kernel or x25519.kernels()[0]), done.stderr


def test_an_unknown_kernel_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tunnel._fastpath.x25519"],
        capture_output=True,
        text=True,
        env={**os.environ, "TUNNEL_X25519": "fast"},
    )
    assert "TUNNEL_X25519: kernel 'fast': unknown; this machine has" in done.stderr
