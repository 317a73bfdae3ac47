"""The AEAD kernels for other extensions; see kernels/aead.h for their contract."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef extern from "packet.h":
    cdef struct aead_op:
        const uint8_t *src
        uint8_t *dst
        uint32_t len
        uint32_t ok
        uint64_t nonce

cdef extern from "kernels/aead.h":
    cdef struct aead_kernel:
        const char *name
        int (*supported)() noexcept nogil
        void (*seal_batch)(const uint8_t *key, aead_op *ops, size_t n) noexcept nogil
        size_t (*open_batch)(const uint8_t *key, aead_op *ops, size_t n) noexcept nogil

# The kernel chosen at import; never NULL.
cdef const aead_kernel *selected() noexcept nogil
