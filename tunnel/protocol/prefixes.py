"""A set of address prefixes that is asked for every handshake message."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

Prefix = tuple[bytes, int]  # packed address with the host bits zero, prefix length


class PrefixSet(tuple[Prefix, ...]):  # noqa: SLOT001 - tuples have no slots
    """The tuple of its prefixes, equal to any other one, with a fast look-up.

    Made where there is time, in the thread that reads a configuration: a list of a
    million prefixes takes seconds. A look-up costs one set for each different length.
    """

    _by_length: dict[int, tuple[tuple[int, set[int]], ...]]

    def __new__(cls, prefixes: Iterable[Prefix] = ()) -> Self:
        self = super().__new__(cls, prefixes)
        found: dict[int, dict[int, set[int]]] = {4: {}, 16: {}}
        for address, length in self:
            shift = 8 * len(address) - length
            networks = found[len(address)].setdefault(shift, set())
            networks.add(int.from_bytes(address, "big") >> shift)
        self._by_length = {size: tuple(sets.items()) for size, sets in found.items()}
        return self

    @classmethod
    def of(cls, prefixes: Iterable[Prefix]) -> PrefixSet:
        """What is one already is not made again."""
        return prefixes if isinstance(prefixes, PrefixSet) else cls(prefixes)

    def holds(self, address: bytes) -> bool:
        """Whether a packed address lies in one of them."""
        number = int.from_bytes(address, "big")
        for shift, networks in self._by_length[len(address)]:
            if number >> shift in networks:
                return True
        return False
