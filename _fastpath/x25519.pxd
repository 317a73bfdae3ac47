"""Keys and shared secrets for other extensions; their bytes never leave C unasked."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t

cdef inline const uint8_t *key_bytes(bytes key, str name) except NULL:
    """Of an argument that must be 32 bytes; they live as long as it does."""
    if key is None:
        raise TypeError(f"{name} must be bytes, not None")
    if len(key) != 32:
        raise ValueError(f"{name} must be 32 bytes, not {len(key)}")
    return <const uint8_t *>PyBytes_AS_STRING(key)


cdef class PrivateKey:
    cdef uint8_t scalar[32]
    cdef bytes known_public  # None until it is computed
    cdef object library_key  # of the library, where it does the work

cdef class SharedSecret:
    cdef uint8_t value[32]
