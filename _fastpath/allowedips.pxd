"""The routing table's C interface (the contract is in aip.h)."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t


cdef extern from "aip.h" nogil:
    struct aip:
        pass

    struct aip_garbage:
        pass

    struct aip_root:
        pass

    aip *aip_new()
    void aip_free(aip *table)
    int aip_begin(aip *table)
    int aip_insert(aip *table, int family, const uint8_t *addr, unsigned cidr,
                   void *value, void **old)
    int aip_remove(aip *table, int family, const uint8_t *addr, unsigned cidr,
                   void **old)
    void *aip_exact(const aip *table, int family, const uint8_t *addr, unsigned cidr)
    void aip_commit(aip *table, aip_root *out, aip_garbage **garbage)
    void aip_abort(aip *table)
    void aip_garbage_free(aip_garbage *garbage)
    size_t aip_count(const aip *table)
    size_t aip_bytes(const aip *table)
    void *aip_lookup4(const aip_root *root, const uint8_t *addr)
    void *aip_lookup6(const aip_root *root, const uint8_t *addr)
    void aip_test_fail_after(long n)
    size_t aip_test_allocations()


cdef extern from "aip_memo.h" nogil:
    struct aip_memo:
        pass

    void aip_memo_forget(aip_memo *memo)
    void *aip_memo_lookup(aip_memo *memo, const aip_root *root, int family,
                          const uint8_t *addr)
