"""The routing table ("allowed IPs") for Python; the table itself is aip.c.

A version's Snapshot holds what only it and older ones use, and the Snapshot that
followed it. So memory goes when the last reader of the oldest version does, by
reference counting alone.
"""

from __future__ import annotations

cimport cython
from libc.errno cimport EBUSY, ENOMEM
from libc.stdint cimport uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

MAX_VALUE = 1 << 63


cdef int family_of(bytes address) except -1:
    if len(address) == 4:
        return 4
    if len(address) == 16:
        return 6
    raise ValueError(f"address: {len(address)} bytes instead of 4 or 16")


cdef unsigned checked_cidr(int family, object cidr) except? 255:
    cdef int longest = 32 if family == 4 else 128
    if not 0 <= cidr <= longest:
        raise ValueError(f"cidr: {cidr} is not within 0..{longest}")
    return cidr


cdef object as_value(void *value):
    return None if value == NULL else <uint64_t>value


include "lookups.pxi"


@cython.final
cdef class Store:
    """The C table; outlives every snapshot of it."""

    cdef aip *table

    def __cinit__(self):
        self.table = aip_new()
        if self.table == NULL:
            raise MemoryError

    def __dealloc__(self):
        aip_free(self.table)


@cython.final
@cython.trashcan(True)  # a chain of versions may be long
cdef class Snapshot:
    cdef aip_root root
    cdef Store store
    cdef Snapshot later
    cdef aip_garbage *garbage  # used by this and older versions only
    cdef uint64_t sum  # of what bench_lookup found, so that it is not optimised away

    def __init__(self):
        raise TypeError("a snapshot comes from AllowedIPs.snapshot()")

    def __dealloc__(self):
        aip_garbage_free(self.garbage)

    def lookup(self, bytes address not None):
        cdef int family = family_of(address)
        return as_value(look_up(&self.root, address, family == 4))

    def lookup_many(self, bytes addresses not None, *, int width=4):
        cdef Py_ssize_t i, count = checked_count(addresses, width)
        cdef const uint8_t *at = addresses
        cdef void **found = <void **>malloc(count * sizeof(void *) or 1)
        if found == NULL:
            raise MemoryError
        try:
            with nogil:
                for i in range(count):
                    found[i] = look_up(&self.root, at + i * width, width == 4)
            return [as_value(found[i]) for i in range(count)]
        finally:
            free(found)

    def bench_lookup(self, bytes addresses not None, Py_ssize_t rounds, *,
                     int width=4, bint dependent=False):
        cdef Py_ssize_t r, count = checked_count(addresses, width)
        cdef const uint8_t *at = addresses
        cdef double begin, end
        if not count or rounds < 1:
            raise ValueError("rounds: less than 1" if count else "addresses: none")
        with nogil:
            begin = nanoseconds()
            for r in range(rounds):
                self.sum += look_up_all(&self.root, at, count, width, dependent)
            end = nanoseconds()
        return (end - begin) / (rounds * count)

    def bench_sources(self, bytes addresses not None, Py_ssize_t batch, *,
                      int width=4):
        cdef Py_ssize_t count = checked_count(addresses, width)
        cdef const uint8_t *at = addresses
        cdef double begin, end
        if not count or batch < 1:
            raise ValueError("batch: less than 1" if count else "addresses: none")
        with nogil:
            begin = nanoseconds()
            self.sum += check_sources(&self.root, at, count, width, batch)
            end = nanoseconds()
        return (end - begin) / count


@cython.final
cdef class Memo:
    cdef aip_memo memo

    def forget(self):
        aip_memo_forget(&self.memo)

    def lookup(self, Snapshot snapshot not None, bytes address not None):
        cdef int family = family_of(address)
        return as_value(aip_memo_lookup(&self.memo, &snapshot.root, family, address))


@cython.final
cdef class Transaction:
    cdef AllowedIPs table

    def __init__(self, AllowedIPs table not None):
        self.table = table

    def __enter__(self):
        self.table.begin()
        return self.table

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.table.commit()
        else:
            self.table.abort()


@cython.final
cdef class AllowedIPs:
    cdef Store store
    cdef Snapshot current
    cdef bint open

    def __cinit__(self):
        self.store = Store()
        self.current = Snapshot.__new__(Snapshot)
        self.current.store = self.store

    def begin(self):
        if aip_begin(self.store.table):
            raise RuntimeError("a transaction is open already")
        self.open = True

    def commit(self):
        cdef Snapshot made = Snapshot.__new__(Snapshot)
        self.require_open()
        made.store = self.store
        aip_commit(self.store.table, &made.root, &self.current.garbage)
        self.open = False
        self.current.later = made
        self.current = made

    def abort(self):
        self.require_open()
        aip_abort(self.store.table)
        self.open = False

    def transaction(self):
        return Transaction(self)

    cdef int require_open(self) except -1:
        if not self.open:
            raise RuntimeError("no transaction is open")
        return 0

    def insert(self, bytes address not None, cidr, value):
        cdef int family = family_of(address)
        cdef unsigned length = checked_cidr(family, cidr)
        cdef void *old = NULL
        if not 1 <= value <= MAX_VALUE:
            raise ValueError("value: not within 1..2**63")
        self.require_open()
        if aip_insert(self.store.table, family, address, length,
                      <void *><uintptr_t><uint64_t>value, &old):
            raise MemoryError
        return as_value(old)

    def remove(self, bytes address not None, cidr):
        cdef int family = family_of(address)
        cdef unsigned length = checked_cidr(family, cidr)
        cdef void *old = NULL
        self.require_open()
        if aip_remove(self.store.table, family, address, length, &old):
            raise MemoryError
        return as_value(old)

    def exact(self, bytes address not None, cidr):
        cdef int family = family_of(address)
        cdef unsigned length = checked_cidr(family, cidr)
        return as_value(aip_exact(self.store.table, family, address, length))

    def __len__(self):
        return aip_count(self.store.table)

    @property
    def memory(self):
        return aip_bytes(self.store.table)

    def snapshot(self):
        return self.current

    def lookup(self, bytes address not None):
        return self.current.lookup(address)

    def lookup_many(self, bytes addresses not None, *, int width=4):
        return self.current.lookup_many(addresses, width=width)

    def bench_lookup(self, bytes addresses not None, Py_ssize_t rounds, *,
                     int width=4, bint dependent=False):
        return self.current.bench_lookup(
            addresses, rounds, width=width, dependent=dependent)


def live_allocations():
    return aip_test_allocations()


def fail_allocations_after(long count):
    aip_test_fail_after(count)
