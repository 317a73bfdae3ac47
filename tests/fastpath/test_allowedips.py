"""The routing table against a linear search, its transactions, versions and memory."""

from __future__ import annotations

import gc
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address, ip_interface

import pytest

from tunnel._fastpath.allowedips import (
    AllowedIPs,
    Snapshot,
    fail_allocations_after,
    live_allocations,
)

from .linear_table import LinearTable, random_address, random_prefix


def packed(text: str) -> bytes:
    return ip_address(text).packed


def prefix(text: str) -> tuple[bytes, int]:
    interface = ip_interface(text)
    return interface.packed, interface.network.prefixlen


def table_of(**peers: str) -> AllowedIPs:
    """Peer `p7` owns the prefixes named after it, as value 7."""
    table = AllowedIPs()
    with table.transaction():
        for name, prefixes in peers.items():
            for text in prefixes.split():
                table.insert(*prefix(text), int(name[1:]))
    return table


@pytest.fixture
def allocations() -> Iterator[int]:
    """What is allocated before; the same must be afterwards."""
    gc.collect()
    before = live_allocations()
    yield before
    gc.collect()
    assert live_allocations() == before


# ---- the rules


def test_r53_r59_longest_prefix_over_the_whole_table() -> None:
    table = table_of(p1="10.0.0.0/8 fd00::/16", p2="10.1.0.0/16 fd00:1::/32")
    assert table.lookup(packed("10.2.0.1")) == 1
    # a supernet of peer 1 does not make this address peer 1's
    assert table.lookup(packed("10.1.0.1")) == 2
    assert table.lookup(packed("fd00:1::9")) == 2
    assert table.lookup(packed("fd00:2::9")) == 1
    assert table.lookup(packed("11.0.0.1")) is None
    assert table.lookup(packed("fe80::1")) is None


@pytest.mark.parametrize("text", ["10.9.0.0/16", "0.0.0.0/0", "fd00::7/128", "::/0"])
def test_r71_same_prefix_moves_to_the_other_peer(text: str) -> None:
    table = table_of(p1=text)
    with table.transaction():
        assert table.insert(*prefix(text), 2) == 1
    assert table.lookup(prefix(text)[0]) == 2
    assert len(table) == 1


def test_r71_host_bits_are_masked() -> None:
    table = table_of(p1="192.168.7.9/16 fd00:1:2:3:4:5:6:7/64")
    assert table.lookup(packed("192.168.200.1")) == 1
    assert table.lookup(packed("fd00:1:2:3::")) == 1
    assert table.exact(*prefix("192.168.1.1/16")) == 1
    with table.transaction():
        assert table.insert(*prefix("192.168.255.255/16"), 2) == 1
        assert table.remove(*prefix("fd00:1:2:3:ffff::/64")) == 1
    assert len(table) == 1


def test_r71_default_routes_and_families_are_separate() -> None:
    table = table_of(p4="0.0.0.0/0")
    assert table.lookup(packed("255.255.255.255")) == 4
    assert table.lookup(packed("::")) is None
    with table.transaction():
        table.insert(*prefix("::/0"), 6)
        table.insert(*prefix("::ffff:10.0.0.0/104"), 7)
    assert table.lookup(packed("10.0.0.1")) == 4
    assert table.lookup(packed("::ffff:10.0.0.1")) == 7
    assert table.lookup(packed("2001:db8::1")) == 6


@pytest.mark.parametrize("bits", [32, 128])
def test_every_prefix_length_nested_in_the_one_before(bits: int) -> None:
    table = AllowedIPs()
    address = bytes([0b10101010]) * (bits // 8)
    with table.transaction():
        for cidr in range(bits + 1):
            assert table.insert(address, cidr, cidr + 1) is None
    for cidr in range(bits):
        flipped = int.from_bytes(address, "big") ^ 1 << (bits - 1 - cidr)
        assert table.lookup(flipped.to_bytes(bits // 8, "big")) == cidr + 1
    assert table.lookup(address) == bits + 1


# ---- against the twin


def test_random_changes_match_a_linear_table(seed: int, allocations: int) -> None:
    rng = random.Random(seed)
    table, twin = AllowedIPs(), LinearTable()
    known: list[tuple[bytes, int]] = []
    kept: list[tuple[Snapshot, LinearTable]] = []
    for _ in range(150):
        before = twin.copy()
        table.begin()
        for _ in range(rng.randint(0, 8)):
            where = random_prefix(rng, known)
            assert table.exact(*where) == twin.exact(*where)
            if rng.random() < 0.35 + len(twin.values) / 200:
                assert table.remove(*where) == twin.remove(*where)
            else:
                value = rng.randint(1, 1 << 63)
                assert table.insert(*where, value) == twin.insert(*where, value)
                known.append(where)
        assert len(table) == len(twin.values)
        if rng.random() < 0.2:
            table.abort()
            twin = before
        else:
            table.commit()
        kept.append((table.snapshot(), twin.copy()))
        if len(kept) > 5:
            kept.pop(rng.randrange(5))
        for version, its_twin in (kept[-1], rng.choice(kept)):
            for _ in range(8):
                address = random_address(rng, known)
                assert version.lookup(address) == its_twin.lookup(address)


# ---- transactions and versions


def test_a_change_is_seen_only_after_the_commit() -> None:
    table = table_of(p1="10.0.0.0/8")
    table.begin()
    table.insert(*prefix("10.0.0.0/8"), 2)
    assert table.exact(*prefix("10.0.0.0/8")) == 2
    assert table.lookup(packed("10.0.0.1")) == 1
    table.abort()
    assert table.exact(*prefix("10.0.0.0/8")) == 1
    with pytest.raises(KeyError), table.transaction():
        table.insert(*prefix("10.0.0.0/8"), 3)
        raise KeyError
    assert table.lookup(packed("10.0.0.1")) == 1


def test_transactions_must_be_opened_once() -> None:
    table = AllowedIPs()
    for call in (table.commit, table.abort):
        with pytest.raises(RuntimeError, match="no transaction"):
            call()
    with pytest.raises(RuntimeError, match="no transaction"):
        table.insert(bytes(4), 0, 1)
    with pytest.raises(RuntimeError, match="no transaction"):
        table.remove(bytes(4), 0)
    table.begin()
    with pytest.raises(RuntimeError, match="open already"):
        table.begin()
    with pytest.raises(TypeError):
        Snapshot()


def test_snapshots_stay_as_they_were(seed: int, allocations: int) -> None:
    rng = random.Random(seed)
    addresses = rng.randbytes(4 * 500)
    table = AllowedIPs()
    kept = []
    for generation in range(1, 40):
        with table.transaction():
            for _ in range(50):
                table.insert(rng.randbytes(4), rng.randint(0, 12), generation)
                table.remove(rng.randbytes(4), rng.randint(0, 12))
        kept.append((table.snapshot(), table.lookup_many(addresses)))
    del table
    rng.shuffle(kept)
    while kept:
        for snapshot, found in kept[::5]:
            assert snapshot.lookup_many(addresses) == found
        kept.pop()


def test_a_snapshot_may_outlive_very_many_commits(allocations: int) -> None:
    table = table_of(p1="10.0.0.0/8")
    snapshot = table.snapshot()
    for value in range(1, 50_000):
        with table.transaction():
            table.insert(*prefix("10.0.0.0/8"), value)
    assert live_allocations() - allocations >= 50_000
    assert snapshot.lookup(packed("10.1.1.1")) == 1
    del snapshot
    gc.collect()
    assert live_allocations() - allocations == 2


@pytest.mark.parametrize("readers", [3])
def test_readers_see_whole_commits_while_a_writer_works(
    seed: int, readers: int, allocations: int
) -> None:
    """All 64 marked prefixes carry one number per version, whatever else changes."""
    rng = random.Random(seed)
    marked = [(bytes([10, i, 0, 1]), 32) for i in range(64)]
    addresses = b"".join(address for address, _ in marked) * 50
    table = AllowedIPs()
    stop = threading.Event()

    def write(number: int) -> None:
        with table.transaction():
            for where in marked:
                table.insert(*where, number)
            for _ in range(4):
                table.insert(rng.randbytes(4), rng.randint(8, 31), number)
                table.remove(rng.randbytes(4), rng.randint(8, 31))

    def read(versions: set[int | None]) -> None:
        while not stop.is_set():
            found = set(table.snapshot().lookup_many(addresses))
            assert len(found) == 1
            versions |= found

    write(1)
    with ThreadPoolExecutor(readers) as pool:
        seen: list[set[int | None]] = [set() for _ in range(readers)]
        results = [pool.submit(read, versions) for versions in seen]
        number, deadline = 2, time.monotonic() + 60
        try:
            while number < 3000 or (
                min(map(len, seen)) < 2 and time.monotonic() < deadline
            ):
                write(number)
                number += 1
        finally:
            stop.set()
        for result in results:
            result.result()
        assert min(map(len, seen)) > 1


# ---- memory


def test_removing_a_peers_prefixes_frees_the_nodes(seed: int, allocations: int) -> None:
    """wireguard-go f9b48a9: the trie kept the nodes of removed peers."""
    rng = random.Random(seed)
    sizes = (4, 16)
    where = [
        (address, rng.randint(0, 8 * len(address)))
        for address in (rng.randbytes(rng.choice(sizes)) for _ in range(5000))
    ]
    table = AllowedIPs()
    with table.transaction():
        for address, cidr in where:
            table.insert(address, cidr, 1)
    rng.shuffle(where)
    for at in range(0, len(where), 100):
        with table.transaction():
            for address, cidr in where[at : at + 100]:
                table.remove(address, cidr)
    assert (len(table), table.memory) == (0, 0)
    assert live_allocations() - allocations == 1  # the table itself


@pytest.mark.parametrize("count", [100_000, 1_000_000])
def test_one_change_among_many_prefixes_copies_one_path(
    seed: int, count: int, allocations: int
) -> None:
    rng = random.Random(seed)
    random_bytes = rng.randbytes(count * 4)
    where = [(random_bytes[i : i + 4], 16 + i % 17) for i in range(0, count * 4, 4)]
    table = AllowedIPs()
    with table.transaction():
        for address, cidr in where:
            table.insert(address, cidr, cidr)
    assert len(table) > count * 0.9
    assert table.memory / len(table) < 100
    for value, (address, cidr) in enumerate(rng.sample(where, 100), start=1000):
        before = table.snapshot()
        old = table.exact(address, cidr)
        nodes = live_allocations()
        with table.transaction():
            assert table.insert(address, cidr, value) == old
        assert 0 < live_allocations() - nodes <= 6  # 32 bits in steps of 6
        assert before.lookup(address) != value
        assert table.exact(address, cidr) == value


def test_without_memory_the_table_stays_as_it_was(allocations: int) -> None:
    """The C driver goes through every allocation; this is about the exception."""
    table = table_of(p1="10.0.0.0/8 10.1.0.0/16 fd00::/8")
    table.begin()
    fail_allocations_after(0)
    try:
        with pytest.raises(MemoryError):
            table.insert(*prefix("10.2.0.0/16"), 2)
        with pytest.raises(MemoryError):
            table.remove(*prefix("10.1.0.0/16"))
        with pytest.raises(MemoryError):
            AllowedIPs()
        assert table.exact(*prefix("10.1.0.0/16")) == 1
        table.commit()
    finally:
        fail_allocations_after(-1)
    assert (len(table), table.lookup(packed("10.1.0.1"))) == (3, 1)


# ---- arguments


@pytest.mark.parametrize(
    ("address", "cidr", "value", "name"),
    [
        (b"", 0, 1, "address"),
        (bytes(5), 0, 1, "address"),
        (bytes(17), 0, 1, "address"),
        (bytes(4), 33, 1, "cidr"),
        (bytes(4), -1, 1, "cidr"),
        (bytes(16), 129, 1, "cidr"),
        (bytes(16), 1 << 70, 1, "cidr"),
        (bytes(4), 0, 0, "value"),
        (bytes(4), 0, -1, "value"),
        (bytes(4), 0, (1 << 63) + 1, "value"),
    ],
)
def test_wrong_arguments_are_named(
    address: bytes, cidr: int, value: int, name: str
) -> None:
    table = AllowedIPs()
    with pytest.raises(ValueError, match=rf"^{name}: "), table.transaction():
        table.insert(address, cidr, value)
    if name != "value":
        with pytest.raises(ValueError, match=rf"^{name}: "), table.transaction():
            table.remove(address, cidr)
        with pytest.raises(ValueError, match=rf"^{name}: "):
            table.exact(address, cidr)
    if name == "address":
        with pytest.raises(ValueError, match=r"^address: "):
            table.lookup(address)
    assert len(table) == 0


def test_lookup_many_and_bench_lookup_check_their_sizes() -> None:
    table = table_of(p1="10.0.0.0/8 fd00::/8")
    found = table.lookup_many(packed("10.0.0.1") + packed("11.0.0.1"))
    assert found == [1, None]
    assert table.lookup_many(packed("fd00::1"), width=16) == [1]
    assert table.lookup_many(b"") == []
    with pytest.raises(ValueError, match=r"^addresses: "):
        table.lookup_many(bytes(17), width=16)
    with pytest.raises(ValueError, match=r"^width: "):
        table.lookup_many(bytes(16), width=8)
    with pytest.raises(ValueError, match=r"^addresses: "):
        table.bench_lookup(b"", 1)
    with pytest.raises(ValueError, match=r"^rounds: "):
        table.bench_lookup(bytes(4), 0)
    assert table.bench_lookup(bytes(4000), 2) > 0
    assert table.bench_lookup(bytes(4000), 2, dependent=True) > 0
