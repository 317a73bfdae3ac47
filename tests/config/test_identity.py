"""Keys, PSK mode and the refusal of weak passphrases."""

from __future__ import annotations

import os
import random
import string
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from nacl.bindings import crypto_scalarmult_base
from nacl.pwhash import argon2id

from tunnel.config import identity, strength

PSK = "glass-otter-93-Lantern-quiver"
SERVER_KEY = "a5480d81942939884fc6525ff19da0a7c84abbf78e5ad743ba06381d3d7e4845"
PAIR_KEY = "97ff72034b8114487e61174e97e30da55347ad0573a406f4eb7e6272084b0671"


def expand(master: bytes, info: bytes) -> bytes:
    return HKDFExpand(SHA256(), 32, info).derive(master)


def test_public_keys_as_another_library_has_them(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(50):
        private = rng.randbytes(32)
        assert identity.public_key(private) == crypto_scalarmult_base(private)


def test_generated_private_keys_are_clamped_and_differ() -> None:
    keys = {identity.generate_private_key() for _ in range(50)}
    assert len(keys) == 50
    assert all(k[0] & 7 == 0 and k[31] & 0xC0 == 0x40 for k in keys)


def test_generated_psk_is_accepted() -> None:
    for _ in range(200):
        psk = identity.generate_psk()
        assert len(b64decode(psk)) == 32
        assert strength.weakness(psk) is None


def test_derivation_as_documented() -> None:
    master = argon2id.kdf(
        32, PSK.encode(), b"tunnel psk mode1", opslimit=3, memlimit=64 << 20
    )
    mode = identity.psk_mode(PSK)
    secret = bytearray(expand(master, b"tunnel psk v1 identity\x00\x05alice"))
    secret[0] &= 0xF8
    secret[31] = secret[31] & 0x7F | 0x40
    assert mode.private_key("alice") == bytes(secret)
    pair = expand(master, b"tunnel psk v1 pair\x00\x03bob\x00\x05alice")
    assert mode.preshared_key("alice", "bob") == pair
    assert mode.preshared_key("bob", "alice") == pair


def test_derivation_never_changes() -> None:
    """Other keys for the same passphrase would cut every existing tunnel."""
    mode = identity.psk_mode(PSK)
    assert mode.public_key("server").hex() == SERVER_KEY
    assert mode.preshared_key("client", "server").hex() == PAIR_KEY


def test_both_ends_share_a_secret() -> None:
    mode = identity.psk_mode(PSK)
    ends = {}
    for own, other in (("server", "client"), ("client", "server")):
        private = X25519PrivateKey.from_private_bytes(mode.private_key(own))
        public = X25519PublicKey.from_public_bytes(mode.public_key(other))
        ends[own] = private.exchange(public)
    assert ends["server"] == ends["client"]


def test_names_and_pairs_are_separated() -> None:
    mode = identity.psk_mode(PSK)
    names = ["a", "b", "ab", "a\x00", "server", "client"]
    keys = {mode.private_key(name) for name in names}
    keys |= {mode.preshared_key(a, b) for a in names for b in names if a < b}
    assert len(keys) == len(names) + len(names) * (len(names) - 1) // 2


def test_names_agree_however_they_are_typed() -> None:
    mode = identity.psk_mode(PSK)
    assert mode.private_key("J\u00fcrgen") == mode.private_key("Ju\u0308rgen")


def test_stretching_happens_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def stretch(psk: str) -> bytes:
        calls.append(psk)
        return os.urandom(32)

    monkeypatch.setattr(identity, "_stretch", stretch)
    monkeypatch.setattr(identity, "_cache", identity.OrderedDict())
    monkeypatch.setattr(identity, "_CACHE_SIZE", 2)
    first = identity.psk_mode("one")
    assert identity.psk_mode("one") is first
    identity.psk_mode("two")
    identity.psk_mode("one")
    identity.psk_mode("three")  # the least recently used one goes
    assert identity.psk_mode("one") is first
    assert calls == ["one", "two", "three"]


def test_a_mode_does_not_show_its_secret() -> None:
    mode = identity.psk_mode(PSK)
    assert mode._master.reveal().hex() not in repr(mode) + repr(mode._master)


@pytest.mark.parametrize(
    "psk",
    [
        "Xy9!", "x" * 15, "a" * 64, "ab" * 16, "1234567890123456",
        "abcdefghijklmnopqr",
        "password12345678", "changeme-changeme-changeme", "qwertyuiopasdfgh",
        "your-secure-random-32-byte-psk", "Your_Secure_Random_32_Byte_PSK",
        "change-me-in-production", "correct horse battery staple",
        "Tr0ub4dor&3Tr0ub4dor&3", "mysecretpassword2024!", "x" * 1025,
    ],
)  # fmt: skip
def test_weak(psk: str) -> None:
    found = strength.weakness(psk)
    assert found
    assert psk not in found[0] + found[1]
    assert "tunnel genpsk" in found[1]


@pytest.mark.parametrize(
    "psk", [PSK, "my dog ate 7 purple lamps", "Wv7#pQ2!xZ9&kL4@", "ü1ö2ä3ß4é5è6ñ7ø8"]
)
def test_strong(psk: str) -> None:
    assert strength.weakness(psk) is None


def test_random_texts_are_strong(seed: int) -> None:
    rng = random.Random(seed)
    letters = string.ascii_letters + string.digits
    for _ in range(500):
        assert strength.weakness("".join(rng.choices(letters, k=22))) is None
        assert strength.weakness(rng.randbytes(16).hex()) is None
