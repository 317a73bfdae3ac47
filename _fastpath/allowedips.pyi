"""The routing table ("allowed IPs"), longest prefix first, for tests and tools.

The packet pump uses the same table from C (aip.h). Addresses are packed (`bytes` of 4
or 16, network order), values are ints of 1..2**63. A wrong argument raises ValueError
that starts with the argument's name.
"""

from types import TracebackType
from typing import final

@final
class Snapshot:
    """One immutable version of a table; stays readable as long as it is held."""

    def lookup(self, address: bytes) -> int | None:
        """The value of the longest prefix that holds the address."""

    def lookup_many(self, addresses: bytes, *, width: int = 4) -> list[int | None]:
        """`lookup` of addresses of `width` bytes laid end to end, without the GIL."""

    def bench_lookup(
        self,
        addresses: bytes,
        rounds: int,
        *,
        width: int = 4,
        dependent: bool = False,
    ) -> float:
        """Nanoseconds per look-up. `dependent`: each waits for the one before it."""

    def bench_sources(self, addresses: bytes, batch: int, *, width: int = 4) -> float:
        """Nanoseconds per source check, as the pump does it: a `Memo` that forgets
        after each `batch` of packets."""

@final
class Memo:
    """Remembers one look-up (aip_memo.h). `forget` before another snapshot is used."""

    def forget(self) -> None: ...
    def lookup(self, snapshot: Snapshot, address: bytes) -> int | None:
        """As `snapshot.lookup(address)`."""

@final
class Transaction:
    """Commits at the end of its `with` block, aborts when that raises."""

    def __enter__(self) -> AllowedIPs: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

@final
class AllowedIPs:
    """Changes are made in a transaction; look-ups see the last commit.

    One writer at a time. Changing outside a transaction, or opening a second one,
    raises RuntimeError. MemoryError leaves the table as before the call.
    """

    def begin(self) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...
    def transaction(self) -> Transaction:
        """`with table.transaction(): ...` instead of begin and commit or abort."""

    def insert(self, address: bytes, cidr: int, value: int) -> int | None:
        """Returns the value that had exactly this prefix. Host bits are masked."""

    def remove(self, address: bytes, cidr: int) -> int | None:
        """Returns the value that had exactly this prefix; None: nothing had it."""

    def exact(self, address: bytes, cidr: int) -> int | None:
        """What has exactly this prefix, in the open transaction if there is one."""

    def __len__(self) -> int:
        """Prefixes, in the open transaction if there is one."""

    @property
    def memory(self) -> int:
        """Bytes of nodes, in the open transaction if there is one; without the
        allocator's overhead and what older snapshots keep alive."""

    def snapshot(self) -> Snapshot:
        """The last committed version."""

    def lookup(self, address: bytes) -> int | None: ...
    def lookup_many(self, addresses: bytes, *, width: int = 4) -> list[int | None]: ...
    def bench_lookup(
        self,
        addresses: bytes,
        rounds: int,
        *,
        width: int = 4,
        dependent: bool = False,
    ) -> float: ...

def live_allocations() -> int:
    """Nodes and tables of this module that are not yet freed (for tests)."""

def fail_allocations_after(count: int) -> None:
    """Lets `count` allocations succeed and then none; negative: all (for tests)."""
