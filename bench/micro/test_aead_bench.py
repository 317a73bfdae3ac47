"""Sealing and opening one packet: each of our kernels, `cryptography`, PyNaCl.

All are called from Python, packet by packet or, for the kernels, also in batches as the
packet pump does; the time shown is per call.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)
from pytest_benchmark.fixture import BenchmarkFixture

from tunnel._fastpath import aead

KEY = bytes(range(32))
NONCE = bytes(12)
SIZES = (64, 512, 1420, 16384)
OPENSSL = ChaCha20Poly1305(KEY)

Call = Callable[[bytes], object]


def kernel_seal(name: str, count: int) -> Call:
    counters = [0] * count
    return lambda data: aead.seal_batch(KEY, [data] * count, counters, kernel=name)


def kernel_open(name: str, count: int) -> Call:
    counters = [0] * count
    return lambda data: aead.open_batch(KEY, [data] * count, counters, kernel=name)


SEALERS: dict[str, Call] = {
    "cryptography": lambda data: OPENSSL.encrypt(NONCE, data, None),
    "pynacl": lambda data: crypto_aead_chacha20poly1305_ietf_encrypt(
        data, None, NONCE, KEY
    ),
}
OPENERS: dict[str, Call] = {
    "cryptography": lambda data: OPENSSL.decrypt(NONCE, data, None),
    "pynacl": lambda data: crypto_aead_chacha20poly1305_ietf_decrypt(
        data, None, NONCE, KEY
    ),
}
for _name in aead.kernels():
    for _count in (1, 8, 32, 64):
        SEALERS[f"{_name} x{_count}"] = kernel_seal(_name, _count)
        OPENERS[f"{_name} x{_count}"] = kernel_open(_name, _count)


def note(benchmark: BenchmarkFixture, way: str, engine: str, size: int) -> None:
    benchmark.group = f"{way} {size} B, from Python"
    benchmark.extra_info["calls"] = int(engine.partition(" x")[2] or 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("engine", SEALERS)
def test_seal(benchmark: BenchmarkFixture, engine: str, size: int) -> None:
    note(benchmark, "seal", engine, size)
    assert benchmark(SEALERS[engine], bytes(size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("engine", OPENERS)
def test_open(benchmark: BenchmarkFixture, engine: str, size: int) -> None:
    note(benchmark, "open", engine, size)
    packet = OPENSSL.encrypt(NONCE, bytes(size), None)
    assert benchmark(OPENERS[engine], packet)
