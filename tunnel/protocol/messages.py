"""The four messages on the wire (WireGuard paper 5.4): layout, pack and unpack.

The type is one byte and three reserved zero bytes, read as one little-endian word, so
that non-zero reserved bytes are an unknown type (R1). Lengths are exact.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from tunnel.constants import (
    MESSAGE_COOKIE_REPLY_SIZE,
    MESSAGE_DATA_MIN_SIZE,
    MESSAGE_INITIATION_SIZE,
    MESSAGE_RESPONSE_SIZE,
)

TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_COOKIE_REPLY: Final = 3
TYPE_DATA: Final = 4

_WORD = Struct("<I")
_INITIATION = Struct("<II32s48s28s")
_RESPONSE = Struct("<III32s16s")
_COOKIE_REPLY = Struct("<II24s32s")
_DATA_HEADER = Struct("<IIQ")


class Initiation(NamedTuple):
    """Type 1, without its two macs: see `cookie` for those."""

    sender: int
    ephemeral: bytes
    encrypted_static: bytes
    encrypted_timestamp: bytes

    def pack(self) -> bytes:
        """The 116 bytes that mac1 covers."""
        return _INITIATION.pack(TYPE_INITIATION, *self)


class Response(NamedTuple):
    """Type 2, without its two macs."""

    sender: int
    receiver: int
    ephemeral: bytes
    encrypted_nothing: bytes

    def pack(self) -> bytes:
        """The 60 bytes that mac1 covers."""
        return _RESPONSE.pack(TYPE_RESPONSE, *self)


class CookieReply(NamedTuple):
    """Type 3; `receiver` is the sender index of the message that it answers."""

    receiver: int
    nonce: bytes
    encrypted_cookie: bytes

    def pack(self) -> bytes:
        return _COOKIE_REPLY.pack(TYPE_COOKIE_REPLY, *self)


class DataHeader(NamedTuple):
    """The first 16 bytes of type 4; ciphertext and tag follow (R3)."""

    receiver: int
    counter: int

    def pack(self) -> bytes:
        return _DATA_HEADER.pack(TYPE_DATA, *self)


Message = Initiation | Response | CookieReply | DataHeader


def unpack(data: bytes) -> Message | None:
    """The message in a datagram, or None if it is none of the four (R1)."""
    size = len(data)
    if size < MESSAGE_DATA_MIN_SIZE:
        return None
    kind = _WORD.unpack_from(data)[0]
    if kind == TYPE_INITIATION and size == MESSAGE_INITIATION_SIZE:
        return Initiation(*_INITIATION.unpack_from(data)[1:])
    if kind == TYPE_RESPONSE and size == MESSAGE_RESPONSE_SIZE:
        return Response(*_RESPONSE.unpack_from(data)[1:])
    if kind == TYPE_COOKIE_REPLY and size == MESSAGE_COOKIE_REPLY_SIZE:
        return CookieReply(*_COOKIE_REPLY.unpack_from(data)[1:])
    if kind == TYPE_DATA:
        return DataHeader(*_DATA_HEADER.unpack_from(data)[1:])
    return None
