# SPDX-License-Identifier: MIT
# cython: language_level=3
"""Splitting and merging large packets, for tests: the same C as in the pump."""

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy


cdef extern from "gro.h" nogil:
    enum: VNET_HDR_LEN, GRO_FLOWS, GRO_PIECES
    struct iovec:
        void *iov_base
        size_t iov_len
    struct vnet_header:
        uint8_t flags
        uint8_t gso_type
        uint16_t gso_size
    struct ip_view:
        uint32_t length
    struct gso_plan_t "gso_plan":
        uint32_t header
        uint32_t size
        uint32_t segments
    struct gro_item:
        iovec piece[64]
        uint32_t pieces
    struct gro:
        bint tcp
        bint udp
        gro_item item[16]
    bint vnet_complete(const vnet_header *h, uint8_t *packet, uint32_t length)
    bint ip_parse(const uint8_t *packet, uint32_t length, ip_view *view)
    bint make_plan "gso_plan"(const vnet_header *h, const uint8_t *packet,
                              uint32_t length, gso_plan_t *plan)
    uint32_t gso_segment(const gso_plan_t *plan, uint32_t i, uint8_t *out)
    bint gro_take(gro *g, uint8_t *packet, const ip_view *view, gro_item **before)
    void gro_finish(gro_item *item)
    void gro_undo(gro_item *item)
    uint32_t gro_piece_length(const gro_item *item, uint32_t i)


def complete(bytes vnet, bytes packet):
    """The packet with its checksum filled in; None when the header is refused."""
    cdef vnet_header h
    if len(vnet) != VNET_HDR_LEN:
        raise ValueError(f"vnet: must have {VNET_HDR_LEN} bytes")
    memcpy(&h, PyBytes_AS_STRING(vnet), VNET_HDR_LEN)
    cdef bytearray copy = bytearray(packet)
    if not vnet_complete(&h, copy, <uint32_t>len(packet)):
        return None
    return bytes(copy)


def split(bytes vnet, bytes packet):
    """The segments of a large packet; None when the header is refused."""
    cdef vnet_header h
    cdef gso_plan_t plan
    if len(vnet) != VNET_HDR_LEN:
        raise ValueError(f"vnet: must have {VNET_HDR_LEN} bytes")
    memcpy(&h, PyBytes_AS_STRING(vnet), VNET_HDR_LEN)
    if not make_plan(&h, <const uint8_t *>PyBytes_AS_STRING(packet),
                     <uint32_t>len(packet), &plan):
        return None
    cdef uint8_t *room = <uint8_t *>malloc(plan.header + plan.size)
    if not room:
        raise MemoryError
    segments = []
    for i in range(plan.segments):
        length = gso_segment(&plan, i, room)
        segments.append(room[:length])
    free(room)
    return segments


cdef bytes emit(gro_item *item, bint undo):
    gro_finish(item)
    cdef bytes whole = b"".join(
        (<char *>item.piece[i].iov_base)[:item.piece[i].iov_len]
        for i in range(item.pieces))
    if undo:
        gro_undo(item)
    item.pieces = 0
    return whole


def merge(packets, *, bint tcp=True, bint udp=True):
    """What would be written to the TUN for these packets: each with its virtio header.
    Packets that are no whole IP packets raise ValueError."""
    cdef gro *g = <gro *>calloc(1, sizeof(gro))
    cdef uint8_t *room
    cdef ip_view view
    cdef gro_item *before
    cdef bytes packet
    written = []
    total = sum(len(p) + VNET_HDR_LEN for p in packets)
    room = <uint8_t *>calloc(1, total + 1)
    if not g or not room:
        raise MemoryError
    cdef uint8_t *at = room
    g.tcp, g.udp = tcp, udp
    try:
        for packet in packets:
            at += VNET_HDR_LEN
            memcpy(at, PyBytes_AS_STRING(packet), len(packet))
            if not ip_parse(at, <uint32_t>len(packet), &view):
                raise ValueError("packets: not an IP packet")
            while True:
                if gro_take(g, at, &view, &before):
                    break
                if before == NULL:
                    written.append(bytes(VNET_HDR_LEN) + at[:view.length])
                    break
                written.append(emit(before, False))
            at += len(packet)
        for i in range(GRO_FLOWS):
            if g.item[i].pieces:
                written.append(emit(&g.item[i], False))
    finally:
        free(g)
        free(room)
    return written
