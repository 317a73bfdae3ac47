"""ChaCha20-Poly1305 against published vectors, each in passing and failing form.

Most of them have AAD or a nonce that no data message can have (R3). Those run on the
kernel's own parts (ChaCha20 and Poly1305, from parts.c), and their key, message and
the last 8 bytes of their nonce run through the AEAD with `cryptography` as oracle.
"""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel._fastpath import aead

from .parts import Parts
from .vectors import Vector, boringssl, openssl, records, wycheproof

# without Wycheproof's nonces of other sizes, which no interface here can express
VECTORS = [v for v in boringssl() + openssl() + wycheproof() if len(v.nonce) == 12]


def flips(data: bytes) -> list[bytes]:
    """`data` with one bit wrong: the first, one in the middle, the last."""
    places = {0, len(data) // 2, len(data) - 1} if data else set()
    bits = {0: 0x01, len(data) - 1: 0x80}
    return [
        data[:i] + bytes([data[i] ^ bits.get(i, 0x10)]) + data[i + 1 :] for i in places
    ]


def test_there_are_vectors_of_every_kind() -> None:
    assert len(boringssl()) == 66
    assert sum(v.valid for v in openssl()) >= 1
    assert sum(not v.valid for v in openssl()) >= 1
    assert len(VECTORS) >= 380
    assert sum(not v.valid for v in VECTORS) >= 60
    assert any(v.fits_data_messages for v in VECTORS)


def test_parts_use_the_multiplication_they_were_built_with(
    parts: Parts, request: pytest.FixtureRequest
) -> None:
    assert parts.limb_bits() == (26 if "narrow" in request.node.name else 44)


def test_rfc8439_chacha20(parts: Parts) -> None:
    found = records("ciphers", "ChaCha20", "rfc7539.txt")
    assert len(found) >= 3
    for r in found:
        key, nonce, plain, cipher = (
            bytes.fromhex(r[n]) for n in ("KEY", "NONCE", "PLAINTEXT", "CIPHERTEXT")
        )
        block = int(r["INITIAL_BLOCK_COUNTER"])
        assert parts.chacha20(key, nonce, block, plain) == cipher, r["COUNT"]
        assert parts.chacha20(key, nonce, block + 1, plain) != cipher, r["COUNT"]


def test_rfc8439_poly1305(parts: Parts) -> None:
    """Among them the numbers around 2^130 - 5 at which carries go wrong."""
    checked = 0
    for r in records("poly1305", "rfc7539.txt"):
        key, message, tag = (bytes.fromhex(r[n]) for n in ("KEY", "MSG", "TAG"))
        if len(message) % 16:
            continue  # the AEAD pads; it has no short last block
        assert parts.poly1305(key, message) == tag, r["COUNT"]
        if key[:16].count(0) < 8:  # r = 0, 1, 2 lets some changes through
            assert all(parts.poly1305(key, bad) != tag for bad in flips(message))
        checked += 1
    assert checked >= 8


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_whole_vectors_on_the_parts(parts: Parts, vector: Vector) -> None:
    v = vector
    tag = parts.tag(v.key, v.nonce, v.sealed, v.aad)
    assert (tag == v.tag) is v.valid
    if not v.valid:
        return
    assert parts.seal(v.key, v.nonce, v.plain, v.aad) == v.sealed + v.tag
    for wrong in flips(v.sealed):
        assert parts.tag(v.key, v.nonce, wrong, v.aad) != v.tag
    for wrong in flips(v.aad):
        assert parts.tag(v.key, v.nonce, v.sealed, wrong) != v.tag


def test_vectors_that_are_data_messages_run_as_they_are(kernel_name: str) -> None:
    for v in (v for v in VECTORS if v.fits_data_messages):
        packet = v.sealed + v.tag
        assert v.valid
        sealed = aead.seal_batch(v.key, [v.plain], [v.counter], kernel=kernel_name)
        assert sealed == [packet]
        opened = aead.open_batch(v.key, [packet], [v.counter], kernel=kernel_name)
        assert opened == [v.plain]
        for wrong in flips(packet):
            opened = aead.open_batch(v.key, [wrong], [v.counter], kernel=kernel_name)
            assert opened == [None]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: v.name)
def test_vectors_adapted_to_data_messages(kernel_name: str, vector: Vector) -> None:
    v = vector
    nonce = bytes(4) + v.counter.to_bytes(8, "little")
    packet = ChaCha20Poly1305(v.key).encrypt(nonce, v.plain, None)
    sealed = aead.seal_batch(v.key, [v.plain], [v.counter], kernel=kernel_name)
    assert sealed == [packet]

    # the vector's own tag and ciphertext belong to another AAD or nonce, or are wrong
    cipher, tag = packet[:-16], packet[-16:]
    wrong = [cipher + bad for bad in flips(tag)] + [bad + tag for bad in flips(cipher)]
    if not v.fits_data_messages:
        wrong += [cipher + v.tag, v.sealed + v.tag]
    packets = [packet, *wrong, packet]
    opened = aead.open_batch(
        v.key, packets, [v.counter] * len(packets), kernel=kernel_name
    )
    assert opened == [v.plain, *([None] * len(wrong)), v.plain]
