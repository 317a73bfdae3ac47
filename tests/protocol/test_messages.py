"""Layout of the four messages, and what is none of them."""

from __future__ import annotations

import random

import pytest

from tunnel import constants as c
from tunnel.protocol.messages import (
    CookieReply,
    DataHeader,
    Initiation,
    Message,
    Response,
    unpack,
)
from tunnel.protocol.path import PathEvent

MACS = bytes(range(32))


def examples(rng: random.Random) -> list[tuple[Message, bytes]]:
    """Each message and its datagram."""
    index, other = rng.getrandbits(32), rng.getrandbits(32)
    initiation = Initiation(index, *(rng.randbytes(n) for n in (32, 48, 28)))
    response = Response(index, other, rng.randbytes(32), rng.randbytes(16))
    cookie = CookieReply(index, rng.randbytes(24), rng.randbytes(32))
    data = DataHeader(index, rng.getrandbits(64))
    return [
        (initiation, initiation.pack() + MACS),
        (response, response.pack() + MACS),
        (cookie, cookie.pack()),
        (data, data.pack() + rng.randbytes(16)),
    ]


def test_r1_sizes_and_round_trip(seed: int) -> None:
    sizes = []
    for message, datagram in examples(random.Random(seed)):
        assert unpack(datagram) == message
        sizes.append(len(datagram))
    assert sizes == [
        c.MESSAGE_INITIATION_SIZE,
        c.MESSAGE_RESPONSE_SIZE,
        c.MESSAGE_COOKIE_REPLY_SIZE,
        c.MESSAGE_DATA_MIN_SIZE,
    ]


def test_r1_lengths_are_exact(seed: int) -> None:
    for message, datagram in examples(random.Random(seed)):
        for cut in range(1, len(datagram)):
            shorter = unpack(datagram[:-cut])
            assert shorter is None or isinstance(message, DataHeader)
        longer = unpack(datagram + b"\0")
        assert (longer is None) != isinstance(message, DataHeader)
    assert unpack(b"") is None
    assert unpack(DataHeader(1, 2).pack() + bytes(15)) is None


@pytest.mark.parametrize("byte", [1, 2, 3])
def test_r1_reserved_bytes_are_zero(byte: int, seed: int) -> None:
    for _, datagram in examples(random.Random(seed)):
        changed = bytearray(datagram)
        changed[byte] = 1
        assert unpack(bytes(changed)) is None


@pytest.mark.parametrize("kind", [0, 5, 6, 255])
def test_r1_other_types_are_unknown(kind: int, seed: int) -> None:
    for _, datagram in examples(random.Random(seed)):
        assert unpack(bytes([kind]) + datagram[1:]) is None


def test_r3_data_header_is_little_endian() -> None:
    packed = DataHeader(0x01020304, 0x1112131415161718).pack()
    assert packed.hex() == "04000000040302011817161514131211"


def test_initiation_layout() -> None:
    packed = Initiation(0x01020304, b"e" * 32, b"s" * 48, b"t" * 28).pack()
    expected = bytes.fromhex("0100000004030201") + b"e" * 32 + b"s" * 48 + b"t" * 28
    assert packed == expected
    assert len(packed) + 32 == c.MESSAGE_INITIATION_SIZE


def test_path_events_are_those_of_the_pump() -> None:
    pump = pytest.importorskip("tunnel._fastpath.pump", exc_type=ImportError)
    theirs = {event.name: event.value for event in pump.PathEvent}
    assert theirs == {event.name: event.value for event in PathEvent}
