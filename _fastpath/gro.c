/* SPDX-License-Identifier: MIT */
#include "gro.h"

#include <string.h>

#define TCP_PSH 0x08
#define TCP_ACK 0x10
#define LENGTH_MAX 65535

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, 4);
    return ntohl(value);
}

/* One packet, as far as merging is concerned. */
struct candidate {
    uint8_t *packet;
    uint32_t length, header, ip, payload, sequence;
    bool ipv4, tcp, push;
};

/* Fills what identifies the flow; false when it has none that could be here. */
static bool flow_of(uint8_t *packet, const struct ip_view *v, struct candidate *c)
{
    uint8_t protocol;

    *c = (struct candidate){
        .packet = packet, .length = v->length, .ipv4 = v->version == 4};
    if (c->ipv4) {
        /* no options, no fragments */
        if (packet[0] != 0x45 || (packet[6] & 0x3f) || packet[7])
            return false;
        protocol = packet[9];
        c->ip = 20;
    } else {
        protocol = packet[6]; /* extension headers are not followed */
        c->ip = 40;
    }
    c->tcp = protocol == PROTOCOL_TCP;
    return (c->tcp && c->length >= c->ip + 20) ||
           (protocol == PROTOCOL_UDP && c->length >= c->ip + 8);
}

/* The merged packet's checksum is left to the kernel, which would not look at those
 * of its parts again.  UDP's may be absent on IPv4: not merged then. */
static bool checksum_right(const struct candidate *c)
{
    uint32_t l4 = c->length - c->ip;
    uint64_t sum;

    if (!c->tcp && !c->packet[c->ip + 6] && !c->packet[c->ip + 7])
        return false;
    if (c->ipv4 && checksum_fold(checksum_add(0, c->packet, c->ip)))
        return false; /* merged, it would get a right one */
    sum = checksum_pseudo(c->packet, c->ipv4, c->tcp ? PROTOCOL_TCP : PROTOCOL_UDP, l4);
    return checksum_fold(checksum_add(sum, c->packet + c->ip, l4)) == 0;
}

static bool mergeable(const struct gro *g, struct candidate *c)
{
    const uint8_t *l4 = c->packet + c->ip;

    if (!(c->tcp ? g->tcp : g->udp))
        return false;
    if (c->tcp) {
        uint32_t offset = (uint32_t)(l4[12] >> 4) * 4;
        if (offset < 20 || c->ip + offset >= c->length)
            return false; /* malformed, or no payload */
        if ((l4[13] & ~TCP_PSH) != TCP_ACK || (l4[12] & 1))
            return false;
        c->header = c->ip + offset;
        c->push = l4[13] & TCP_PSH;
        c->sequence = load32(l4 + 4);
    } else {
        c->header = c->ip + 8;
        if (c->header >= c->length ||
            load16(l4 + 4) != c->length - c->ip)
            return false;
    }
    c->payload = c->length - c->header;
    return true;
}

static bool same_flow(const struct gro_item *item, const struct candidate *c)
{
    const uint8_t *a = item->first_header, *b = c->packet;

    if (item->ipv4 != c->ipv4 || item->tcp != c->tcp)
        return false;
    return c->ipv4 ? !memcmp(a + 12, b + 12, 12) /* addresses and ports */
                   : !memcmp(a + 8, b + 8, 36);
}

/* May `c` follow the item's last packet within one large packet? */
static bool continues(const struct gro_item *item, const struct candidate *c)
{
    const uint8_t *a = item->first_header, *b = c->packet;

    if (item->closed || item->pieces == GRO_PIECES || c->payload > item->size ||
        item->length + c->payload > LENGTH_MAX || item->header != c->header)
        return false;
    if (c->ipv4 ? (a[1] != b[1] || a[8] != b[8] || (a[6] ^ b[6]) & 0xe0)
                : (memcmp(a, b, 4) || a[7] != b[7]))
        return false; /* TOS, TTL, DF; traffic class, flow label, hop limit */
    if (!c->tcp)
        return true;
    a += item->ip;
    b += item->ip;
    return c->sequence == item->sequence && !memcmp(a + 8, b + 8, 4) &&
           a[12] == b[12] && /* reserved bits */
           !memcmp(a + 14, b + 14, 2) && /* acknowledgement and window */
           !memcmp(a + 20, b + 20, item->header - item->ip - 20);
}

static bool head_is_right(struct gro_item *item)
{
    struct candidate head = {
        .packet = item->packet[0], .length = (uint32_t)item->piece[0].iov_len,
        .ip = item->ip, .ipv4 = item->ipv4, .tcp = item->tcp};

    if (!item->checked)
        item->checked = checksum_right(&head);
    return item->checked;
}

static void append(struct gro_item *item, const struct candidate *c, uint32_t skip)
{
    item->packet[item->pieces] = c->packet;
    item->piece[item->pieces++] =
        (struct iovec){.iov_base = c->packet + skip, .iov_len = c->length - skip};
    item->length += c->length - skip;
    item->sequence += c->payload;
    item->closed = c->push || c->payload < item->size;
    if (c->push)
        item->packet[0][item->ip + 13] |= TCP_PSH;
}

static void begin(struct gro_item *item, const struct candidate *c)
{
    item->pieces = 0;
    item->length = 0;
    item->header = c->header;
    item->ip = c->ip;
    item->size = c->payload;
    item->sequence = c->sequence;
    item->ipv4 = c->ipv4;
    item->tcp = c->tcp;
    item->checked = false;
    memcpy(item->first_header, c->packet, c->header);
    append(item, c, 0);
}

/* What waits between the two hosts of a packet whose flow cannot be told: a fragment,
 * or one with options or extension headers. */
static struct gro_item *between_hosts(struct gro *g, const uint8_t *packet, bool ipv4)
{
    const uint32_t at = ipv4 ? 12 : 8, length = ipv4 ? 8 : 32;

    for (struct gro_item *item = g->item; item < g->item + GRO_FLOWS; item++)
        if (item->pieces && item->ipv4 == ipv4 &&
            !memcmp(item->first_header + at, packet + at, length))
            return item;
    return NULL;
}

bool gro_take(struct gro *g, uint8_t *packet, const struct ip_view *v,
              struct gro_item **before)
{
    struct gro_item *found = NULL, *room = NULL;
    struct candidate c;

    *before = NULL;
    if (!flow_of(packet, v, &c)) {
        *before = between_hosts(g, packet, v->version == 4);
        return false;
    }
    for (struct gro_item *item = g->item; item < g->item + GRO_FLOWS; item++) {
        if (!item->pieces)
            room = item;
        else if (same_flow(item, &c))
            found = item;
    }
    if (!mergeable(g, &c)) {
        *before = found; /* order within the flow */
        return false;
    }
    if (!found && room) {
        begin(room, &c);
        return true;
    }
    if (found && continues(found, &c) && head_is_right(found) && checksum_right(&c)) {
        append(found, &c, c.header);
        return true;
    }
    *before = found ? found : &g->item[0];
    return false;
}

void gro_finish(struct gro_item *item)
{
    uint8_t *head = item->packet[0], *l4 = head + item->ip;
    uint32_t l4_length = item->length - item->ip;
    uint64_t sum;
    struct vnet_header h = {0};

    if (item->pieces > 1) {
        h = (struct vnet_header){
            .flags = VNET_NEEDS_CSUM,
            .gso_type = !item->tcp ? VNET_GSO_UDP_L4
                        : item->ipv4 ? VNET_GSO_TCPV4
                                     : VNET_GSO_TCPV6,
            .hdr_len = (uint16_t)item->header,
            .gso_size = (uint16_t)item->size,
            .csum_start = (uint16_t)item->ip,
            .csum_offset = item->tcp ? 16 : 6,
        };
        if (item->ipv4) {
            store16(head + 2, item->length);
            store16(head + 10, 0);
            store16(head + 10, checksum_fold(checksum_add(0, head, 20)));
        } else {
            store16(head + 4, item->length - 40);
        }
        if (!item->tcp)
            store16(l4 + 4, l4_length);
        sum = checksum_pseudo(head, item->ipv4,
                              item->tcp ? PROTOCOL_TCP : PROTOCOL_UDP, l4_length);
        /* the pseudo header's sum, not complemented: the kernel adds the rest */
        store16(l4 + h.csum_offset, (uint16_t)~checksum_fold(sum));
    }
    memcpy(head - VNET_HDR_LEN, &h, VNET_HDR_LEN);
    item->piece[0].iov_base = head - VNET_HDR_LEN;
    item->piece[0].iov_len += VNET_HDR_LEN;
}

void gro_undo(struct gro_item *item)
{
    memcpy(item->packet[0], item->first_header, item->header);
}

uint32_t gro_piece_length(const struct gro_item *item, uint32_t i)
{
    uint32_t bytes = (uint32_t)item->piece[i].iov_len;

    return i ? bytes + item->header : bytes - VNET_HDR_LEN;
}
