# SPDX-License-Identifier: MIT
# cython: language_level=3
"""The long texts of the UAPI: the peers of a `get`, and a `set` that says nothing new.

Text is made and read in C (uapi_text.h); here it meets the objects of the state.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy


cdef extern from "secret.h" nogil:
    void secret_wipe(void *p, size_t n)
    bint secret_equal(const uint8_t *a, const uint8_t *b, size_t n)


cdef extern from "uapi_text.h" nogil:
    enum: UAPI_PEER_MAX, UAPI_PREFIX_MAX
    enum section_verdict: SECTION_PLAIN, SECTION_OTHER, SECTION_CUT
    struct uapi_prefix:
        uint8_t address[16]
        uint8_t size
        uint8_t cidr
    struct uapi_endpoint:
        uint8_t address[16]
        uint32_t scope
        uint16_t port
        uint8_t size
    struct uapi_section:
        uint8_t key[32]
        uint8_t preshared_key[32]
        uapi_endpoint endpoint
        uint32_t keepalive
        bint has_preshared_key
        bint has_keepalive
        uint32_t prefix_count
        uapi_prefix prefix[1]
    char *put_number(char *out, uint64_t number)
    char *put_hex(char *out, const uint8_t *bytes, size_t n)
    char *put_prefix(char *out, const uapi_prefix *prefix)
    char *put_endpoint(char *out, const uapi_endpoint *endpoint)
    char *put_text(char *out, const char *text)
    section_verdict section_read(const char *at, const char *end, uapi_section *s,
                                 const char **next)


cdef uint64_t SECOND = 1_000_000_000
cdef const uint8_t[32] NO_KEY


cdef uint8_t put_packed(uint8_t *out, bytes address) except 0:
    """Copies an address; its size."""
    cdef Py_ssize_t size = len(address)
    if size != 4 and size != 16:
        raise ValueError(f"address: has {size} bytes, not 4 or 16")
    memcpy(out, PyBytes_AS_STRING(address), size)
    return <uint8_t>size


cdef const uint8_t *key_of(bytes key) except NULL:
    if len(key) != 32:
        raise ValueError(f"key: has {len(key)} bytes, not 32")
    return <const uint8_t *>PyBytes_AS_STRING(key)


cdef int take_prefix(uapi_prefix *out, object prefix) except -1:
    out.size = put_packed(out.address, prefix[0])
    out.cidr = prefix[1]
    return 0


cdef int take_endpoint(uapi_endpoint *out, object endpoint) except -1:
    out.size = put_packed(out.address, endpoint[0])
    out.port = endpoint[1]
    out.scope = endpoint[2]
    return 0


cdef dict exact_dict(object mapping):
    """The mapping itself, which it nearly always is, or a copy."""
    return mapping if type(mapping) is dict else dict(mapping)


# ---- get

cdef char *put_live(char *out, object peer) except NULL:
    """The lines that change by themselves; `peer` may be None."""
    cdef uapi_endpoint e
    cdef uint64_t handshake = 0, rx_bytes = 0, tx_bytes = 0
    if peer is not None:
        path = peer.path
        endpoint = path.endpoint
        if endpoint is not None:
            take_endpoint(&e, endpoint)
            out = put_text(out, b"endpoint=")
            out = put_text(put_endpoint(out, &e), b"\n")
        handshake = peer.last_handshake_wall
        rx_bytes, tx_bytes = path.rx_bytes, path.tx_bytes
    out = put_text(out, b"last_handshake_time_sec=")
    out = put_number(out, handshake // SECOND)
    out = put_text(out, b"\nlast_handshake_time_nsec=")
    out = put_number(out, handshake % SECOND)
    out = put_text(out, b"\ntx_bytes=")
    out = put_number(out, tx_bytes)
    out = put_text(out, b"\nrx_bytes=")
    return put_text(put_number(out, rx_bytes), b"\n")


cdef char *put_peer(char *out, object state, object peer) except NULL:
    cdef uapi_prefix p
    cdef uint16_t keepalive = state.keepalive
    cdef const uint8_t *psk = NO_KEY
    out = put_text(out, b"public_key=")
    out = put_hex(out, key_of(state.public_key), 32)
    out = put_text(out, b"\npreshared_key=")
    secret = state.preshared_key
    if secret is not None:
        secret = secret.reveal()
        psk = key_of(secret)
    out = put_hex(out, psk, 32)
    out = put_live(put_text(out, b"\nprotocol_version=1\n"), peer)
    out = put_text(out, b"persistent_keepalive_interval=")
    out = put_text(put_number(out, keepalive), b"\n")
    for prefix in state.allowed_ips:
        take_prefix(&p, prefix)
        out = put_text(out, b"allowed_ip=")
        out = put_text(put_prefix(out, &p), b"\n")
    return out


def peers_text(list states not None, live not None) -> bytes:
    cdef dict lives = exact_dict(live)
    cdef size_t room = 0
    cdef char *text
    cdef char *out
    for state in states:
        room += UAPI_PEER_MAX + UAPI_PREFIX_MAX * <size_t>len(state.allowed_ips)
    text = <char *>malloc(room + 1)
    if not text:
        raise MemoryError
    out = text
    try:
        for state in states:
            if state.enabled:
                out = put_peer(out, state, lives.get(state.public_key))
        return PyBytes_FromStringAndSize(text, out - text)
    finally:
        secret_wipe(text, out - text)
        free(text)


# ---- set

cdef bint same_prefix(const uapi_prefix *p, object prefix) except -1:
    cdef bytes address = prefix[0]
    return (
        len(address) == p.size
        and memcmp(PyBytes_AS_STRING(address), p.address, p.size) == 0
        and <long>prefix[1] == p.cidr
    )


cdef bint same_prefixes(const uapi_section *s, object own) except -1:
    """Whether the section names each of its own once, in any order."""
    cdef uint32_t count = s.prefix_count, i, j
    cdef uint64_t named = 0
    if len(own) != count:
        return False
    for i in range(count):
        j = i
        while named >> j & 1 or not same_prefix(&s.prefix[i], own[j]):
            j = j + 1 if j + 1 < count else 0
            if j == i:
                return False
        named |= <uint64_t>1 << j
    return True


cdef bint same_endpoint(const uapi_endpoint *e, object endpoint) except -1:
    if endpoint is None:
        return False
    cdef bytes address = endpoint[0]
    return (
        len(address) == e.size
        and memcmp(PyBytes_AS_STRING(address), e.address, e.size) == 0
        and <long>endpoint[1] == e.port
        and <long>endpoint[2] == e.scope
    )


cdef bint same_secret(const uint8_t *key, object secret) except -1:
    if secret is None:
        return secret_equal(key, NO_KEY, 32)
    value = secret.reveal()
    return secret_equal(key, key_of(value), 32)


cdef bint says(const uapi_section *s, object state) except -1:
    """Whether the section describes the peer as it is configured."""
    return (
        state.enabled
        and same_prefixes(s, state.allowed_ips)
        and (not s.has_keepalive or <long>state.keepalive == s.keepalive)
        and (not s.endpoint.size or same_endpoint(&s.endpoint, state.endpoint))
        and (
            not s.has_preshared_key
            or same_secret(s.preshared_key, state.preshared_key)
        )
    )


def unchanged(
    bytes data not None, Py_ssize_t start, peers not None, list states not None
) -> tuple[int, bool]:
    cdef dict known = exact_dict(peers)
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef const char *end = text + len(data)
    cdef const char *at
    cdef const char *next
    cdef section_verdict verdict
    cdef uapi_section s
    if not 0 <= start <= len(data):
        raise ValueError(f"start: {start} is not in the data")
    at = text + start
    try:
        while True:
            verdict = section_read(at, end, &s, &next)
            if verdict != SECTION_PLAIN:
                break
            state = known.get(PyBytes_FromStringAndSize(<char *>s.key, 32))
            if state is None or not says(&s, state):
                break
            states.append(state)
            at = next
    finally:
        secret_wipe(s.preshared_key, 32)
    return at - text, verdict == SECTION_CUT
