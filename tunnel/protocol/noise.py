"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (paper 5.4.2, 5.4.3).

    <- s
    ******
    -> e, es, s, ss, {t}
    <- e, ee, se, psk, {}

Pure functions: `create_*` make the encrypted fields of a message, `consume_*` check
them. A consume function changes nothing that its caller holds (R15); it returns what
is to be kept, or raises HandshakeError. Indices, macs and time are not known here.

Secrets in between are `bytes`, which Python cannot wipe: they are dropped as early as
possible, and private keys stay inside the library, which does wipe them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tunnel.constants import CONSTRUCTION, IDENTIFIER
from tunnel.protocol.primitives import (
    ZERO_KEY,
    HandshakeError,
    PrivateKey,
    hash_of,
    kdf1,
    kdf2,
    kdf3,
    seal,
    unseal,
)

_CHAINING_KEY: Final = hash_of(CONSTRUCTION)


def initial_hash(responder: bytes, prologue: bytes = IDENTIFIER) -> bytes:
    """The running hash once the responder's static key is mixed in (R4)."""
    return hash_of(hash_of(_CHAINING_KEY, prologue), responder)


class Redacted:
    """Its representation shows no field."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class Identity(Redacted):
    """Our static key pair."""

    __slots__ = ("hash", "private", "public")

    def __init__(self, private: bytes, prologue: bytes = IDENTIFIER) -> None:
        self.private = PrivateKey(private)
        self.public = self.private.public
        self.hash = initial_hash(self.public, prologue)


class Remote(Redacted):
    """A peer's static public key, and what is computed from it once."""

    __slots__ = ("_static_static", "hash", "public")

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


class Initiated(Redacted):
    """What the initiator keeps until the response comes."""

    __slots__ = ("chaining_key", "ephemeral", "hash")

    def __init__(
        self, ephemeral: PrivateKey, chaining_key: bytes, hash_: bytes
    ) -> None:
        self.ephemeral = ephemeral
        self.chaining_key = chaining_key
        self.hash = hash_


class Consumed(Redacted):
    """An authentic initiation, ready to be responded to."""

    __slots__ = ("chaining_key", "ephemeral", "hash", "remote", "timestamp")

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


class SessionKeys(Redacted):
    """The two transport keys, as seen from our side."""

    __slots__ = ("receive", "send")

    def __init__(self, send: bytes, receive: bytes) -> None:
        self.send = send
        self.receive = receive


class InitiationFields(NamedTuple):
    ephemeral: bytes
    encrypted_static: bytes
    encrypted_timestamp: bytes


class ResponseFields(NamedTuple):
    ephemeral: bytes
    encrypted_nothing: bytes


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
