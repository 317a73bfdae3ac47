/* SPDX-License-Identifier: MIT
 *
 * Merging packets of one flow into a large one for the TUN: no copy, a list of pieces.
 * Pure functions over buffers; the caller writes what comes out.
 */
#ifndef TUNNEL_GRO_H
#define TUNNEL_GRO_H

#include <sys/uio.h>

#include "gso.h"

#define GRO_FLOWS 16
#define GRO_PIECES 64 /* UDP_MAX_SEGMENTS of older kernels */
#define GRO_HEADER_MAX 120

/* One packet that grows.  The packets stay where they are, each with VNET_HDR_LEN
 * writable bytes in front. */
struct gro_item {
    uint8_t *packet[GRO_PIECES]; /* where each began */
    struct iovec piece[GRO_PIECES];
    uint32_t pieces;
    uint32_t length;    /* IP packet in all */
    uint32_t header, ip;
    uint32_t size;      /* payload of the first */
    uint32_t sequence;  /* TCP: of the byte that comes next */
    bool ipv4, tcp, closed;
    bool checked;       /* the first packet's checksum is right */
    uint8_t first_header[GRO_HEADER_MAX]; /* before it was changed */
};

struct gro {
    bool tcp, udp; /* what may be merged */
    struct gro_item item[GRO_FLOWS]; /* those with no pieces are free */
};

/* Takes the packet (its exact length, an IP packet) into an item.  False: `*before`
 * is an item that must be written and freed first, then ask again; if that is NULL,
 * the packet is none to merge. */
bool gro_take(struct gro *g, uint8_t *packet, const struct ip_view *view,
              struct gro_item **before);

/* Completes headers and checksums, puts the virtio header in front. */
void gro_finish(struct gro_item *item);
/* Takes gro_finish back: each piece is a packet of its own again. */
void gro_undo(struct gro_item *item);
/* Length of the packet that piece i came from. */
uint32_t gro_piece_length(const struct gro_item *item, uint32_t i);

#endif
