"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (paper 5.4.2, 5.4.3).

    <- s
    ******
    -> e, es, s, ss, {t}
    <- e, ee, se, psk, {}

`create_*` make the encrypted fields of a message, `consume_*` check them. A consume
function changes nothing that its caller holds (R15); it returns what is to be kept, or
raises HandshakeError. Indices, macs and time are not known here.

Each of them has its `*_steps`, which is the same for many at a time (`together`).

What is secret in between lives in memory that is wiped: `SymmetricState`,
`PrivateKey`, `SharedSecret`. The two transport keys are `bytes`, and dropped early.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from tunnel._fastpath.symmetric import SymmetricState
from tunnel._fastpath.x25519 import PrivateKey, SharedSecret
from tunnel.constants import CONSTRUCTION, IDENTIFIER
from tunnel.protocol.primitives import HandshakeError, hash_of
from tunnel.protocol.together import Pair, Results, Steps, run

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

    __slots__ = ("hash", "public", "static_static")

    def __init__(self, public: bytes, prologue: bytes = IDENTIFIER) -> None:
        self.public = public
        self.hash = initial_hash(public, prologue)
        self.static_static: SharedSecret | None = None  # until the first need

    def forget(self) -> None:
        """Our private key changed (R67)."""
        self.static_static = None


class Initiated(Redacted):
    """What the initiator keeps until the response comes."""

    __slots__ = ("ephemeral", "state")

    def __init__(self, ephemeral: PrivateKey, state: SymmetricState) -> None:
        self.ephemeral = ephemeral
        self.state = state


class Consumed(Redacted):
    """An authentic initiation, ready to be responded to."""

    __slots__ = ("ahead", "ephemeral", "remote", "state", "timestamp")

    def __init__(
        self, remote: Remote, ephemeral: bytes, timestamp: bytes, state: SymmetricState
    ) -> None:
        self.remote = remote
        self.ephemeral = ephemeral
        self.timestamp = timestamp
        self.state = state
        self.ahead: Results = []  # of what the response needs, if it is known by now


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


def checked(shared: SharedSecret | None) -> SharedSecret:
    """All zero is an error: the public key is of low order (R6)."""
    if shared is None:
        raise HandshakeError("low_order")
    return shared


def opened(state: SymmetricState, sealed: bytes) -> bytes:
    plaintext = state.open(sealed)
    if plaintext is None:
        raise HandshakeError("undecryptable")
    return plaintext


# --- the initiation


class Prepared(Redacted):
    """The curve's part of an initiation."""

    __slots__ = ("ephemeral", "ephemeral_static")

    def __init__(self, ephemeral: PrivateKey, ephemeral_static: SharedSecret) -> None:
        self.ephemeral = ephemeral
        self.ephemeral_static = ephemeral_static


def prepare_initiation_steps(
    identity: Identity, remote: Remote, ephemeral_private: bytes
) -> Steps[Prepared]:
    """Raises HandshakeError if the peer's key is of low order (R7)."""
    ephemeral = PrivateKey(ephemeral_private)
    pairs: list[Pair] = [(ephemeral, None), (ephemeral, remote.public)]
    if remote.static_static is None:
        pairs.append((identity.private, remote.public))
    _, es, *ss = yield pairs, []
    shared = checked(es)
    if ss:
        remote.static_static = checked(ss[0])
    return Prepared(ephemeral, shared)


def write_initiation(
    identity: Identity, remote: Remote, timestamp: bytes, prepared: Prepared
) -> tuple[InitiationFields, Initiated]:
    ephemeral = prepared.ephemeral
    state = SymmetricState(_CHAINING_KEY, remote.hash)
    # e
    state.mix_ephemeral(ephemeral.public)
    # es, s
    state.mix_key(prepared.ephemeral_static)
    static = state.seal(identity.public)
    # ss, {t}
    state.mix_key(checked(remote.static_static))
    stamp = state.seal(timestamp)
    fields = InitiationFields(ephemeral.public, static, stamp)
    return fields, Initiated(ephemeral, state)


def create_initiation(
    identity: Identity, remote: Remote, timestamp: bytes, ephemeral_private: bytes
) -> tuple[InitiationFields, Initiated]:
    """Raises HandshakeError if the peer's key is of low order (R7)."""
    prepared = run(prepare_initiation_steps(identity, remote, ephemeral_private))
    return write_initiation(identity, remote, timestamp, prepared)


def consume_initiation_steps(
    identity: Identity,
    message: InitiationFields,
    find: Callable[[bytes], Remote | None],
    ephemeral: PrivateKey | None = None,
) -> Steps[Consumed]:
    """`find` gives the peer that has a static public key, or None. `ephemeral` is
    what the response would be made with, if there is to be one."""
    state = SymmetricState(_CHAINING_KEY, identity.hash)
    # e
    state.mix_ephemeral(message.ephemeral)
    # es, s
    (es,) = yield [(identity.private, message.ephemeral)], []
    state.mix_key(checked(es))
    remote = find(opened(state, message.encrypted_static))
    if remote is None:
        raise HandshakeError("unknown_peer")
    # ss, {t}
    ahead: Results = []
    if remote.static_static is None:
        next_ = _response_pairs(ephemeral, message.ephemeral, remote)
        ss, *ahead = yield [(identity.private, remote.public)], next_
        remote.static_static = checked(ss)
    state.mix_key(remote.static_static)
    timestamp = opened(state, message.encrypted_timestamp)
    consumed = Consumed(remote, message.ephemeral, timestamp, state)
    consumed.ahead = ahead
    return consumed


def consume_initiation(
    identity: Identity,
    message: InitiationFields,
    find: Callable[[bytes], Remote | None],
) -> Consumed:
    """`find` gives the peer that has a static public key, or None."""
    return run(consume_initiation_steps(identity, message, find))


# --- the response


def _response_pairs(
    ephemeral: PrivateKey | None, remote_ephemeral: bytes, remote: Remote
) -> list[Pair]:
    """e, ee and se, seen from the responder."""
    if ephemeral is None:
        return []
    return [
        (ephemeral, None),
        (ephemeral, remote_ephemeral),
        (ephemeral, remote.public),
    ]


def create_response_steps(
    consumed: Consumed,
    preshared_key: bytes | None,
    ephemeral: PrivateKey,
    payload: bytes = b"",
) -> Steps[tuple[ResponseFields, SessionKeys]]:
    """Uses `consumed` up. `ephemeral` is the one that it was consumed with."""
    pairs = _response_pairs(ephemeral, consumed.ephemeral, consumed.remote)
    _, ee, se = consumed.ahead or (yield pairs, [])
    state = consumed.state
    # e
    state.mix_ephemeral(ephemeral.public)
    # ee, se
    state.mix_chain(checked(ee))
    state.mix_chain(checked(se))
    # psk, {}
    state.mix_psk(preshared_key)
    nothing = state.seal(payload)
    receive, send = state.split()
    return ResponseFields(ephemeral.public, nothing), SessionKeys(send, receive)


def create_response(
    consumed: Consumed,
    preshared_key: bytes | None,
    ephemeral_private: bytes,
    payload: bytes = b"",
) -> tuple[ResponseFields, SessionKeys]:
    """Uses `consumed` up."""
    ephemeral = PrivateKey(ephemeral_private)
    return run(create_response_steps(consumed, preshared_key, ephemeral, payload))


def consume_response_steps(
    identity: Identity,
    initiated: Initiated,
    message: ResponseFields,
    preshared_key: bytes | None,
) -> Steps[SessionKeys]:
    """The payload must be authentic; it is not looked at."""
    state = initiated.state.copy()
    # e
    state.mix_ephemeral(message.ephemeral)
    # ee, se
    ee, se = yield (
        [
            (initiated.ephemeral, message.ephemeral),
            (identity.private, message.ephemeral),
        ],
        [],
    )
    state.mix_chain(checked(ee))
    state.mix_chain(checked(se))
    # psk, {}
    state.mix_psk(preshared_key)
    opened(state, message.encrypted_nothing)
    send, receive = state.split()
    return SessionKeys(send, receive)


def consume_response(
    identity: Identity,
    initiated: Initiated,
    message: ResponseFields,
    preshared_key: bytes | None,
) -> SessionKeys:
    """The payload must be authentic; it is not looked at."""
    return run(consume_response_steps(identity, initiated, message, preshared_key))
