"""X25519 (RFC 7748), many at once.

Chooses a kernel once, when imported: eight lanes of AVX-512 IFMA where the CPU has
them, else the library `cryptography`, one by one. The environment variable
TUNNEL_X25519 overrides that. What a kernel has to do is in kernels/x25519.h.

Private keys and shared secrets are held in C memory that is wiped when they go.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

cdef extern from "kernels/x25519.h":
    struct x25519_op:
        const uint8_t *scalar
        const uint8_t *point
        uint8_t *result
        uint32_t nonzero
    void x25519_ifma(x25519_op *ops, size_t n) noexcept nogil
    int x25519_ifma_supported() noexcept nogil

cdef extern from "secret.h":
    void secret_wipe(void *p, size_t n) noexcept nogil
    uint32_t secret_equal(const uint8_t *a, const uint8_t *b, size_t n) noexcept nogil

cdef enum:
    KEY_BYTES = 32

LANES = 8  # as many cost what one costs


# ---- choosing a kernel

def kernels() -> list[str]:
    """Names of the kernels that this machine runs, best first."""
    return ["ifma", "library"] if x25519_ifma_supported() else ["library"]


def kernel_name() -> str:
    """Name of the kernel in use."""
    return _selected


cdef str _named(str name):
    """`name`, or for None the selected one."""
    if name is None:
        return _selected
    if name not in kernels():
        raise ValueError(f"kernel {name!r}: unknown; this machine has {kernels()}")
    return name


cdef str _choose(str wanted):
    try:
        return _named(wanted or kernels()[0])
    except ValueError as error:
        raise ImportError(f"TUNNEL_X25519: {error}") from None


# ---- keys

cdef class PrivateKey:
    def __cinit__(self, bytes private):
        memcpy(self.scalar, key_bytes(private, "private"), KEY_BYTES)

    def __dealloc__(self):
        secret_wipe(self.scalar, KEY_BYTES)

    def __repr__(self):
        return "<PrivateKey>"

    def __reduce__(self):
        raise TypeError("a private key is not pickled")

    @property
    def public(self) -> bytes:
        if self.known_public is None:
            exchange([(self, None)])
        return self.known_public

    def same_as(self, bytes private) -> bool:
        cdef const uint8_t *other = key_bytes(private, "private")
        cdef uint8_t clamped[2][KEY_BYTES]
        memcpy(clamped[0], self.scalar, KEY_BYTES)
        memcpy(clamped[1], other, KEY_BYTES)
        for i in range(2):
            clamped[i][0] &= 248
            clamped[i][31] = clamped[i][31] & 127 | 64
        same = secret_equal(clamped[0], clamped[1], KEY_BYTES)
        secret_wipe(clamped, sizeof(clamped))
        return same == 1


cdef class SharedSecret:
    def __cinit__(self, bytes value=None):
        if value is not None:
            memcpy(self.value, key_bytes(value, "value"), KEY_BYTES)

    def __dealloc__(self):
        secret_wipe(self.value, KEY_BYTES)

    def __repr__(self):
        return "<SharedSecret>"

    def __reduce__(self):
        raise TypeError("a shared secret is not pickled")

    def reveal(self) -> bytes:
        return self.value[:KEY_BYTES]


# ---- exchanging

def exchange(list pairs not None, *, str kernel=None) -> list:
    cdef tuple held = tuple(pairs)  # while the GIL is released
    _check(held)
    if _named(kernel) == "ifma":
        return _at_once(held)
    return [_by_library(private, point) for private, point in held]


cdef int _check(tuple pairs) except -1:
    for i in range(len(pairs)):
        private, point = pairs[i]
        if not isinstance(private, PrivateKey):
            raise TypeError(f"pairs[{i}]: {type(private).__name__} is no PrivateKey")
        if point is not None:
            if not isinstance(point, bytes):
                kind = type(point).__name__
                raise TypeError(f"pairs[{i}]: the point must be bytes, not {kind}")
            if len(point) != KEY_BYTES:
                key_bytes(point, f"pairs[{i}]: the point")
    return 0


cdef list _at_once(tuple pairs):
    cdef Py_ssize_t n = len(pairs)
    cdef x25519_op *ops = <x25519_op *>malloc((n + 1) * sizeof(x25519_op))
    cdef list results = []
    cdef list publics = []
    cdef PrivateKey private
    cdef SharedSecret secret
    cdef bytes public
    if ops == NULL:
        raise MemoryError
    try:
        for i in range(n):
            private, point = pairs[i]
            ops[i].scalar = private.scalar
            if point is None:
                public = PyBytes_FromStringAndSize(NULL, KEY_BYTES)
                publics.append((private, public))
                results.append(None)
                ops[i].point = NULL
                ops[i].result = <uint8_t *>PyBytes_AS_STRING(public)
            else:
                secret = SharedSecret.__new__(SharedSecret)
                results.append(secret)
                ops[i].point = <const uint8_t *>PyBytes_AS_STRING(<bytes>point)
                ops[i].result = secret.value
        with nogil:
            x25519_ifma(ops, n)
        for i in range(n):
            if not ops[i].nonzero:
                results[i] = None
    finally:
        free(ops)
    for owner, found in publics:
        (<PrivateKey>owner).known_public = found
    return results


cdef object _by_library(PrivateKey private, bytes point):
    from cryptography.hazmat.primitives.asymmetric.x25519 import (
        X25519PrivateKey,
        X25519PublicKey,
    )

    if private.library_key is None:
        raw = private.scalar[:KEY_BYTES]
        private.library_key = X25519PrivateKey.from_private_bytes(raw)
    if point is None:
        private.known_public = private.library_key.public_key().public_bytes_raw()
        return None
    try:
        shared = private.library_key.exchange(X25519PublicKey.from_public_bytes(point))
    except ValueError:  # all zero
        return None
    return SharedSecret(shared)


cdef str _selected = None
_selected = _choose(os.environ.get("TUNNEL_X25519"))
