"""What a kernel reads and writes: alignment, lanes, overlap and forbidden pages.

Kernels are called here as the packet pump calls them, with any pointers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .parts import TAG, Guarded, Kernel, Parts, get, put

KEY = bytes(range(100, 132))
CANARY = 0xA5
ROOM = 8192
LANES = 40


def expected(plain: bytes, counter: int) -> bytes:
    nonce = bytes(4) + counter.to_bytes(8, "little")
    return ChaCha20Poly1305(KEY).encrypt(nonce, plain, None)


@pytest.fixture
def areas() -> Iterator[list[Guarded]]:
    """Guarded areas: a source and a destination for each lane."""
    found = [Guarded(ROOM) for _ in range(2 * LANES)]
    yield found
    for area in found:
        area.close()


def test_the_guards_stand(areas: list[Guarded]) -> None:
    lines = Path("/proc/self/maps").read_text().splitlines()
    forbidden = []
    for line in lines:
        span, rights = line.split()[:2]
        start, end = (int(part, 16) for part in span.split("-"))
        if rights.startswith("---"):
            forbidden.append((start, end))
    for area in areas:
        for address in (area.start - 1, area.end):
            assert any(start <= address < end for start, end in forbidden)


def test_every_alignment(kernel: Kernel, areas: list[Guarded], seed: int) -> None:
    """Also: nothing beside the packet is written."""
    rng = random.Random(seed)
    source, target = areas[0], areas[1]
    for align in range(64):
        for length in (0, 1, 31, 64, 100, 257, 600, 1420):
            plain, counter = rng.randbytes(length), rng.getrandbits(64)
            packet = expected(plain, counter)
            src, dst = source.start + align, target.start + rng.randrange(64)
            target.fill(CANARY)
            put(src, plain)
            kernel.seal(KEY, [(src, dst, length, counter)])
            around = length + TAG + 128
            before = dst - target.start
            assert get(target.start, around) == (
                bytes([CANARY]) * before
                + packet
                + bytes([CANARY]) * (around - before - len(packet))
            )
            assert get(src, length) == plain

            source.fill(CANARY)
            assert kernel.open(KEY, [(dst, src, length, counter)]) == [True]
            assert get(source.start, length + 128) == (
                bytes([CANARY]) * align + plain + bytes([CANARY]) * (128 - align)
            )
            assert get(dst, len(packet)) == packet


@pytest.mark.parametrize("side", ["front", "behind"])
@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copy"])
@pytest.mark.parametrize("lanes", [1, 2, 8, 9, 17, LANES])
def test_nothing_outside_the_packet_is_touched(
    kernel: Kernel,
    areas: list[Guarded],
    seed: int,
    side: str,
    in_place: bool,
    lanes: int,
) -> None:
    """Each packet ends, or begins, where an access would be a segmentation fault."""
    rng = random.Random(seed)
    lengths = [*range(lanes), *range(56, 72), *range(248, 264), 511, 1420, 1421, 4096]
    for round_ in range(len(lengths) if lanes == 1 else 40):
        sizes = [rng.choice(lengths) for _ in range(lanes)]
        if lanes == 1:
            sizes = [lengths[round_]]
        plain = [rng.randbytes(n) for n in sizes]
        counters = [rng.getrandbits(64) for _ in sizes]
        packets = [expected(p, c) for p, c in zip(plain, counters, strict=True)]

        def place(area: Guarded, size: int) -> int:
            return area.end - size if side == "behind" else area.start

        sealing, opening = [], []
        for lane, (size, counter) in enumerate(zip(sizes, counters, strict=True)):
            source, target = areas[2 * lane], areas[2 * lane + 1]
            sealed_at = place(target, size + TAG)
            plain_at = sealed_at if in_place else place(source, size)
            sealing.append((plain_at, sealed_at, size, counter))
            opening.append((sealed_at, plain_at, size, counter))
        for job, text in zip(sealing, plain, strict=True):
            put(job[0], text)
        kernel.seal(KEY, sealing)
        assert [get(job[1], job[2] + TAG) for job in sealing] == packets
        for job in opening:
            if not in_place:
                put(job[1], bytes([CANARY]) * job[2])
        assert kernel.open(KEY, opening) == [True] * lanes
        assert [get(job[1], job[2]) for job in opening] == plain


@pytest.mark.parametrize("side", ["front", "behind"])
@pytest.mark.parametrize("lanes", [1, 8])
def test_every_length_beside_a_forbidden_page(
    kernel: Kernel, areas: list[Guarded], seed: int, side: str, lanes: int
) -> None:
    rng = random.Random(seed)
    sizes = range(1540) if lanes == 1 else [*range(600), 1408, 1420, 1424]
    for size in sizes:
        plain = [rng.randbytes(size) for _ in range(lanes)]
        packets = [expected(text, counter) for counter, text in enumerate(plain)]
        jobs = []
        for lane, area in enumerate(areas[:lanes]):
            at = area.end - size - TAG if side == "behind" else area.start
            put(at, plain[lane])
            jobs.append((at, at, size, lane))
        kernel.seal(KEY, jobs)
        assert [get(at, size + TAG) for at, _, _, _ in jobs] == packets
        assert kernel.open(KEY, jobs) == [True] * lanes
        assert [get(at, size) for at, _, _, _ in jobs] == plain


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copy"])
@pytest.mark.parametrize("lanes", [1, 2, 3, 7, 8, 9, 15, 16, 17, LANES])
def test_forged_plaintext_never_appears(
    kernel: Kernel, areas: list[Guarded], seed: int, in_place: bool, lanes: int
) -> None:
    rng = random.Random(seed)
    sizes = [rng.choice((0, 1, 64, 300, 1420)) for _ in range(lanes)]
    plain = [rng.randbytes(n) for n in sizes]
    packets = [expected(p, c) for c, p in enumerate(plain)]
    for forged in range(lanes):
        jobs = []
        bad = bytearray(packets[forged])
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        for lane, size in enumerate(sizes):
            source, target = areas[2 * lane], areas[2 * lane + 1]
            put(source.start, bytes(bad) if lane == forged else packets[lane])
            target.fill(CANARY)
            to = source.start if in_place else target.start
            jobs.append((source.start, to, size, lane))
        verdicts = kernel.open(KEY, jobs)
        assert verdicts == [lane != forged for lane in range(lanes)]
        for lane, (_, to, size, _) in enumerate(jobs):
            left = get(to, size)
            if lane != forged:
                assert left == plain[lane]
            elif in_place:
                assert left in (bytes(bad[:size]), bytes(size))
            else:
                assert left == bytes(size)


@pytest.mark.parametrize("in_place", [True, False], ids=["in place", "copy"])
def test_one_packet_alone_of_every_length(
    kernel: Kernel, areas: list[Guarded], seed: int, in_place: bool
) -> None:
    """Good and forged. A kernel may have several ways for it, by its length."""
    rng = random.Random(seed)
    for size in range(1540):
        plain, counter = rng.randbytes(size), rng.getrandbits(64)
        packet = expected(plain, counter)
        sealed_at = areas[0].end - size - TAG
        plain_at = sealed_at if in_place else areas[1].end - size
        put(plain_at, plain)
        kernel.seal(KEY, [(plain_at, sealed_at, size, counter)])
        assert get(sealed_at, size + TAG) == packet

        bad = bytearray(packet)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        for text in (bytes(bad), packet):
            if not in_place:
                put(plain_at, bytes([CANARY]) * size)
            put(sealed_at, text)
            good = kernel.open(KEY, [(sealed_at, plain_at, size, counter)])
            assert good == [text == packet]
            left = get(plain_at, size)
            if text == packet:
                assert left == plain
            elif in_place:
                assert left in (text[:size], bytes(size))
            else:
                assert left == bytes(size)
            assert get(sealed_at + size, TAG) == text[size:]


def test_nothing_secret_is_left_on_the_stack(parts: Parts, seed: int) -> None:
    rng = random.Random(seed)
    key = rng.randbytes(32)
    for length in (0, 16, 100, 1420):
        packet = rng.randbytes(length + TAG)
        for what in (0, 1):
            assert parts.residue(key, rng.getrandbits(64), packet, what) == 0


def test_the_search_for_secrets_on_the_stack_finds_some(parts: Parts) -> None:
    assert parts.residue(bytes(range(32)), 1, bytes(32), 2) >= 1
