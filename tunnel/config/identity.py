"""Keys: making them, and deriving them from a passphrase (PSK mode).

PSK mode is plain WireGuard on the wire. Both ends compute the same keys:

    master     = Argon2id(psk, fixed salt)                      32 bytes
    private    = clamp(HKDF-Expand(master, "identity" || name)) of the end called name
    preshared  = HKDF-Expand(master, "pair" || name || name)    names in sorted order

Whoever knows the passphrase can therefore be any end; key mode is the recommended
one. Argon2id runs once per passphrase and process, so a reload costs nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata
from base64 import b64encode
from collections import OrderedDict
from threading import Lock
from typing import Final

from tunnel.state.model import KEY_SIZE, Secret, clamp

__all__ = [
    "PskMode",
    "encode_key",
    "generate_preshared_key",
    "generate_private_key",
    "generate_psk",
    "normal_name",
    "psk_mode",
    "public_key",
]

# Changing any of these makes both ends of every existing PSK tunnel strangers.
_SALT: Final = b"tunnel psk mode1"  # 16 bytes, crypto_pwhash_argon2id_SALTBYTES
_OPSLIMIT: Final = 3
_MEMLIMIT: Final = 64 << 20  # bytes
_INFO_IDENTITY: Final = b"tunnel psk v1 identity"
_INFO_PAIR: Final = b"tunnel psk v1 pair"

_CACHE_SIZE: Final = 256  # passphrases


def generate_private_key() -> bytes:
    """A fresh X25519 private key, clamped."""
    return clamp(os.urandom(KEY_SIZE))


def generate_preshared_key() -> bytes:
    """32 random bytes."""
    return os.urandom(KEY_SIZE)


def generate_psk() -> str:
    """A passphrase for PSK mode: 256 random bits in base64."""
    return encode_key(os.urandom(KEY_SIZE))


def encode_key(key: bytes) -> str:
    """32 bytes as config.json and wg(8) write them."""
    return b64encode(key).decode()


def public_key(private_key: bytes) -> bytes:
    """The public key that belongs to a private key (32 raw bytes each)."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.from_private_bytes(private_key)
    return key.public_key().public_bytes_raw()


def normal_name(name: str) -> str:
    """A name as it enters key derivation: Unicode NFC, so both ends agree."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _field(text: str) -> bytes:
    raw = normal_name(text).encode()
    return len(raw).to_bytes(2, "big") + raw


def _expand(master: bytes, info: bytes) -> bytes:
    """One block of HKDF-Expand with SHA-256 (RFC 5869 section 2.3)."""
    return hmac.digest(master, info + b"\x01", "sha256")


class PskMode:
    """All keys that follow from one passphrase. Public keys are remembered by name."""

    __slots__ = ("_master", "_public")

    def __init__(self, master: bytes) -> None:
        self._master = Secret(master)
        self._public: dict[str, bytes] = {}

    def private_key(self, name: str) -> bytes:
        """The X25519 private key of the end called `name`."""
        info = _INFO_IDENTITY + _field(name)
        return clamp(_expand(self._master.reveal(), info))

    def public_key(self, name: str) -> bytes:
        """The public key of the end called `name`."""
        known = self._public.get(name)
        if known is None:
            known = self._public[name] = public_key(self.private_key(name))
        return known

    def preshared_key(self, one: str, other: str) -> bytes:
        """The preshared key of a pair, the same from both sides."""
        first, second = sorted((_field(one), _field(other)))
        return _expand(self._master.reveal(), _INFO_PAIR + first + second)


_cache: OrderedDict[bytes, PskMode] = OrderedDict()
_cache_lock = Lock()
_cache_key = os.urandom(32)


def _stretch(psk: str) -> bytes:
    from nacl.pwhash import argon2id

    password = unicodedata.normalize("NFC", psk).encode()
    return argon2id.kdf(
        KEY_SIZE, password, _SALT, opslimit=_OPSLIMIT, memlimit=_MEMLIMIT
    )


def psk_mode(psk: str) -> PskMode:
    """The keys of a passphrase; about 0.1 s and 64 MiB the first time, then free."""
    handle = hashlib.blake2b(psk.encode(), key=_cache_key, digest_size=32).digest()
    with _cache_lock:
        known = _cache.get(handle)
        if known is None:
            known = _cache[handle] = PskMode(_stretch(psk))
            if len(_cache) > _CACHE_SIZE:
                _cache.popitem(last=False)
        _cache.move_to_end(handle)
    return known
