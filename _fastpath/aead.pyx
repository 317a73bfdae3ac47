"""ChaCha20-Poly1305 with empty AAD and a 64-bit counter as nonce (RFC 8439, R3).

Chooses a kernel once, when imported: the best that this CPU runs, or the one that
the environment variable TUNNEL_AEAD names. The packet pump takes it through
`selected()` in aead.pxd; the Python functions serve tests and small jobs, and let
go of the GIL while a kernel works.
"""

import os

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport UINT64_MAX, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    KEY_BYTES = 32
    TAG_BYTES = 16
    PACKET_BYTES_MAX = 0x7fffffff

cdef extern from *:
    """
    /* Best first. */
    static const struct aead_kernel *const _kernels[] = {AEAD_KERNELS};
    #define KERNELS (int)(sizeof _kernels / sizeof *_kernels)
    """
    const aead_kernel *_kernels[]
    const int KERNELS


# ---- choosing a kernel

cdef const aead_kernel *_find(str name) except NULL:
    """The kernel called `name` or, for None, the selected one."""
    if name is None:
        return _selected
    for i in range(KERNELS):
        if _kernels[i].name.decode() == name:
            if not _kernels[i].supported():
                raise ValueError(f"kernel {name!r}: this CPU cannot run it")
            return _kernels[i]
    raise ValueError(f"kernel {name!r}: unknown; this machine has {kernels()}")


cdef const aead_kernel *_choose(str wanted) except NULL:
    """The kernel that TUNNEL_AEAD wants; "" is the best one of this CPU."""
    try:
        return _find(wanted or kernels()[0])
    except ValueError as error:
        raise ImportError(f"TUNNEL_AEAD: {error}") from None


def kernels() -> list[str]:
    """Names of the kernels that this CPU runs, best first."""
    return [
        _kernels[i].name.decode() for i in range(KERNELS) if _kernels[i].supported()
    ]


def kernel_name() -> str:
    """Name of the kernel in use."""
    return _selected.name.decode()


cdef const aead_kernel *selected() noexcept nogil:
    return _selected


# ---- arguments

cdef const uint8_t *_key(bytes key) except NULL:
    if key is None:
        raise TypeError("key must be bytes, not None")
    if len(key) != KEY_BYTES:
        raise ValueError(f"key must be {KEY_BYTES} bytes, not {len(key)}")
    return <const uint8_t *>PyBytes_AS_STRING(key)


cdef uint64_t _counter(object counter, str name) except *:
    if not isinstance(counter, int):
        raise TypeError(f"{name} must be an int, not {type(counter).__name__}")
    if not 0 <= counter <= UINT64_MAX:
        raise ValueError(f"{name} must be in 0..2**64-1")
    return counter


cdef int _view(object data, Py_buffer *view, int flags, str name) except -1:
    """Fills `view`, which the caller releases."""
    try:
        PyObject_GetBuffer(data, view, flags)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(f"{name} must be a bytes-like object, not {kind}") from None
    except BufferError as error:
        raise ValueError(f"{name}: {error}") from None
    return 0


cdef class _Batch:
    """The operations of one call, and the sources they hold on to."""

    cdef aead_op *ops
    cdef Py_buffer *sources
    cdef Py_ssize_t held
    cdef readonly list results

    def __cinit__(self, packets: list, counters: list, Py_ssize_t overhead):
        """`overhead` is added to a packet's length to get its result's."""
        cdef Py_ssize_t count = len(packets)
        if count != len(counters):
            raise ValueError(
                f"counters must be as many as packets: {len(counters)}, not {count}"
            )
        self.ops = <aead_op *>calloc(count + 1, sizeof(aead_op))
        self.sources = <Py_buffer *>calloc(count + 1, sizeof(Py_buffer))
        if self.ops == NULL or self.sources == NULL:
            raise MemoryError
        self.results = []
        for i in range(count):
            self._add(packets[i], counters[i], overhead)

    def __dealloc__(self):
        for i in range(self.held):
            PyBuffer_Release(&self.sources[i])
        free(self.sources)
        free(self.ops)

    cdef int _add(self, object packet, object counter, Py_ssize_t overhead) except -1:
        cdef Py_ssize_t i = self.held
        cdef Py_buffer *source = &self.sources[i]
        cdef aead_op *op = &self.ops[i]
        op.nonce = _counter(counter, f"counters[{i}]")
        _view(packet, source, PyBUF_SIMPLE, f"packets[{i}]")
        self.held += 1
        if source.len > PACKET_BYTES_MAX:
            raise ValueError(f"packets[{i}] is longer than {PACKET_BYTES_MAX} bytes")
        if source.len + overhead < 0:
            raise ValueError(f"packets[{i}] is shorter than its tag")
        result = PyBytes_FromStringAndSize(NULL, source.len + overhead)
        self.results.append(result)
        op.src = <const uint8_t *>source.buf
        op.dst = <uint8_t *>PyBytes_AS_STRING(result)
        op.len = <uint32_t>(source.len + min(overhead, 0))
        return 0


# ---- sealing and opening

def seal_batch(bytes key, packets, counters, *, str kernel=None) -> list[bytes]:
    """Seals each packet under its counter: ciphertext, then the 16-byte tag."""
    cdef const uint8_t *secret = _key(key)
    cdef const aead_kernel *chosen = _find(kernel)
    cdef _Batch batch = _Batch(list(packets), list(counters), TAG_BYTES)
    with nogil:
        chosen.seal_batch(secret, batch.ops, batch.held)
    return batch.results


def open_batch(bytes key, packets, counters, *, str kernel=None) -> list[bytes | None]:
    """Opens each packet (ciphertext and tag); None where the tag does not match."""
    cdef const uint8_t *secret = _key(key)
    cdef const aead_kernel *chosen = _find(kernel)
    cdef _Batch batch = _Batch(list(packets), list(counters), -TAG_BYTES)
    with nogil:
        chosen.open_batch(secret, batch.ops, batch.held)
    return [
        plain if batch.ops[i].ok else None for i, plain in enumerate(batch.results)
    ]


cdef class _InPlace:
    """A writable view with one operation in it."""

    cdef aead_op op
    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, counter, buffer, Py_ssize_t offset, Py_ssize_t length):
        self.op.nonce = _counter(counter, "counter")
        _view(buffer, &self.view, PyBUF_WRITABLE, "buffer")
        self.held = True
        if offset < 0:
            raise ValueError("offset must not be negative")
        if not 0 <= length <= PACKET_BYTES_MAX:
            raise ValueError(f"length must be in 0..{PACKET_BYTES_MAX}")
        if length + TAG_BYTES > self.view.len or \
                offset > self.view.len - TAG_BYTES - length:
            raise ValueError(
                f"buffer of {self.view.len} bytes does not hold length {length}"
                f" and a tag at offset {offset}"
            )
        self.op.dst = <uint8_t *>self.view.buf + offset
        self.op.src = self.op.dst
        self.op.len = <uint32_t>length

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


def seal_into(
    bytes key, counter, buffer, Py_ssize_t offset, Py_ssize_t length, *, str kernel=None
) -> None:
    """Seals buffer[offset:offset+length] in place; the tag goes right behind it."""
    cdef const uint8_t *secret = _key(key)
    cdef const aead_kernel *chosen = _find(kernel)
    cdef _InPlace place = _InPlace(counter, buffer, offset, length)
    with nogil:
        chosen.seal_batch(secret, &place.op, 1)


def open_into(
    bytes key, counter, buffer, Py_ssize_t offset, Py_ssize_t length, *, str kernel=None
) -> bool:
    """Undoes `seal_into` with the same arguments; `length` is the plaintext's.

    False when the tag does not match; the buffer then holds no plaintext.
    """
    cdef const uint8_t *secret = _key(key)
    cdef const aead_kernel *chosen = _find(kernel)
    cdef _InPlace place = _InPlace(counter, buffer, offset, length)
    with nogil:
        chosen.open_batch(secret, &place.op, 1)
    return place.op.ok != 0


cdef const aead_kernel *_selected = _choose(os.environ.get("TUNNEL_AEAD", ""))
