"""The cryptographic functions under the handshake and the cookies.

Every name is the paper's (section 5.4): Hash, Mac, DH, XAEAD; HMAC, KDF_n and AEAD are
inside `SymmetricState`. The library behind XAEAD is imported at its first use: only a
server under load needs it.
"""

from __future__ import annotations

from typing import Final

from tunnel._fastpath.x25519 import PrivateKey
from tunnel.constants import MAC_SIZE
from tunnel.digest import blake2s

__all__ = [
    "KEY_SIZE",
    "ZERO_KEY",
    "HandshakeError",
    "PrivateKey",
    "checked_key",
    "checked_psk",
    "hash_of",
    "mac",
    "xseal",
    "xunseal",
]

KEY_SIZE: Final = 32
ZERO_KEY: Final = bytes(KEY_SIZE)


class HandshakeError(Exception):
    """A handshake message was refused; `reason` names a counter. Never leaves Node."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def checked_key(key: bytes) -> bytes:
    if len(key) != KEY_SIZE:
        raise ValueError(f"key: has {len(key)} bytes, not {KEY_SIZE}")
    return bytes(key)


def checked_psk(key: bytes | None) -> bytes | None:
    """All zeros is "none" (paper 5.4.3)."""
    if key is None or checked_key(key) == ZERO_KEY:
        return None
    return bytes(key)


def hash_of(*parts: bytes) -> bytes:
    return blake2s(b"".join(parts)).digest()


def mac(key: bytes, data: bytes) -> bytes:
    """Keyed BLAKE2s, 16 bytes."""
    return blake2s(data, key=key, digest_size=MAC_SIZE).digest()


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
