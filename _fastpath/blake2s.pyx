"""BLAKE2s (RFC 7693) on the C code that the packet pump uses for mac1 (R43)."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t

cdef extern from "b2s.h":
    enum:
        B2S_HASH_MAX
        B2S_KEY_MAX
    void b2s_hash(
        uint8_t *hash, size_t size, const uint8_t *key, size_t key_len,
        const uint8_t *data, size_t len) noexcept nogil


def mac(bytes key not None, data, Py_ssize_t size) -> bytes:
    """Keyed BLAKE2s of `data`, `size` (1..32) bytes, under a key of 1..32 bytes."""
    if not 1 <= len(key) <= B2S_KEY_MAX:
        raise ValueError(f"key must be 1..{B2S_KEY_MAX} bytes, not {len(key)}")
    return _hash(key, data, size)


def digest(data, Py_ssize_t size=B2S_HASH_MAX) -> bytes:
    """BLAKE2s of `data`, `size` (1..32) bytes."""
    return _hash(b"", data, size)


cdef bytes _hash(bytes key, object data, Py_ssize_t size):
    cdef uint8_t hash[B2S_HASH_MAX]
    cdef const uint8_t *key_bytes = key
    cdef size_t key_len = len(key)
    cdef Py_buffer view
    if not 1 <= size <= B2S_HASH_MAX:
        raise ValueError(f"size must be 1..{B2S_HASH_MAX}, not {size}")
    try:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(f"data must be a bytes-like object, not {kind}") from None
    except BufferError as error:
        raise ValueError(f"data: {error}") from None
    with nogil:
        b2s_hash(hash, size, key_bytes, key_len, <const uint8_t *>view.buf, view.len)
    PyBuffer_Release(&view)
    return hash[:size]
