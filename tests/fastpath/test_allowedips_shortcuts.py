"""Short cuts of the routing table's look-up: shared first bits, the remembered one."""

from __future__ import annotations

import random
from ipaddress import ip_interface

from tunnel._fastpath.allowedips import AllowedIPs, Memo

from .linear_table import LinearTable, random_address, random_prefix


def prefix(text: str) -> tuple[bytes, int]:
    interface = ip_interface(text)
    return interface.packed, interface.network.prefixlen


def test_tables_whose_prefixes_all_begin_alike(seed: int) -> None:
    """The bits that all have in common are skipped, while that is so."""
    rng = random.Random(seed)
    for shared in ("2001:db8::/32", "2001:db8:7:0:8000::/65", "10.77.0.0/16"):
        address, cidr = prefix(shared)
        bits = len(address) * 8
        table, twin = AllowedIPs(), LinearTable()
        outside = (bytes(bits // 8), 0)
        inside = [(address, cidr + 1)]
        for _ in range(40):
            number = int.from_bytes(address, "big") ^ rng.getrandbits(bits) >> cidr
            inside.append((number.to_bytes(bits // 8, "big"), rng.randint(cidr, bits)))
        beside = (bytes([address[0] ^ 0x80]) + address[1:], bits)
        for change in (*inside, outside, beside):
            value = 1 + len(twin.values)
            with table.transaction():
                table.insert(*change, value)
            twin.insert(*change, value)
        for gone in (None, outside, beside, *inside):
            if gone is not None:
                with table.transaction():
                    table.remove(*gone)
                twin.remove(*gone)
            for _ in range(50):
                wanted = random_address(rng, [*inside, beside])
                assert table.lookup(wanted) == twin.lookup(wanted)


def test_every_bit_of_an_address_counts(seed: int) -> None:
    """Also those that no node on the way compares, and the first one of all."""
    rng = random.Random(seed)
    for shared, lengths in (("2001:db8::/64", (128, 127, 90)), ("10.7.0.0/16", (32,))):
        address, cidr = prefix(shared)
        bits = len(address) * 8
        table, twin = AllowedIPs(), LinearTable()
        hosts = [
            int.from_bytes(address, "big") ^ rng.getrandbits(bits - cidr)
            for _ in range(40)
        ]
        with table.transaction():
            for value, host in enumerate(hosts, start=1):
                where = host.to_bytes(bits // 8, "big"), rng.choice(lengths)
                table.insert(*where, value)
                twin.insert(*where, value)
        for host in hosts[:10]:
            for bit in range(bits):
                wanted = (host ^ 1 << bit).to_bytes(bits // 8, "big")
                assert table.lookup(wanted) == twin.lookup(wanted), bit


# ---- the memo


def test_a_memo_finds_what_the_table_has(seed: int) -> None:
    """Same addresses in a row, other families, other versions after `forget`."""
    rng = random.Random(seed)
    table, memo = AllowedIPs(), Memo()
    known: list[tuple[bytes, int]] = []
    twin = LinearTable()
    for version in range(60):
        with table.transaction():
            for _ in range(3):
                where = random_prefix(rng, known)
                known.append(where)
                value = rng.randint(1, 9)
                table.insert(*where, value)
                twin.insert(*where, value)
        snapshot = table.snapshot()
        memo.forget()
        wanted = random_address(rng, known)
        for _ in range(60):
            if rng.random() < 0.4:
                wanted = random_address(rng, known)
            elif rng.random() < 0.2:  # one family's bytes, seen as the other's
                wanted = wanted[:4] if len(wanted) == 16 else wanted + bytes(12)
            assert memo.lookup(snapshot, wanted) == twin.lookup(wanted), version


def test_a_memo_that_is_not_told_to_forget_is_out_of_date() -> None:
    """What the test above would notice; the pump forgets at every batch."""
    table, memo = AllowedIPs(), Memo()
    ten, address = prefix("10.0.0.0/8"), bytes((10, 0, 0, 1))
    with table.transaction():
        table.insert(*ten, 1)
    assert memo.lookup(table.snapshot(), address) == 1
    with table.transaction():
        table.insert(*ten, 2)
    assert memo.lookup(table.snapshot(), address) == 1
    memo.forget()
    assert memo.lookup(table.snapshot(), address) == 2


def test_a_memo_keeps_families_apart() -> None:
    table, memo = AllowedIPs(), Memo()
    with table.transaction():
        table.insert(bytes(4), 0, 4)
        table.insert(bytes(16), 0, 6)
    for address, value in ((bytes(4), 4), (bytes(16), 6), (bytes(4), 4)):
        assert memo.lookup(table.snapshot(), address) == value
