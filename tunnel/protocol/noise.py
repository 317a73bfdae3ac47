"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (paper 5.4.2, 5.4.3).

    <- s
    ******
    -> e, es, s, ss, {t}
    <- e, ee, se, psk, {}

`create_*` make the encrypted fields of a message, `consume_*` check them. A consume
function changes nothing that its caller holds (R15); it returns what is to be kept, or
raises HandshakeError. Indices, macs and time are not known here.

Each of them has its `*_steps`, which is the same for many at a time (`together`).
"""

from __future__ import annotations

from collections.abc import Callable

from tunnel._fastpath.symmetric import SymmetricState
from tunnel._fastpath.x25519 import PrivateKey, SharedSecret
from tunnel.protocol.noise_state import (
    CHAINING_KEY,
    Consumed,
    Identity,
    Initiated,
    InitiationFields,
    Prepared,
    Redacted,
    Remote,
    ResponseFields,
    SessionKeys,
    initial_hash,
)
from tunnel.protocol.primitives import HandshakeError
from tunnel.protocol.together import Pair, Results, Steps, run

__all__ = [
    "Consumed",
    "Identity",
    "Initiated",
    "InitiationFields",
    "Prepared",
    "Redacted",
    "Remote",
    "ResponseFields",
    "SessionKeys",
    "consume_initiation",
    "consume_initiation_steps",
    "consume_response",
    "consume_response_steps",
    "create_initiation",
    "create_response",
    "create_response_steps",
    "initial_hash",
    "prepare_initiation_steps",
    "write_initiation",
]


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
    state = SymmetricState(CHAINING_KEY, remote.hash)
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
    state = SymmetricState(CHAINING_KEY, identity.hash)
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
