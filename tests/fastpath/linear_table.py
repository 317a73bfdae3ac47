"""The slow twin of the routing table: a dict that is searched from end to end."""

from __future__ import annotations

import random
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

Key = IPv4Network | IPv6Network


def prefix_of(address: bytes, cidr: int) -> Key:
    return ip_network((address, cidr), strict=False)


class LinearTable:
    """Same methods as `AllowedIPs`, without transactions."""

    def __init__(self, values: dict[Key, int] | None = None) -> None:
        self.values = dict(values or {})

    def copy(self) -> LinearTable:
        return LinearTable(self.values)

    def insert(self, address: bytes, cidr: int, value: int) -> int | None:
        key = prefix_of(address, cidr)
        old = self.values.get(key)
        self.values[key] = value
        return old

    def remove(self, address: bytes, cidr: int) -> int | None:
        return self.values.pop(prefix_of(address, cidr), None)

    def exact(self, address: bytes, cidr: int) -> int | None:
        return self.values.get(prefix_of(address, cidr))

    def lookup(self, address: bytes) -> int | None:
        wanted = ip_address(address)
        found = [key for key in self.values if wanted in key]
        if not found:
            return None
        return self.values[max(found, key=lambda key: key.prefixlen)]


def random_address(rng: random.Random, known: list[tuple[bytes, int]]) -> bytes:
    """Often near a known prefix: inside it, beside it, or around it."""
    if not known or rng.random() < 0.1:
        return rng.randbytes(rng.choice((4, 16)))
    address, cidr = rng.choice(known)
    bits = len(address) * 8
    keep = rng.choice((cidr, rng.randint(0, bits)))
    number = int.from_bytes(address, "big") ^ rng.getrandbits(bits) >> keep
    if keep and rng.random() < 0.3:
        number ^= 1 << (bits - keep)
    return number.to_bytes(len(address), "big")


def random_prefix(
    rng: random.Random, known: list[tuple[bytes, int]]
) -> tuple[bytes, int]:
    if known and rng.random() < 0.2:
        return rng.choice(known)
    address = random_address(rng, known)
    bits = len(address) * 8
    return address, rng.choice((0, bits // 2, bits, *[rng.randint(0, bits)] * 5))
