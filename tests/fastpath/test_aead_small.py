"""Batches of small packets, which a kernel may take many at a time.

Every length of at most one block of ChaCha20 and batches around the sizes of groups,
against the scalar kernel and the library `cryptography`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tunnel._fastpath import aead

from .parts import TAG, Guarded, Job, Kernel, get, put

KEY = bytes(range(32))
BLOCK = 64
PAGE = 4096
CANARY = b"\xa5"
COUNTS = (
    *(2, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 21, 24, 25, 31, 32, 33),
    *(40, 41, 48, 63, 64, 65, 200),
)
AREAS = 41


def library(plain: bytes, counter: int) -> bytes:
    nonce = bytes(4) + counter.to_bytes(8, "little")
    return ChaCha20Poly1305(KEY).encrypt(nonce, plain, None)


def flipped(rng: random.Random, packet: bytes) -> bytes:
    """With one bit of text or tag changed."""
    bad = bytearray(packet)
    bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
    return bytes(bad)


@pytest.fixture
def areas() -> Iterator[list[Guarded]]:
    """A source and a destination for each packet."""
    found = [Guarded(PAGE) for _ in range(2 * AREAS)]
    yield found
    for area in found:
        area.close()


@pytest.mark.parametrize("length", range(BLOCK + 2))
def test_every_length(kernel_name: str, seed: int, length: int) -> None:
    rng = random.Random(seed)
    for count in (5, 8, 9, 16, 17, 24, 40):
        plain = [rng.randbytes(length) for _ in range(count)]
        counters = [rng.getrandbits(64) for _ in range(count)]
        expected = [library(p, c) for p, c in zip(plain, counters, strict=True)]
        assert aead.seal_batch(KEY, plain, counters, kernel=kernel_name) == expected
        assert aead.open_batch(KEY, expected, counters, kernel=kernel_name) == plain


@pytest.mark.parametrize("count", COUNTS)
def test_mixed_lengths_and_counters(kernel_name: str, seed: int, count: int) -> None:
    """Counters about to wrap in their lower or upper half; many packets forged."""
    rng = random.Random(seed)
    for _ in range(20):
        plain = [rng.randbytes(rng.randrange(BLOCK + 1)) for _ in range(count)]
        start = rng.choice((0, 2**32, 2**63, 2**64)) - rng.randrange(count)
        counters = [(start + i) % 2**64 for i in range(count)]
        sealed = aead.seal_batch(KEY, plain, counters, kernel="scalar")
        assert aead.seal_batch(KEY, plain, counters, kernel=kernel_name) == sealed
        forged = {i for i in range(count) if rng.randrange(3) == 0}
        packets = [flipped(rng, p) if i in forged else p for i, p in enumerate(sealed)]
        opened = aead.open_batch(KEY, packets, counters, kernel=kernel_name)
        assert opened == [None if i in forged else p for i, p in enumerate(plain)]


@pytest.mark.parametrize("length", [0, 1, 16, 47, 48, 63, 64])
@pytest.mark.parametrize("count", [8, 16, 22, 25])
def test_one_forged_packet_in_each_place(
    kernel_name: str, seed: int, length: int, count: int
) -> None:
    rng = random.Random(seed)
    plain = [rng.randbytes(length) for _ in range(count)]
    counters = list(range(count))
    sealed = aead.seal_batch(KEY, plain, counters, kernel="scalar")
    for place in range(count):
        bad = flipped(rng, sealed[place])
        packets = [*sealed[:place], bad, *sealed[place + 1 :]]
        opened = aead.open_batch(KEY, packets, counters, kernel=kernel_name)
        assert opened == [*plain[:place], None, *plain[place + 1 :]]


def test_every_bit_of_a_tag_counts(kernel_name: str, seed: int) -> None:
    rng = random.Random(seed)
    count = 8 * TAG
    plain = [rng.randbytes(BLOCK) for _ in range(count)]
    sealed = aead.seal_batch(KEY, plain, range(count), kernel="scalar")
    packets = []
    for bit, packet in enumerate(sealed):
        tag = int.from_bytes(packet[-TAG:], "little") ^ 1 << bit
        packets.append(packet[:-TAG] + tag.to_bytes(TAG, "little"))
    opened = aead.open_batch(KEY, packets, range(count), kernel=kernel_name)
    assert opened == [None] * count


@pytest.mark.parametrize("large", [65, 100, 1420])
def test_small_packets_around_larger_ones(
    kernel_name: str, seed: int, large: int
) -> None:
    rng = random.Random(seed)
    for front in (*range(34), 48):
        sizes = [*[rng.randrange(BLOCK + 1) for _ in range(front)], large]
        sizes += [rng.choice((large, rng.randrange(BLOCK + 1))) for _ in range(20)]
        plain = [rng.randbytes(size) for size in sizes]
        counters = range(len(sizes))
        sealed = aead.seal_batch(KEY, plain, counters, kernel="scalar")
        assert aead.seal_batch(KEY, plain, counters, kernel=kernel_name) == sealed
        bad = rng.randrange(len(sizes))
        packets = [flipped(rng, p) if i == bad else p for i, p in enumerate(sealed)]
        opened = aead.open_batch(KEY, packets, counters, kernel=kernel_name)
        assert opened == [None if i == bad else p for i, p in enumerate(plain)]


class Field:
    """Packets against forbidden pages, each side of each in a page of its own."""

    def __init__(
        self, areas: list[Guarded], sizes: list[int], side: str, in_place: bool
    ) -> None:
        self.sizes = sizes
        self._side = side
        self._used = areas[: 2 * len(sizes)]
        for area in self._used:
            area.fill(CANARY[0])
        self.sealed_at = [
            self._place(area, size + TAG)
            for area, size in zip(self._used[::2], sizes, strict=True)
        ]
        self.plain_at = [
            self._place(area, size)
            for area, size in zip(self._used[1::2], sizes, strict=True)
        ]
        if in_place:
            self.plain_at = self.sealed_at

    def _place(self, area: Guarded, size: int) -> int:
        return area.end - size if self._side == "behind" else area.start

    def jobs(self, *, seal: bool) -> list[Job]:
        ends = zip(self.plain_at, self.sealed_at, self.sizes, strict=True)
        return [
            (plain, sealed, size, i) if seal else (sealed, plain, size, i)
            for i, (plain, sealed, size) in enumerate(ends)
        ]

    def put_plain(self, texts: list[bytes]) -> None:
        for at, text in zip(self.plain_at, texts, strict=True):
            put(at, text)

    def plain(self) -> list[bytes]:
        return [get(at, n) for at, n in zip(self.plain_at, self.sizes, strict=True)]

    def sealed(self) -> list[bytes]:
        ends = zip(self.sealed_at, self.sizes, strict=True)
        return [get(at, n + TAG) for at, n in ends]

    def beside(self) -> bytes:
        """What lies in the pages where no packet is."""
        found = []
        for i, size in enumerate(self.sizes):
            for area, length in zip(
                self._used[2 * i : 2 * i + 2], (size + TAG, size), strict=True
            ):
                at = self._place(area, length)
                found.append(get(area.start, at - area.start))
                found.append(get(at + length, area.end - at - length))
        return b"".join(found)


@pytest.mark.parametrize("side", ["front", "behind"])
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copy"])
@pytest.mark.parametrize("count", [5, 8, 9, 16, 23, AREAS])
def test_nothing_outside_the_packets_is_touched(
    kernel: Kernel,
    areas: list[Guarded],
    seed: int,
    side: str,
    in_place: bool,
    count: int,
) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        sizes = [rng.choice((BLOCK, rng.randrange(BLOCK + 1))) for _ in range(count)]
        plain = [rng.randbytes(size) for size in sizes]
        packets = [library(text, i) for i, text in enumerate(plain)]
        field = Field(areas, sizes, side, in_place)
        field.put_plain(plain)
        kernel.seal(KEY, field.jobs(seal=True))
        assert field.sealed() == packets
        assert set(field.beside()) == set(CANARY)

        forged = {i for i in range(count) if rng.randrange(4) == 0}
        for i in forged:
            packets[i] = flipped(rng, packets[i])
            put(field.sealed_at[i], packets[i])
        if not in_place:
            field.put_plain([CANARY * size for size in sizes])
        verdicts = kernel.open(KEY, field.jobs(seal=False))
        assert verdicts == [i not in forged for i in range(count)]
        assert set(field.beside()) == set(CANARY)
        for i, left in enumerate(field.plain()):
            nothing = bytes(sizes[i])
            if i not in forged:
                assert left == plain[i]
            else:
                assert left == nothing or (in_place and left == packets[i][:-TAG])
        if not in_place:
            assert field.sealed() == packets
