"""Types of X25519 (see x25519.pyx); keys are 32 bytes.

Wrong sizes and unknown kernels raise ValueError, wrong types TypeError, naming the
argument.
"""

from typing import final

LANES: int
"""So many exchanges at once cost a kernel no more than one."""

def kernel_name() -> str: ...
def kernels() -> list[str]:
    """Names of the kernels that this machine runs, best first."""

@final
class PrivateKey:
    """Its bytes are in memory that is wiped with it, and are never shown."""

    def __init__(self, private: bytes) -> None: ...
    @property
    def public(self) -> bytes:
        """Computed at the first need, unless `exchange` was asked for it before."""

    def same_as(self, private: bytes) -> bool:
        """Constant time; both clamped (RFC 7748 section 5)."""

@final
class SharedSecret:
    """What two keys have in common; wiped with the object, and never shown."""

    def __init__(self, value: bytes = ...) -> None: ...
    def reveal(self) -> bytes: ...

def exchange(
    pairs: list[tuple[PrivateKey, bytes | None]], *, kernel: str | None = None
) -> list[SharedSecret | None]:
    """Each private key times its point.

    None in the result: all zero, the point is of low order. A pair with None for a
    point computes the key's own `public`, and its result is None.
    """
