# SPDX-License-Identifier: MIT
# Part of allowedips.pyx: addresses laid end to end, looked up without the GIL.

cdef inline void *look_up(const aip_root *root, const uint8_t *at,
                          bint ipv4) noexcept nogil:
    return aip_lookup4(root, at) if ipv4 else aip_lookup6(root, at)


cdef uint64_t look_up_all(const aip_root *root, const uint8_t *at, Py_ssize_t count,
                          int width, bint dependent) noexcept nogil:
    cdef Py_ssize_t i
    cdef uint64_t sum = 0, last = 0
    if dependent:
        for i in range(count):
            # the address depends on the value: no value is above 2**63
            last = <uint64_t>look_up(
                root, at + i * width + (last > <uint64_t>1 << 63), width == 4)
            sum += last
    else:
        for i in range(count):
            sum += <uint64_t>look_up(root, at + i * width, width == 4)
    return sum


cdef uint64_t check_sources(const aip_root *root, const uint8_t *at, Py_ssize_t count,
                            int width, Py_ssize_t batch) noexcept nogil:
    cdef Py_ssize_t i
    cdef int family = 4 if width == 4 else 6
    cdef aip_memo memo
    cdef uint64_t sum = 0
    memset(&memo, 0, sizeof(memo))
    for i in range(count):
        if i % batch == 0:
            aip_memo_forget(&memo)
        sum += <uint64_t>aip_memo_lookup(&memo, root, family, at + i * width)
    return sum


cdef double nanoseconds() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return t.tv_sec * 1e9 + t.tv_nsec


cdef Py_ssize_t checked_count(bytes addresses, int width) except -1:
    if width != 4 and width != 16:
        raise ValueError(f"width: {width} instead of 4 or 16")
    if len(addresses) % width:
        raise ValueError(
            f"addresses: {len(addresses)} bytes, not a multiple of {width}")
    return len(addresses) // width
