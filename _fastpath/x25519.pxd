"""Keys and shared secrets for other extensions; their bytes never leave C unasked."""

from libc.stdint cimport uint8_t

cdef class PrivateKey:
    cdef uint8_t scalar[32]
    cdef bytes known_public  # None until it is computed
    cdef object library_key  # of the library, where it does the work

cdef class SharedSecret:
    cdef uint8_t value[32]
