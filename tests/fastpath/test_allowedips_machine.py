"""Any order of transactions, changes, snapshots and look-ups on the routing table."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from tunnel._fastpath.allowedips import AllowedIPs, Snapshot

from .linear_table import LinearTable


@st.composite
def addresses(draw: st.DrawFn) -> bytes:
    """Few bits are set, near the borders of nodes, so that prefixes share paths."""
    bits = draw(st.sampled_from((32, 128)))
    borders = [b for b in (0, 5, 6, 11, 12, 29, 30, 31, 59, 63, 64, 127) if b < bits]
    ones = draw(st.sets(st.sampled_from(borders), max_size=4))
    return sum(1 << (bits - 1 - bit) for bit in ones).to_bytes(bits // 8, "big")


@st.composite
def prefixes(draw: st.DrawFn) -> tuple[bytes, int]:
    address = draw(addresses())
    return address, draw(st.integers(0, len(address) * 8))


class TableMachine(RuleBasedStateMachine):
    """`committed` and `open` are the twins of the last version and the transaction."""

    snapshots = Bundle("snapshots")

    def __init__(self) -> None:
        super().__init__()
        self.table = AllowedIPs()
        self.committed = LinearTable()
        self.open: LinearTable | None = None

    @precondition(lambda self: self.open is None)
    @rule()
    def begin(self) -> None:
        self.table.begin()
        self.open = self.committed.copy()

    @precondition(lambda self: self.open is not None)
    @rule(where=prefixes(), value=st.integers(1, 1 << 63))
    def insert(self, where: tuple[bytes, int], value: int) -> None:
        assert self.open is not None
        assert self.table.insert(*where, value) == self.open.insert(*where, value)

    @precondition(lambda self: self.open is not None)
    @rule(where=prefixes())
    def remove(self, where: tuple[bytes, int]) -> None:
        assert self.open is not None
        assert self.table.remove(*where) == self.open.remove(*where)

    @precondition(lambda self: self.open is not None and self.open.values)
    @rule(data=st.data())
    def remove_present(self, data: st.DataObject) -> None:
        assert self.open is not None
        key = data.draw(st.sampled_from(sorted(self.open.values, key=str)))
        where = key.network_address.packed, key.prefixlen
        assert self.table.remove(*where) == self.open.remove(*where)

    @precondition(lambda self: self.open is not None)
    @rule()
    def commit(self) -> None:
        assert self.open is not None
        self.table.commit()
        self.committed, self.open = self.open, None

    @precondition(lambda self: self.open is not None)
    @rule()
    def abort(self) -> None:
        self.table.abort()
        self.open = None

    @rule(target=snapshots)
    def snapshot(self) -> tuple[Snapshot, LinearTable]:
        return self.table.snapshot(), self.committed.copy()

    @rule(pair=snapshots, address=addresses())
    def lookup_in_snapshot(
        self, pair: tuple[Snapshot, LinearTable], address: bytes
    ) -> None:
        assert pair[0].lookup(address) == pair[1].lookup(address)

    @rule(pair=consumes(snapshots))
    def drop_snapshot(self, pair: tuple[Snapshot, LinearTable]) -> None:
        for key in pair[1].values:
            address = key.network_address.packed
            assert pair[0].lookup(address) == pair[1].lookup(address)

    @rule(address=addresses())
    def lookup(self, address: bytes) -> None:
        assert self.table.lookup(address) == self.committed.lookup(address)

    @invariant()
    def same_prefixes(self) -> None:
        twin = self.committed if self.open is None else self.open
        assert len(self.table) == len(twin.values)
        for key, value in twin.values.items():
            where = key.network_address.packed, key.prefixlen
            assert self.table.exact(*where) == value


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
