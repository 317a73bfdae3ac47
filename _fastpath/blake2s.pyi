"""Types of BLAKE2s (see blake2s.pyx).

Wrong sizes raise ValueError, wrong types TypeError, naming the argument.
"""

from typing_extensions import Buffer

def mac(key: bytes, data: Buffer, size: int) -> bytes:
    """Keyed BLAKE2s of `data`, `size` (1..32) bytes, under a key of 1..32 bytes."""

def digest(data: Buffer, size: int = 32) -> bytes:
    """BLAKE2s of `data`, `size` (1..32) bytes."""
