/* SPDX-License-Identifier: MIT */
#include "gso.h"

#include <string.h>

#define TCP_FIN_PSH 0x09
#define TCP_CHECKSUM 16
#define UDP_CHECKSUM 6

static bool kind_fits(const struct vnet_header *h, const uint8_t *packet,
                      struct gso_plan *p)
{
    p->ipv4 = packet[0] >> 4 == 4;
    switch (h->gso_type) {
    case VNET_GSO_TCPV4:
    case VNET_GSO_TCPV6:
        p->tcp = true;
        p->checksum_offset = TCP_CHECKSUM;
        return p->ipv4 == (h->gso_type == VNET_GSO_TCPV4) &&
               (p->ipv4 || packet[0] >> 4 == 6);
    case VNET_GSO_UDP_L4:
        p->tcp = false;
        p->checksum_offset = UDP_CHECKSUM;
        return p->ipv4 || packet[0] >> 4 == 6;
    default:
        return false;
    }
}

bool gso_plan(const struct vnet_header *h, const uint8_t *packet, uint32_t length,
              struct gso_plan *p)
{
    uint32_t transport;

    memset(p, 0, sizeof *p);
    if (length < 28 || h->gso_size == 0 || !(h->flags & VNET_NEEDS_CSUM) ||
        !kind_fits(h, packet, p))
        return false;
    p->packet = packet;
    p->ip = h->csum_start;
    p->size = h->gso_size;
    if (p->ip < (p->ipv4 ? 20u : 40u) || h->csum_offset != p->checksum_offset)
        return false;
    if (p->ipv4 && p->ip != (uint32_t)(packet[0] & 15) * 4)
        return false;
    if (p->ip + (p->tcp ? 20u : 8u) > length)
        return false;
    transport = p->tcp ? (uint32_t)(packet[p->ip + 12] >> 4) * 4 : 8;
    if (p->tcp && transport < 20)
        return false;
    p->header = p->ip + transport;
    if (p->header >= length)
        return false;
    p->payload = length - p->header;
    p->segments = (p->payload + p->size - 1) / p->size;
    return true;
}

static void finish_ip(const struct gso_plan *p, uint32_t i, uint32_t total,
                      uint8_t *out)
{
    uint16_t id;

    if (!p->ipv4) {
        store16(out + 4, total - 40);
        return;
    }
    memcpy(&id, p->packet + 4, 2);
    store16(out + 2, total);
    store16(out + 4, ntohs(id) + i);
    store16(out + 10, 0);
    store16(out + 10, checksum_fold(checksum_add(0, out, p->ip)));
}

static void finish_tcp(const struct gso_plan *p, uint32_t i, uint8_t *tcp)
{
    uint32_t sequence;

    memcpy(&sequence, p->packet + p->ip + 4, 4);
    sequence = htonl(ntohl(sequence) + i * p->size);
    memcpy(tcp + 4, &sequence, 4);
    if (i + 1 < p->segments)
        tcp[13] &= (uint8_t)~TCP_FIN_PSH;
}

uint32_t gso_segment(const struct gso_plan *p, uint32_t i, uint8_t *out)
{
    uint32_t at = i * p->size, n = p->payload - at, l4;
    uint8_t *transport = out + p->ip;
    uint64_t sum;

    if (n > p->size)
        n = p->size;
    memcpy(out, p->packet, p->header);
    memcpy(out + p->header, p->packet + p->header + at, n);
    l4 = p->header - p->ip + n;
    finish_ip(p, i, p->ip + l4, out);
    if (p->tcp)
        finish_tcp(p, i, transport);
    else
        store16(transport + 4, l4);
    sum = checksum_pseudo(out, p->ipv4, p->tcp ? PROTOCOL_TCP : PROTOCOL_UDP, l4);
    store16(transport + p->checksum_offset, 0);
    uint16_t checksum = checksum_fold(checksum_add(sum, transport, l4));
    if (checksum == 0 && !p->tcp)
        checksum = 0xffff; /* RFC 768: zero means "none" */
    store16(transport + p->checksum_offset, checksum);
    return p->ip + l4;
}
