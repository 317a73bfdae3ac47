"""Types of the AEAD (see aead.pyx); a key is 32 bytes, a counter 0..2**64-1.

`kernel` chooses another kernel than the selected one, by name. Wrong sizes and
unknown kernels raise ValueError, wrong types TypeError, naming the argument.
"""

from collections.abc import Iterable

from typing_extensions import Buffer

def kernel_name() -> str: ...
def kernels() -> list[str]:
    """Names of the kernels that this CPU runs, best first."""

def seal_batch(
    key: bytes,
    packets: Iterable[Buffer],
    counters: Iterable[int],
    *,
    kernel: str | None = None,
) -> list[bytes]:
    """Seals each packet under its counter: ciphertext, then the 16-byte tag."""

def open_batch(
    key: bytes,
    packets: Iterable[Buffer],
    counters: Iterable[int],
    *,
    kernel: str | None = None,
) -> list[bytes | None]:
    """Opens each packet (ciphertext and tag); None where the tag does not match."""

def seal_into(
    key: bytes,
    counter: int,
    buffer: Buffer,
    offset: int,
    length: int,
    *,
    kernel: str | None = None,
) -> None:
    """Seals buffer[offset:offset+length] in place; the tag goes right behind it."""

def open_into(
    key: bytes,
    counter: int,
    buffer: Buffer,
    offset: int,
    length: int,
    *,
    kernel: str | None = None,
) -> bool:
    """Undoes `seal_into` with the same arguments; `length` is the plaintext's."""
