"""The slow, obvious twin of `tunnel.protocol.noise`: one message at a time.

Every name is the paper's (section 5.4). HMAC and KDF are written out, the curve and
the AEAD are the library's; the fields of messages are those of the code under test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel.constants import CONSTRUCTION, IDENTIFIER
from tunnel.digest import blake2s
from tunnel.protocol.noise import InitiationFields, ResponseFields
from tunnel.protocol.primitives import ZERO_KEY, HandshakeError, hash_of

_ZERO_NONCE: Final = bytes(12)  # each handshake key seals one message (R3)
_BLOCK: Final = 64
_INNER: Final = bytes(i ^ 0x36 for i in range(256))
_OUTER: Final = bytes(i ^ 0x5C for i in range(256))


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


def seal(key: bytes, plaintext: bytes, associated: bytes) -> bytes:
    """ChaCha20-Poly1305 with nonce 0."""
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, plaintext, associated)


def unseal(key: bytes, sealed: bytes, associated: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, sealed, associated)
    except InvalidTag:
        raise HandshakeError("undecryptable") from None


class PrivateKey:
    """An X25519 private key of the library."""

    def __init__(self, private: bytes) -> None:
        self._key = X25519PrivateKey.from_private_bytes(private)
        self.public = self._key.public_key().public_bytes_raw()

    def dh(self, public: bytes) -> bytes:
        """X25519; an all-zero result (a low-order `public`) is an error (R6)."""
        try:
            return self._key.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise HandshakeError("low_order") from None


_CHAINING_KEY: Final = hash_of(CONSTRUCTION)


def initial_hash(responder: bytes, prologue: bytes = IDENTIFIER) -> bytes:
    """The running hash once the responder's static key is mixed in (R4)."""
    return hash_of(hash_of(_CHAINING_KEY, prologue), responder)


class Identity:
    """Our static key pair."""

    def __init__(self, private: bytes, prologue: bytes = IDENTIFIER) -> None:
        self.private = PrivateKey(private)
        self.public = self.private.public
        self.hash = initial_hash(self.public, prologue)


class Remote:
    """A peer's static public key, and what is computed from it once."""

    def __init__(self, public: bytes, prologue: bytes = IDENTIFIER) -> None:
        self.public = public
        self.hash = initial_hash(public, prologue)
        self._static_static: bytes | None = None

    def static_static(self, identity: Identity) -> bytes:
        """DH of both static keys, computed at the first need (R6: checked)."""
        if self._static_static is None:
            self._static_static = identity.private.dh(self.public)
        return self._static_static

    def forget(self) -> None:
        """Our private key changed (R67)."""
        self._static_static = None


class Initiated:
    """What the initiator keeps until the response comes."""

    def __init__(
        self, ephemeral: PrivateKey, chaining_key: bytes, hash_: bytes
    ) -> None:
        self.ephemeral = ephemeral
        self.chaining_key = chaining_key
        self.hash = hash_


class Consumed:
    """An authentic initiation, ready to be responded to."""

    def __init__(
        self,
        remote: Remote,
        ephemeral: bytes,
        timestamp: bytes,
        chaining_key: bytes,
        hash_: bytes,
    ) -> None:
        self.remote = remote
        self.ephemeral = ephemeral
        self.timestamp = timestamp
        self.chaining_key = chaining_key
        self.hash = hash_


class SessionKeys:
    """The two transport keys, as seen from our side."""

    def __init__(self, send: bytes, receive: bytes) -> None:
        self.send = send
        self.receive = receive


def create_initiation(
    identity: Identity, remote: Remote, timestamp: bytes, ephemeral_private: bytes
) -> tuple[InitiationFields, Initiated]:
    """Raises HandshakeError if the peer's key is of low order (R7)."""
    ephemeral = PrivateKey(ephemeral_private)
    # e
    h = hash_of(remote.hash, ephemeral.public)
    ck = kdf1(_CHAINING_KEY, ephemeral.public)
    # es, s
    ck, key = kdf2(ck, ephemeral.dh(remote.public))
    static = seal(key, identity.public, h)
    h = hash_of(h, static)
    # ss, {t}
    ck, key = kdf2(ck, remote.static_static(identity))
    stamp = seal(key, timestamp, h)
    h = hash_of(h, stamp)
    fields = InitiationFields(ephemeral.public, static, stamp)
    return fields, Initiated(ephemeral, ck, h)


def consume_initiation(
    identity: Identity,
    message: InitiationFields,
    find: Callable[[bytes], Remote | None],
) -> Consumed:
    """`find` gives the peer that has a static public key, or None."""
    # e
    h = hash_of(identity.hash, message.ephemeral)
    ck = kdf1(_CHAINING_KEY, message.ephemeral)
    # es, s
    ck, key = kdf2(ck, identity.private.dh(message.ephemeral))
    public = unseal(key, message.encrypted_static, h)
    h = hash_of(h, message.encrypted_static)
    remote = find(public)
    if remote is None:
        raise HandshakeError("unknown_peer")
    # ss, {t}
    ck, key = kdf2(ck, remote.static_static(identity))
    timestamp = unseal(key, message.encrypted_timestamp, h)
    h = hash_of(h, message.encrypted_timestamp)
    return Consumed(remote, message.ephemeral, timestamp, ck, h)


def create_response(
    consumed: Consumed,
    preshared_key: bytes | None,
    ephemeral_private: bytes,
    payload: bytes = b"",
) -> tuple[ResponseFields, SessionKeys]:
    ephemeral = PrivateKey(ephemeral_private)
    # e
    h = hash_of(consumed.hash, ephemeral.public)
    ck = kdf1(consumed.chaining_key, ephemeral.public)
    # ee, se
    ck = kdf1(ck, ephemeral.dh(consumed.ephemeral))
    ck = kdf1(ck, ephemeral.dh(consumed.remote.public))
    # psk, {}
    ck, mixed, key = kdf3(ck, preshared_key or ZERO_KEY)
    nothing = seal(key, payload, hash_of(h, mixed))
    receive, send = kdf2(ck, b"")
    return ResponseFields(ephemeral.public, nothing), SessionKeys(send, receive)


def consume_response(
    identity: Identity,
    initiated: Initiated,
    message: ResponseFields,
    preshared_key: bytes | None,
) -> SessionKeys:
    """The payload must be authentic; it is not looked at."""
    # e
    h = hash_of(initiated.hash, message.ephemeral)
    ck = kdf1(initiated.chaining_key, message.ephemeral)
    # ee, se
    ck = kdf1(ck, initiated.ephemeral.dh(message.ephemeral))
    ck = kdf1(ck, identity.private.dh(message.ephemeral))
    # psk, {}
    ck, mixed, key = kdf3(ck, preshared_key or ZERO_KEY)
    unseal(key, message.encrypted_nothing, hash_of(h, mixed))
    send, receive = kdf2(ck, b"")
    return SessionKeys(send, receive)
