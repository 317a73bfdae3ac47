/* SPDX-License-Identifier: MIT */
#include "vnet.h"

#include <string.h>

#include "sum_avx512.h"

#define PROTO_ICMP 1
#define PROTO_UDP_CSUM_OFFSET 6
#define PROTO_ICMPV6 58
/* codes of "destination unreachable" */
#define HOST_UNREACHABLE 1
#define PROHIBITED 13
#define PROHIBITED6 1
#define ADDRESS_UNREACHABLE 3

/* The loop that matters, in whatever registers this CPU has. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
__attribute__((target_clones("avx2", "default")))
#endif
static uint64_t sum_words(const uint8_t *data, size_t words)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < words; i++) {
        uint32_t word;
        memcpy(&word, data + 4 * i, 4);
        sum += word;
    }
    return sum;
}

uint64_t checksum_add(uint64_t sum, const uint8_t *data, size_t length)
{
    size_t words = length / 4;

#if defined(__x86_64__)
    if (length >= 64 && sum_avx512_supported())
        return sum + sum_avx512(data, length);
#endif
    sum += sum_words(data, words);
    data += 4 * words;
    length -= 4 * words;
    while (length >= 2) {
        uint16_t half;
        memcpy(&half, data, 2);
        sum += half;
        data += 2;
        length -= 2;
    }
    if (length) {
        uint16_t half = 0;
        memcpy(&half, data, 1);
        sum += half;
    }
    return sum;
}

uint16_t checksum_fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ntohs((uint16_t)~sum);
}

bool vnet_complete(const struct vnet_header *h, uint8_t *packet, uint32_t length)
{
    uint32_t at = (uint32_t)h->csum_start + h->csum_offset;
    uint16_t pseudo, sum;

    if (h->gso_type != VNET_GSO_NONE)
        return false;
    if (!(h->flags & VNET_NEEDS_CSUM))
        return true;
    if (at + 2 > length)
        return false;
    /* the field holds the pseudo-header's sum, not complemented: adding the bytes
     * with the field in place adds it too */
    memcpy(&pseudo, packet + at, 2);
    store16(packet + at, 0);
    sum = checksum_fold(
        checksum_add(pseudo, packet + h->csum_start, length - h->csum_start));
    /* RFC 768: zero means "no checksum" */
    if (sum == 0 && h->csum_offset == PROTO_UDP_CSUM_OFFSET)
        sum = 0xffff;
    store16(packet + at, sum);
    return true;
}

bool ip_parse(const uint8_t *packet, uint32_t length, struct ip_view *v)
{
    if (length < 20)
        return false;
    v->version = packet[0] >> 4;
    if (v->version == 4) {
        v->length = load16(packet + 2);
        v->source = packet + 12;
        v->destination = packet + 16;
        v->tos = packet[1];
        return v->length >= 20 && v->length <= length;
    }
    if (v->version == 6 && length >= 40) {
        v->length = (uint32_t)load16(packet + 4) + 40; /* 32 bits: no wrap (R52) */
        v->source = packet + 8;
        v->destination = packet + 24;
        v->tos = (uint8_t)((packet[0] & 15) << 4 | packet[1] >> 4);
        return v->length <= length;
    }
    return false;
}

static void set_ecn_ce(uint8_t *packet, const struct ip_view *v)
{
    if (v->version == 6) {
        packet[1] |= 0x30;
        return;
    }
    /* incremental update of the header checksum (RFC 1624) */
    uint16_t before = load16(packet);
    packet[1] |= 3;
    uint32_t sum = (uint16_t)~load16(packet + 10) + (uint16_t)~before + load16(packet);
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    store16(packet + 10, (uint16_t)~sum);
}

void ecn_decapsulate(uint8_t *packet, const struct ip_view *v, uint8_t outer_tos)
{
    const uint8_t inner = v->tos & 3;

    if ((outer_tos & 3) == 3 && inner != 0 && inner != 3)
        set_ecn_ce(packet, v);
}

static uint32_t unreachable4(const uint8_t *packet, const struct ip_view *v,
                             uint8_t code, uint8_t *out)
{
    uint32_t ihl = (uint32_t)(packet[0] & 15) * 4, quoted = v->length;
    const uint8_t *source = v->source;

    if (ihl < 20 || ihl > v->length || (load16(packet + 6) & 0x1fff))
        return 0;
    if (source[0] >= 224 || source[0] == 0 || v->destination[0] >= 224)
        return 0;
    if (packet[9] == PROTO_ICMP) {
        uint8_t type = ihl < v->length ? packet[ihl] : 3;
        if (type != 8 && type != 0 && type != 13 && type != 14)
            return 0;
    }
    if (quoted > 576 - 28)
        quoted = 576 - 28;
    memset(out, 0, 28);
    out[0] = 0x45;
    store16(out + 2, (uint16_t)(28 + quoted));
    out[8] = 64;
    out[9] = PROTO_ICMP;
    memcpy(out + 12, v->destination, 4);
    memcpy(out + 16, source, 4);
    store16(out + 10, checksum_fold(checksum_add(0, out, 20)));
    out[20] = 3; /* destination unreachable */
    out[21] = code;
    memcpy(out + 28, packet, quoted);
    store16(out + 22, checksum_fold(checksum_add(0, out + 20, 8 + quoted)));
    return 28 + quoted;
}

static uint32_t unreachable6(const uint8_t *packet, const struct ip_view *v,
                             uint8_t code, uint8_t *out)
{
    uint32_t quoted = v->length > 1280 - 48 ? 1280 - 48 : v->length;
    static const uint8_t unspecified[16];
    uint64_t sum;

    if (v->source[0] == 0xff || !memcmp(v->source, unspecified, 16) ||
        v->destination[0] == 0xff)
        return 0;
    if (packet[6] == PROTO_ICMPV6 && (v->length <= 40 || packet[40] < 128))
        return 0;
    memset(out, 0, 48);
    out[0] = 0x60;
    store16(out + 4, (uint16_t)(8 + quoted));
    out[6] = PROTO_ICMPV6;
    out[7] = 64;
    memcpy(out + 8, v->destination, 16);
    memcpy(out + 24, v->source, 16);
    out[40] = 1; /* destination unreachable */
    out[41] = code;
    memcpy(out + 48, packet, quoted);
    sum = checksum_pseudo(out, false, PROTO_ICMPV6, 8 + quoted);
    store16(out + 42, checksum_fold(checksum_add(sum, out + 40, 8 + quoted)));
    return 48 + quoted;
}

uint32_t icmp_unreachable(const uint8_t *packet, const struct ip_view *v,
                          uint8_t *out)
{
    return v->version == 4 ? unreachable4(packet, v, HOST_UNREACHABLE, out)
                           : unreachable6(packet, v, ADDRESS_UNREACHABLE, out);
}

uint32_t icmp_prohibited(const uint8_t *packet, const struct ip_view *v, uint8_t *out)
{
    return v->version == 4 ? unreachable4(packet, v, PROHIBITED, out)
                           : unreachable6(packet, v, PROHIBITED6, out);
}
