"""Routing table: nanoseconds per look-up, microseconds per change, bytes per prefix.

Mixes of random prefixes: `ipv4` lengths 16..32 evenly; `hosts6` /128 within one /64;
`routes6` lengths 32..128 evenly within 2001::/16. Every address looked up is inside a
random prefix of the table (131,072 addresses, more than the caches remember).
`extra_info` has the figures of one look-up; `dependent` waits for the one before.

Source checks are those of the packet pump for a batch of one peer's packets: all from
one address, or from as many as there are packets.
"""

from __future__ import annotations

import random
from functools import cache

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tunnel._fastpath.allowedips import AllowedIPs

ADDRESSES = 1 << 17
BATCH = 64
SIZES = [10, 1_000, 100_000, 1_000_000]
MIXES = ["ipv4", "hosts6", "routes6"]

Prefixes = list[tuple[bytes, int]]


def make_prefix(rng: random.Random, mix: str) -> tuple[bytes, int]:
    if mix == "ipv4":
        return rng.randbytes(4), rng.randint(16, 32)
    if mix == "hosts6":
        return b"\xfd" + bytes(7) + rng.randbytes(8), 128
    return b"\x20\x01" + rng.randbytes(14), rng.randint(32, 128)


def inside(rng: random.Random, address: bytes, cidr: int) -> bytes:
    bits = len(address) * 8
    free = bits - cidr
    number = int.from_bytes(address, "big") >> free << free
    return (number | rng.getrandbits(bits) >> cidr).to_bytes(len(address), "big")


@cache
def filled(mix: str, size: int) -> tuple[AllowedIPs, Prefixes, bytes]:
    rng = random.Random(size)
    prefixes = [make_prefix(rng, mix) for _ in range(size)]
    table = AllowedIPs()
    with table.transaction():
        for value, (address, cidr) in enumerate(prefixes, start=1):
            table.insert(address, cidr, value)
    wanted = rng.choices(prefixes, k=ADDRESSES)
    return table, prefixes, b"".join(inside(rng, *where) for where in wanted)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mix", MIXES)
def test_lookup(benchmark: BenchmarkFixture, mix: str, size: int) -> None:
    benchmark.group = f"look-up {mix}"
    benchmark.extra_info["calls"] = ADDRESSES
    table, _, addresses = filled(mix, size)
    width = 4 if mix == "ipv4" else 16
    times = [table.bench_lookup(addresses, 1, width=width) for _ in range(10)]
    chain = [
        table.bench_lookup(addresses, 1, width=width, dependent=True) for _ in range(10)
    ]
    benchmark.extra_info["ns"] = round(min(times), 1)
    benchmark.extra_info["dependent_ns"] = round(min(chain), 1)
    benchmark.extra_info["bytes_per_prefix"] = round(table.memory / len(table), 1)
    benchmark(table.bench_lookup, addresses, 1, width=width)


@pytest.mark.parametrize("senders", [1, BATCH])
@pytest.mark.parametrize("mix", MIXES)
def test_source_check(benchmark: BenchmarkFixture, mix: str, senders: int) -> None:
    """Of a packet, in batches of BATCH; 100,000 prefixes."""
    benchmark.group = f"source check {mix}, {senders} senders in {BATCH} packets"
    benchmark.extra_info["calls"] = ADDRESSES
    table, _, addresses = filled(mix, 100_000)
    width = 4 if mix == "ipv4" else 16
    step = BATCH * width
    if senders == 1:
        addresses = b"".join(
            addresses[at : at + width] * BATCH for at in range(0, len(addresses), step)
        )
    check = table.snapshot().bench_sources
    times = [check(addresses, BATCH, width=width) for _ in range(10)]
    benchmark.extra_info["ns"] = round(min(times), 2)
    benchmark(check, addresses, BATCH, width=width)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mix", MIXES)
def test_one_change(benchmark: BenchmarkFixture, mix: str, size: int) -> None:
    """Begin, remove, insert again, commit, and free the old nodes."""
    benchmark.group = f"change {mix}"
    table, prefixes, _ = filled(mix, size)
    rng = random.Random(1)

    def change() -> None:
        address, cidr = rng.choice(prefixes)
        table.begin()
        value = table.remove(address, cidr) or 1
        table.insert(address, cidr, value)
        table.commit()

    benchmark(change)
