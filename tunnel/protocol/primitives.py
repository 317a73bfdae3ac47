"""The cryptographic functions under the handshake.

Every name is the paper's (section 5.4): Hash, Mac, HMAC, KDF_n, DH, AEAD, XAEAD. The
libraries behind DH and the AEADs are imported at their first use, so that a process
without a private key never loads them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from tunnel.constants import MAC_SIZE
from tunnel.digest import blake2s, compare_digest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import (
        X25519PrivateKey,
        X25519PublicKey,
    )
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

KEY_SIZE: Final = 32
ZERO_KEY: Final = bytes(KEY_SIZE)
_ZERO_NONCE: Final = bytes(12)  # each handshake key seals one message (R3)
_BLOCK: Final = 64
_INNER: Final = bytes(i ^ 0x36 for i in range(256))
_OUTER: Final = bytes(i ^ 0x5C for i in range(256))


class HandshakeError(Exception):
    """A handshake message was refused; `reason` names a counter. Never leaves Node."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def hash_of(*parts: bytes) -> bytes:
    return blake2s(b"".join(parts)).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s, 16 bytes."""
    return blake2s(data, key=key, digest_size=MAC_SIZE).digest()


def hmac(key: bytes, data: bytes) -> bytes:
    """HMAC-BLAKE2s with a key of up to a block; half the time of `hmac.digest`."""
    block = key.ljust(_BLOCK, b"\0")
    inner = blake2s(block.translate(_INNER) + data).digest()
    return blake2s(block.translate(_OUTER) + inner).digest()


def kdf1(key: bytes, data: bytes) -> bytes:
    """HKDF (RFC 5869) with HMAC-BLAKE2s, one output (R4)."""
    return hmac(hmac(key, data), b"\x01")


def kdf2(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    secret = hmac(key, data)
    first = hmac(secret, b"\x01")
    return first, hmac(secret, first + b"\x02")


def kdf3(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    secret = hmac(key, data)
    first = hmac(secret, b"\x01")
    second = hmac(secret, first + b"\x02")
    return first, second, hmac(secret, second + b"\x03")


@cache
def _x25519() -> tuple[type[X25519PrivateKey], type[X25519PublicKey]]:
    from cryptography.hazmat.primitives.asymmetric import x25519

    return x25519.X25519PrivateKey, x25519.X25519PublicKey


@cache
def _chacha() -> type[ChaCha20Poly1305]:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    return ChaCha20Poly1305


class PrivateKey:
    """An X25519 private key; its bytes live in the library, which wipes them."""

    __slots__ = ("_key", "public")

    def __init__(self, private: bytes) -> None:
        self._key = _x25519()[0].from_private_bytes(private)
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return "<PrivateKey>"

    def dh(self, public: bytes) -> bytes:
        """X25519; an all-zero result (a low-order `public`) is an error (R6)."""
        try:
            shared: bytes = self._key.exchange(_x25519()[1].from_public_bytes(public))
        except ValueError:
            raise HandshakeError("low_order") from None
        if compare_digest(shared, ZERO_KEY):
            raise HandshakeError("low_order")
        return shared

    def same_as(self, private: bytes) -> bool:
        """Constant time; both clamped."""
        return compare_digest(clamp(self._key.private_bytes_raw()), clamp(private))


def clamp(private: bytes) -> bytes:
    """The scalar that X25519 makes of 32 bytes (RFC 7748 section 5; R68)."""
    scalar = bytearray(private)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 with nonce 0."""
    sealed: bytes = _chacha()(key).encrypt(_ZERO_NONCE, plaintext, associated)
    return sealed


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        plain: bytes = _chacha()(key).decrypt(_ZERO_NONCE, sealed, associated)
    except InvalidTag:
        raise HandshakeError("undecryptable") from None
    return plain


def xseal(key: bytes, nonce: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """XChaCha20-Poly1305 with a random nonce of 24 bytes."""
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as encrypt

    sealed: bytes = encrypt(plaintext, associated, nonce, key)
    return sealed


def xunseal(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt
    from nacl.exceptions import CryptoError

    try:
        plain: bytes = decrypt(sealed, associated, nonce, key)
    except CryptoError:
        raise HandshakeError("undecryptable") from None
    return plain
