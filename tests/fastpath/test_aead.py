"""The AEAD through Python: what it computes, refuses and lets go of (R3)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import (
    crypto_aead_chacha20poly1305_ietf_decrypt,
    crypto_aead_chacha20poly1305_ietf_encrypt,
)

from tunnel._fastpath import aead

KEY = bytes(range(32))
TAG = 16
COUNTER_MAX = 2**64 - 1
EDGES = (4096, 16384, 65519)
LENGTHS = [*range(2049), *(n + d for n in EDGES for d in (-17, -16, -1, 0, 1, 15, 16))]


def nonce(counter: int) -> bytes:
    return bytes(4) + counter.to_bytes(8, "little")


def chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 1 << place % 8
    return bytes(changed)


def test_every_length_equals_cryptography_and_pynacl(
    kernel_name: str, seed: int
) -> None:
    rng = random.Random(seed)
    key = rng.randbytes(32)
    other = ChaCha20Poly1305(key)
    for lengths in chunks(LENGTHS, 64):
        plain = [rng.randbytes(n) for n in lengths]
        counters = [rng.choice((n, rng.getrandbits(64))) for n in lengths]
        sealed = aead.seal_batch(key, plain, counters, kernel=kernel_name)
        for text, counter, packet in zip(plain, counters, sealed, strict=True):
            iv = nonce(counter)
            assert packet == other.encrypt(iv, text, None)
            assert packet == crypto_aead_chacha20poly1305_ietf_encrypt(
                text, None, iv, key
            )
            assert (
                crypto_aead_chacha20poly1305_ietf_decrypt(packet, None, iv, key) == text
            )
        assert aead.open_batch(key, sealed, counters, kernel=kernel_name) == plain


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8])
def test_every_length_in_small_batches(kernel_name: str, seed: int, count: int) -> None:
    """Kernels have ways of their own for one packet, few packets and short ones."""
    rng = random.Random(seed)
    key = rng.randbytes(32)
    other = ChaCha20Poly1305(key)
    lengths = LENGTHS if count == 1 else [*range(600), *range(600, 2049, 37)]
    for length in lengths:
        plain = [rng.randbytes(length) for _ in range(count)]
        counters = [rng.getrandbits(64) for _ in plain]
        sealed = aead.seal_batch(key, plain, counters, kernel=kernel_name)
        assert sealed == [
            other.encrypt(nonce(c), p, None)
            for c, p in zip(counters, plain, strict=True)
        ]
        lane = length % count
        forged = [*sealed]
        forged[lane] = flip(sealed[lane], rng.randrange(len(sealed[lane])))
        expected: list[bytes | None] = [*plain]
        expected[lane] = None
        assert aead.open_batch(key, sealed, counters, kernel=kernel_name) == plain
        assert aead.open_batch(key, forged, counters, kernel=kernel_name) == expected


@pytest.mark.parametrize("fill", [0x00, 0xFF])
def test_extreme_contents_equal_cryptography(kernel_name: str, fill: int) -> None:
    """Ciphertext of all ones or zeros drives Poly1305's limbs to their ends."""
    key = bytes([fill]) * 32
    other = ChaCha20Poly1305(key)
    for length in (16, 64, 512, 1420, 8192):
        for counter in (0, 1, 2**32 - 1, 2**32, COUNTER_MAX):
            iv = nonce(counter)
            stream = other.encrypt(iv, bytes(length), None)[:length]
            plain = bytes(b ^ fill for b in stream)
            (packet,) = aead.seal_batch(key, [plain], [counter], kernel=kernel_name)
            assert packet[:length] == bytes([fill]) * length
            assert packet == other.encrypt(iv, plain, None)


def test_every_batch_size_with_mixed_lengths(kernel_name: str, seed: int) -> None:
    rng = random.Random(seed)
    other = ChaCha20Poly1305(KEY)
    for size in range(65):
        lengths = [rng.choice((0, 1420, rng.randrange(300))) for _ in range(size)]
        plain = [rng.randbytes(n) for n in lengths]
        counters = [rng.getrandbits(64) for _ in lengths]
        sealed = aead.seal_batch(KEY, plain, counters, kernel=kernel_name)
        assert sealed == [
            other.encrypt(nonce(c), p, None)
            for c, p in zip(counters, plain, strict=True)
        ]
        assert aead.open_batch(KEY, sealed, counters, kernel=kernel_name) == plain


@pytest.mark.parametrize("size", [*range(1, 18), 33, 64])
def test_a_forged_packet_harms_no_other(kernel_name: str, seed: int, size: int) -> None:
    rng = random.Random(seed)
    plain = [rng.randbytes(rng.choice((0, 1, 64, 500))) for _ in range(size)]
    counters = list(range(size))
    sealed = aead.seal_batch(KEY, plain, counters, kernel=kernel_name)
    for lane in range(size):
        forged = list(sealed)
        forged[lane] = flip(sealed[lane], rng.randrange(len(sealed[lane])))
        expected: list[bytes | None] = list(plain)
        expected[lane] = None
        assert aead.open_batch(KEY, forged, counters, kernel=kernel_name) == expected


def test_every_bit_of_a_packet_counts(kernel_name: str) -> None:
    (packet,) = aead.seal_batch(KEY, [bytes(100)], [5], kernel=kernel_name)
    forged = [
        packet[:i] + bytes([packet[i] ^ 1 << bit]) + packet[i + 1 :]
        for i in range(len(packet))
        for bit in range(8)
    ]
    opened = aead.open_batch(KEY, forged, [5] * len(forged), kernel=kernel_name)
    assert opened == [None] * len(forged)


def test_wrong_key_counter_or_length_is_refused(kernel_name: str) -> None:
    (packet,) = aead.seal_batch(KEY, [b"payload" * 9], [1 << 40], kernel=kernel_name)
    for counter in (0, 1 << 8, (1 << 40) + 1, COUNTER_MAX):
        assert aead.open_batch(KEY, [packet], [counter], kernel=kernel_name) == [None]
    for wrong in (packet[:-1], packet[1:], packet + b"\0", packet[:16], bytes(16)):
        assert aead.open_batch(KEY, [wrong], [1 << 40], kernel=kernel_name) == [None]
    assert aead.open_batch(flip(KEY, 31), [packet], [1 << 40], kernel=kernel_name) == [
        None
    ]


def test_in_place(kernel_name: str, seed: int) -> None:
    rng = random.Random(seed)
    other = ChaCha20Poly1305(KEY)
    for length in (0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 1420, 5000):
        offset = rng.randrange(40)
        plain = rng.randbytes(length)
        before, after = rng.randbytes(offset), rng.randbytes(9)
        buffer = bytearray(before + plain + bytes(TAG) + after)
        packet = other.encrypt(nonce(length), plain, None)

        aead.seal_into(KEY, length, buffer, offset, length, kernel=kernel_name)
        assert buffer == before + packet + after

        view = memoryview(buffer)
        assert aead.open_into(KEY, length, view, offset, length, kernel=kernel_name)
        assert buffer == before + plain + packet[length:] + after

        forged = bytearray(before + flip(packet, rng.randrange(len(packet))) + after)
        kept = bytes(forged)
        assert not aead.open_into(
            KEY, length, forged, offset, length, kernel=kernel_name
        )
        zeroed = before + bytes(length) + kept[offset + length :]
        assert forged in (kept, zeroed)


def test_any_contiguous_buffer_will_do() -> None:
    text = b"0123456789abcdef"
    sealed = aead.seal_batch(
        KEY, (t for t in (text, bytearray(text), memoryview(text))), range(3)
    )
    assert aead.open_batch(KEY, map(memoryview, sealed), iter(range(3))) == [text] * 3
