"""What either end of a handshake holds: keys, running states, fields of messages.

What is secret lives in memory that is wiped: `SymmetricState`, `PrivateKey`,
`SharedSecret`. The two transport keys are `bytes`, and dropped early.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from tunnel._fastpath.symmetric import SymmetricState
from tunnel._fastpath.x25519 import PrivateKey, SharedSecret
from tunnel.constants import CONSTRUCTION, IDENTIFIER
from tunnel.protocol.primitives import hash_of
from tunnel.protocol.together import Results

CHAINING_KEY: Final = hash_of(CONSTRUCTION)


def initial_hash(responder: bytes, prologue: bytes = IDENTIFIER) -> bytes:
    """The running hash once the responder's static key is mixed in (R4)."""
    return hash_of(hash_of(CHAINING_KEY, prologue), responder)


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


class Prepared(Redacted):
    """The curve's part of an initiation."""

    __slots__ = ("ephemeral", "ephemeral_static")

    def __init__(self, ephemeral: PrivateKey, ephemeral_static: SharedSecret) -> None:
        self.ephemeral = ephemeral
        self.ephemeral_static = ephemeral_static


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
