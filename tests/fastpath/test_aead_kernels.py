"""Every kernel against the scalar one, where vector kernels group packets and blocks.

Batches cross their groups of lanes, texts and cached packets in all ways: any number of
packets, equal and mixed lengths, in place and not, with any of them forged. Poly1305 is
driven to the ends of its limbs through whole packets, whose one-time key is computed
here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from tunnel._fastpath import aead

from .parts import TAG, Guarded, Job, Kernel, get, put

P = 2**130 - 5
CLAMP = 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
ONES = 2**128 - 1
ARENA = 4 << 20
SCALAR = Kernel("scalar")


@pytest.fixture
def arena() -> Iterator[Guarded]:
    found = Guarded(ARENA)
    yield found
    found.close()


# ---- batches


@dataclass(frozen=True)
class Packet:
    """A packet, where it lies and where its result goes; in place if both are one."""

    text: bytes
    counter: int
    source: int
    target: int

    def job(self, *, sealed: bool) -> Job:
        length = len(self.text) - TAG if sealed else len(self.text)
        return self.source, self.target, length, self.counter


def lengths(rng: random.Random, count: int) -> list[int]:
    """All equal, all short, one long among short, or anything."""
    kind = rng.randrange(4)
    if kind == 0:
        return [rng.choice((0, 64, 512, 1420, rng.randrange(2000)))] * count
    if kind == 1:
        return [rng.randrange(130) for _ in range(count)]
    if kind == 2:
        long = rng.randrange(count)
        return [
            rng.choice((3000, 9000)) if i == long else rng.randrange(20)
            for i in range(count)
        ]
    return [rng.choice((1420, rng.randrange(1600))) for _ in range(count)]


def lay_out(
    rng: random.Random, arena: Guarded, texts: list[bytes], counters: list[int]
) -> list[Packet]:
    """Puts texts into the arena, at any alignment; the last one ends at its end."""
    packets = []
    at = arena.end
    for text, counter in zip(reversed(texts), reversed(counters), strict=True):
        at -= len(text) + TAG
        source = target = at
        if rng.randrange(2):
            at -= len(text) + TAG + rng.randrange(64)
            source = at
        put(target, b"\xa5" * (len(text) + TAG))
        put(source, text)
        packets.append(Packet(text, counter, source, target))
        at -= rng.randrange(64)
    assert at >= arena.start
    return packets[::-1]


def sealed_by(
    kernel: Kernel, key: bytes, packets: list[Packet], arena: Guarded
) -> list[bytes]:
    for packet in packets:
        put(packet.source, packet.text)
    kernel.seal(key, [packet.job(sealed=False) for packet in packets])
    return [get(p.target, len(p.text) + TAG) for p in packets]


def counter(rng: random.Random) -> int:
    """Any 64-bit number, often where the lower or the upper half is about to wrap."""
    edge = rng.choice((0, 2**32, 2**63, 2**64))
    near = (edge + rng.randrange(-3, 4)) % 2**64
    return rng.choice((near, rng.getrandbits(64)))


@pytest.mark.parametrize("count", [*range(1, 66), 71, 100, 130, 200])
def test_batches_equal_the_scalar_kernel(
    kernel: Kernel, arena: Guarded, seed: int, count: int
) -> None:
    rng = random.Random(seed)
    for _ in range(2):
        key = rng.randbytes(32)
        texts = [rng.randbytes(length) for length in lengths(rng, count)]
        counters = [counter(rng) for _ in texts]
        packets = lay_out(rng, arena, texts, counters)
        expected = sealed_by(SCALAR, key, packets, arena)
        assert sealed_by(kernel, key, packets, arena) == expected

        forged = {i for i in range(count) if rng.randrange(count) < rng.randrange(3)}
        damaged = [bytearray(text) for text in expected]
        for i in forged:
            damaged[i][rng.randrange(len(damaged[i]))] ^= 1 << rng.randrange(8)
        packets = lay_out(rng, arena, [bytes(text) for text in damaged], counters)
        verdicts = kernel.open(key, [packet.job(sealed=True) for packet in packets])
        assert verdicts == [i not in forged for i in range(count)]
        for packet, text, good in zip(packets, texts, verdicts, strict=True):
            left = get(packet.target, len(text))
            if good:
                assert left == text
            elif packet.source == packet.target:
                assert left in (packet.text[: len(text)], bytes(len(text)))
            else:
                assert left == bytes(len(text))


@pytest.mark.parametrize("length", [1420, 512, 64, 0])
@pytest.mark.parametrize("count", [8, 32])
def test_one_forged_packet_in_each_lane_of_a_group(
    kernel_name: str, seed: int, length: int, count: int
) -> None:
    rng = random.Random(seed)
    key = rng.randbytes(32)
    plain = [rng.randbytes(length) for _ in range(count)]
    counters = list(range(count))
    sealed = aead.seal_batch(key, plain, counters, kernel="scalar")
    for lane in range(count):
        bad = bytearray(sealed[lane])
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        packets = [*sealed[:lane], bytes(bad), *sealed[lane + 1 :]]
        opened = aead.open_batch(key, packets, counters, kernel=kernel_name)
        assert opened == [*plain[:lane], None, *plain[lane + 1 :]]


def test_an_empty_batch(kernel: Kernel) -> None:
    kernel.seal(bytes(32), [])
    assert kernel.open(bytes(32), []) == []


def test_a_stream_beyond_many_groups(kernel: Kernel, arena: Guarded, seed: int) -> None:
    rng = random.Random(seed)
    for length in (65519, 65535, 300_001):
        text = rng.randbytes(length)
        packets = lay_out(rng, arena, [b"first", text, b"last"], [1, 2, 3])
        expected = sealed_by(SCALAR, bytes(32), packets, arena)
        assert sealed_by(kernel, bytes(32), packets, arena) == expected


# ---- Poly1305 at the ends of its limbs


def block_zero(key: bytes, counter: int) -> bytes:
    nonce = bytes(8) + counter.to_bytes(8, "little")
    cipher = Cipher(algorithms.ChaCha20(key, nonce), mode=None)
    return cipher.encryptor().update(bytes(64))


def accumulate(h: int, r: int, data: bytes) -> int:
    """RFC 8439 section 2.5.1 for whole blocks, from h on."""
    for start in range(0, len(data), 16):
        block = int.from_bytes(data[start : start + 16], "little") + 2**128
        h = (h + block) * r % P
    return h


def ciphertext_for(
    rng: random.Random, r: int, blocks: int, result: int, fill: int | None
) -> bytes:
    """So many blocks, after which (with their length) the accumulator is `result`.

    All but the last two are `fill` bytes, or random ones.
    """
    end = (16 * blocks << 64) + 2**128
    inverse = pow(r, -1, P)
    wanted = ((result * inverse - end) * inverse) % P  # before the last block's r
    free = b"" if fill is None else bytes([fill]) * (16 * (blocks - 2))
    while True:
        head = free if fill is not None else rng.randbytes(16 * (blocks - 2))
        head += rng.randbytes(16)
        last = (wanted - accumulate(0, r, head)) % P - 2**128
        if 0 <= last <= ONES:  # one in four
            return head + last.to_bytes(16, "little")


ENDS = [
    n + d
    for n in (5, 2**26, 2**44, 2**52, 2**64, 2**78, 2**88, 2**104, 2**128)
    for d in range(-5, 6)
]


SMALL = (2, 3, 4)
SHORT = (*SMALL, 7, 8, 9, 15)
LONG = (33, 40, 41, 42, 43, 64, 88, 90, 91)  # hashed between rounds where it pays
ANY = (*SHORT, 16, 17, *LONG)


@pytest.mark.parametrize("fill", [0x00, 0xFF, None], ids=["zeros", "ones", "random"])
@pytest.mark.parametrize(
    ("sizes", "together"),
    [
        *((ANY, 1000), (SMALL, 1000), (SMALL, 12), (SHORT, 1000), (SHORT, 3)),
        *((LONG, 1000), (LONG, 10), (ANY, 1)),
    ],
    ids=["all", "small", "small-few", "short", "few", "long", "long-few", "alone"],
)
def test_accumulators_at_the_modulus(
    kernel_name: str, seed: int, fill: int | None, sizes: Sequence[int], together: int
) -> None:
    """Before its last reduction such an accumulator is often that number plus p."""
    rng = random.Random(seed)
    key = rng.randbytes(32)
    packets, counters = [], []
    for i, end in enumerate([*ENDS, *(P - n for n in range(1, 30))]):
        secret = block_zero(key, i)
        r = int.from_bytes(secret[:16], "little") & CLAMP
        s = int.from_bytes(secret[16:32], "little")
        text = ciphertext_for(rng, r, rng.choice(sizes), end, fill)
        packets.append(text + (end + s & ONES).to_bytes(TAG, "little"))
        counters.append(i)
    for at in range(0, len(packets), together):
        some, numbers = packets[at : at + together], counters[at : at + together]
        opened = aead.open_batch(key, some, numbers, kernel=kernel_name)
        plain = [text for text in opened if text is not None]
        assert len(plain) == len(some)
        assert aead.seal_batch(key, plain, numbers, kernel=kernel_name) == some


def test_blocks_of_ones_of_every_length(kernel_name: str, seed: int) -> None:
    rng = random.Random(seed)
    key = rng.randbytes(32)
    sizes = [*range(300), 511, 512, 513, 1407, 1408, 1409, 1420, 1424]
    sealed = aead.seal_batch(key, [bytes(n) for n in sizes], sizes, kernel="scalar")
    plain = [bytes(b ^ 0xFF for b in text[:-TAG]) for text in sealed]
    expected = aead.seal_batch(key, plain, sizes, kernel="scalar")
    assert expected[100][:-TAG] == b"\xff" * 100
    for together in (len(sizes), 5, 1):
        for at in range(0, len(sizes), together):
            part = slice(at, at + together)
            sealed = aead.seal_batch(key, plain[part], sizes[part], kernel=kernel_name)
            assert sealed == expected[part]
            opened = aead.open_batch(key, sealed, sizes[part], kernel=kernel_name)
            assert opened == plain[part]
