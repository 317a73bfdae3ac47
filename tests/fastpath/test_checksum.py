"""The internet checksum (RFC 1071), which takes long parts in a way of their own."""

from __future__ import annotations

import random
import struct

import pytest

from tunnel._fastpath import offload

from .rig import checksum

IP = 20
FIELD = 16  # of TCP's header
LONGEST = 65_535


def completed(body: bytes) -> int:
    """The checksum that the packet path fills into `body` behind an IPv4 header."""
    packet = bytes(IP) + body
    header = struct.pack("=BBHHHH", 1, 0, 0, 0, IP, FIELD)
    made = offload.complete(header, packet)
    assert made is not None
    assert made[: IP + FIELD] == packet[: IP + FIELD]
    assert made[IP + FIELD + 2 :] == packet[IP + FIELD + 2 :]
    return int.from_bytes(made[IP + FIELD : IP + FIELD + 2], "big")


@pytest.mark.parametrize("kind", ["zeros", "ones", "random"])
def test_every_length_up_to_several_registers(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    lengths = [*range(FIELD + 2, 400), 1399, 1400, 1401, LONGEST - IP]
    for length in lengths:
        fill = {"zeros": bytes(length), "ones": b"\xff" * length}
        body = fill.get(kind) or rng.randbytes(length)
        assert completed(body) == checksum(body), length


@pytest.mark.parametrize("odd", [0, 1])
def test_one_byte_anywhere_counts(odd: int) -> None:
    length = 4 * 64 + 7 + odd
    for at in range(FIELD + 2, length):
        body = bytes(at) + b"\xa5" + bytes(length - at - 1)
        assert completed(body) == checksum(body), at
