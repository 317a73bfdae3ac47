/* SPDX-License-Identifier: MIT
 *
 * Splitting what the kernel hands over as one large packet (TSO, USO): pure functions
 * over buffers.
 */
#ifndef TUNNEL_GSO_H
#define TUNNEL_GSO_H

#include "vnet.h"

#define VNET_GSO_TCPV4 1
#define VNET_GSO_TCPV6 4
#define VNET_GSO_UDP_L4 5

/* A large packet that may be split; made by gso_plan. */
struct gso_plan {
    const uint8_t *packet;
    uint32_t header;   /* IP and transport header, copied to each segment */
    uint32_t ip;       /* of it the IP header with options or extension headers */
    uint32_t size;     /* payload bytes per segment, the last may have fewer */
    uint32_t payload;  /* in all */
    uint32_t segments;
    uint16_t checksum_offset; /* in the transport header */
    bool ipv4, tcp;
};

/* False when the header contradicts the packet; hdr_len is not trusted, it is the
 * whole linear part on forwarded packets. */
bool gso_plan(const struct vnet_header *h, const uint8_t *packet, uint32_t length,
              struct gso_plan *plan);
/* Writes segment i (complete, with its checksums) to `out`; returns its length. */
uint32_t gso_segment(const struct gso_plan *plan, uint32_t i, uint8_t *out);

#endif
