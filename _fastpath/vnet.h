/* SPDX-License-Identifier: MIT
 *
 * Pure functions over inner packets: the virtio header, IP headers, ECN and ICMP.
 * No descriptors, no state.
 */
#ifndef TUNNEL_VNET_H
#define TUNNEL_VNET_H

#include <arpa/inet.h>
#include <stdbool.h>

#include "packet.h"

/* linux/virtio_net.h, native endian */
struct vnet_header {
    uint8_t flags;
    uint8_t gso_type;
    uint16_t hdr_len;
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
};

#define VNET_NEEDS_CSUM 1
#define VNET_GSO_NONE 0

#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17

/* In the network's order, at any alignment. */
static inline void store16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline uint32_t load16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

/* One's complement sum of `length` bytes on top of `sum`, not folded. */
uint64_t checksum_add(uint64_t sum, const uint8_t *data, size_t length);
/* The 16-bit checksum in host order. */
uint16_t checksum_fold(uint64_t sum);

/* The sum of the pseudo header: addresses, protocol, length of what it is about. */
static inline uint64_t checksum_pseudo(const uint8_t *packet, bool ipv4,
                                       uint8_t protocol, uint32_t length)
{
    uint64_t sum = ipv4 ? checksum_add(0, packet + 12, 8)
                        : checksum_add(0, packet + 8, 32);

    return sum + htons((uint16_t)length) + htons(protocol);
}

/* Completes the checksum that the kernel left to us (gso_type NONE).  False when
 * the header contradicts the packet, or asks for what was not offered. */
bool vnet_complete(const struct vnet_header *h, uint8_t *packet, uint32_t length);

/* What routing needs to know of an IP packet. */
struct ip_view {
    const uint8_t *source, *destination; /* into the packet */
    uint32_t length;                     /* by its own header, <= bytes given (R52) */
    uint8_t version;                     /* 4 or 6 */
    uint8_t tos;                         /* DSCP and ECN */
};

bool ip_parse(const uint8_t *packet, uint32_t length, struct ip_view *view);

/* The outer header's: ECN of the inner one, without DSCP.  What is marked already may
 * be marked once more, so it is ECT(0) outside (kernel: INET_ECN_encapsulate; R56). */
static inline uint8_t ecn_encapsulate(const struct ip_view *view)
{
    uint8_t ecn = view->tos & 3;

    return ecn == 3 ? 2 : ecn;
}

/* A congestion mark of the outer header reaches the inner one, in place (R56).  What
 * is not ECT inside stays as it is.  RFC 6040 section 4.2 would drop it, but a path
 * that marks wrongly must not cut off who does not use ECN (kernel: receive.c). */
void ecn_decapsulate(uint8_t *packet, const struct ip_view *view, uint8_t outer_tos);

/* Builds "address unreachable" for `packet` into `out` (ICMP_REPLY_MAX bytes), from
 * the address that could not be reached.  0 when none may be sent (RFC 1122 3.2.2,
 * RFC 4443 2.4): to an ICMP error, a fragment, a multicast or unspecified source. */
#define ICMP_REPLY_MAX 1280
uint32_t icmp_unreachable(const uint8_t *packet, const struct ip_view *view,
                          uint8_t *out);
/* The same with "communication administratively prohibited". */
uint32_t icmp_prohibited(const uint8_t *packet, const struct ip_view *view,
                         uint8_t *out);

#endif
