# SPDX-License-Identifier: MIT
# Part of pump.pyx: endpoints in Python form, (address, port, scope id), and sources,
# (address, ifindex).

cdef int put_endpoint(endpoint *e, object where) except -1:
    memset(e, 0, sizeof(endpoint))
    if where is None:
        return 0
    cdef bytes address = where[0]
    if len(address) not in (4, 16):
        raise ValueError(f"endpoint: address has {len(address)} bytes, not 4 or 16")
    memcpy(e.address, PyBytes_AS_STRING(address), len(address))
    e.family = 4 if len(address) == 4 else 6
    e.port = where[1]
    e.scope_id = where[2]
    return 0


cdef int put_source(endpoint *e, object source) except -1:
    if source is None:
        return 0
    cdef bytes address = source[0]
    if len(address) not in (4, 16):
        raise ValueError(f"source: address has {len(address)} bytes, not 4 or 16")
    memcpy(e.source, PyBytes_AS_STRING(address), len(address))
    e.source_family = 4 if len(address) == 4 else 6
    e.source_ifindex = source[1]
    return 0


cdef object get_endpoint(endpoint *e):
    if not e.family:
        return None
    return (e.address[:4 if e.family == 4 else 16], e.port, e.scope_id)


cdef object get_source(endpoint *e):
    if not e.source_family:
        return None
    return (e.source[:4 if e.source_family == 4 else 16], e.source_ifindex)
