"""Receiver indices of one device: which peer a message on the wire belongs to.

A handshake index and a transport index are distinct kinds (R9) in one space of random
32-bit numbers (R10). The data path has its own table of keypairs; this one says which
numbers are taken, and finds the peer of a response or a cookie reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

P = TypeVar("P")


class IndexTable(Generic[P]):
    """Not thread safe: the control thread owns it."""

    __slots__ = ("_handshakes", "_keypairs", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._handshakes: dict[int, P] = {}
        self._keypairs: dict[int, P] = {}

    def __len__(self) -> int:
        return len(self._handshakes) + len(self._keypairs)

    def _free_index(self, fit: Callable[[int], int] | None) -> int:
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if fit is not None:
                index = fit(index)
            if index not in self._handshakes and index not in self._keypairs:
                return index

    def new_handshake(self, peer: P, fit: Callable[[int], int] | None = None) -> int:
        """`fit` makes of a random number one that suits the peer's packet path."""
        index = self._free_index(fit)
        self._handshakes[index] = peer
        return index

    def new_keypair(self, peer: P, fit: Callable[[int], int] | None = None) -> int:
        index = self._free_index(fit)
        self._keypairs[index] = peer
        return index

    def promote(self, index: int) -> None:
        """The handshake became a keypair under the same number (R23)."""
        self._keypairs[index] = self._handshakes.pop(index)

    def remove(self, index: int) -> None:
        """Idempotent."""
        self._handshakes.pop(index, None)
        self._keypairs.pop(index, None)

    def handshake(self, index: int) -> P | None:
        return self._handshakes.get(index)

    def keypair(self, index: int) -> P | None:
        return self._keypairs.get(index)

    def any_kind(self, index: int) -> P | None:
        """For cookie replies, which may answer either (R9)."""
        return self._handshakes.get(index) or self._keypairs.get(index)
