"""The symmetric half of a Noise handshake; see noise.h.

What it holds stays in C memory and is wiped with it; only what goes out on the wire
and the two transport keys are given out.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from tunnel._fastpath.x25519 cimport SharedSecret, key_bytes

cdef extern from "noise.h":
    enum:
        SYMMETRIC_KEY
        SYMMETRIC_TAG
    struct symmetric:
        uint8_t *chaining_key
        uint8_t *hash
        uint8_t *key
    void symmetric_mix_hash(
        symmetric *s, const uint8_t *data, size_t len) noexcept nogil
    void symmetric_mix_chain(
        symmetric *s, const uint8_t *data, size_t len) noexcept nogil
    void symmetric_mix_key(
        symmetric *s, const uint8_t *data, size_t len) noexcept nogil
    void symmetric_mix_psk(symmetric *s, const uint8_t *psk) noexcept nogil
    void symmetric_seal(
        symmetric *s, uint8_t *dst, const uint8_t *src, size_t len) noexcept nogil
    int symmetric_open(
        symmetric *s, uint8_t *dst, const uint8_t *src, size_t len) noexcept nogil
    void symmetric_split(
        const symmetric *s, uint8_t *first, uint8_t *second) noexcept nogil

cdef extern from "secret.h":
    void secret_wipe(void *p, size_t n) noexcept nogil


cdef class SymmetricState:
    cdef symmetric s

    def __cinit__(self, bytes chaining_key, bytes digest):
        cdef const uint8_t *ck = key_bytes(chaining_key, "chaining_key")
        memcpy(self.s.chaining_key, ck, SYMMETRIC_KEY)
        memcpy(self.s.hash, key_bytes(digest, "digest"), SYMMETRIC_KEY)

    def __dealloc__(self):
        secret_wipe(&self.s, sizeof(self.s))

    def __repr__(self):
        return "<SymmetricState>"

    def __reduce__(self):
        raise TypeError("the state of a handshake is not pickled")

    def copy(self) -> SymmetricState:
        cdef SymmetricState other = SymmetricState(_ZERO, _ZERO)
        other.s = self.s
        return other

    def mix_hash(self, bytes data not None):
        symmetric_mix_hash(&self.s, _bytes(data), len(data))

    def mix_ephemeral(self, bytes public):
        cdef const uint8_t *key = key_bytes(public, "public")
        symmetric_mix_hash(&self.s, key, SYMMETRIC_KEY)
        symmetric_mix_chain(&self.s, key, SYMMETRIC_KEY)

    def mix_chain(self, SharedSecret shared not None):
        symmetric_mix_chain(&self.s, shared.value, SYMMETRIC_KEY)

    def mix_key(self, SharedSecret shared not None):
        symmetric_mix_key(&self.s, shared.value, SYMMETRIC_KEY)

    def mix_psk(self, bytes psk):
        symmetric_mix_psk(&self.s, key_bytes(psk if psk is not None else _ZERO, "psk"))

    def seal(self, bytes plaintext not None) -> bytes:
        cdef Py_ssize_t size = len(plaintext)
        cdef bytes sealed = PyBytes_FromStringAndSize(NULL, size + SYMMETRIC_TAG)
        symmetric_seal(&self.s, _bytes(sealed), _bytes(plaintext), size)
        return sealed

    def open(self, bytes sealed not None) -> bytes | None:
        cdef Py_ssize_t size = len(sealed) - SYMMETRIC_TAG
        if size < 0:
            raise ValueError(f"sealed must be {SYMMETRIC_TAG} bytes or more")
        cdef bytes plaintext = PyBytes_FromStringAndSize(NULL, size)
        if not symmetric_open(&self.s, _bytes(plaintext), _bytes(sealed), size):
            return None
        return plaintext

    def split(self) -> tuple[bytes, bytes]:
        cdef bytes first = PyBytes_FromStringAndSize(NULL, SYMMETRIC_KEY)
        cdef bytes second = PyBytes_FromStringAndSize(NULL, SYMMETRIC_KEY)
        symmetric_split(&self.s, _bytes(first), _bytes(second))
        return first, second


cdef inline uint8_t *_bytes(bytes data) noexcept:
    return <uint8_t *>PyBytes_AS_STRING(data)


cdef bytes _ZERO = bytes(SYMMETRIC_KEY)
