/* SPDX-License-Identifier: MIT
 *
 * The sum that Poly1305 (RFC 8439 section 2.5) takes over one text, with AVX-512 IFMA.
 *
 * With zero blocks in front, every text is whole groups g0, g1, ... of eight blocks,
 * and one group is eight lanes.  The sum is taken lane by lane,
 *
 *     h = (...((g0 r^8 + g1) r^8 + g2)...),
 *
 * four groups to a reduction: h r^32 + g1 r^24 + g2 r^16 + g3 r^8 + g4 is the next h.
 */
#ifndef TUNNEL_KERNELS_POLY1305_SUM_AVX512_H
#define TUNNEL_KERNELS_POLY1305_SUM_AVX512_H

#include <immintrin.h>

#include "number_avx512.h"
#include "poly1305_short_avx512.h"
#include "text.h"

#define GROUP 8          /* blocks of a text that are worked on at once */
#define GROUPS_AT_ONCE 4 /* of them share a reduction */
#define GROUP_BYTES (GROUP * 16)

/* One text per lane, except in sum. */
struct poly1305_scratch {
    struct factor step[GROUPS_AT_ONCE]; /* r^8, r^16, r^24, r^32 */
    struct factor power[GROUP];         /* r, r^2, ... r^8 */
    struct number sum[TEXTS];           /* of a text, before its lanes are added */
};

/* Blocks 0-3 and 4-7 become numbers, in the order 0 4 1 5 2 6 3 7, which comes from
 * unpacking; the lanes `present` get their 2^128. */
ISA static inline struct number group_of(__m512i front, __m512i back, __mmask8 present)
{
    return block_of(_mm512_unpacklo_epi64(front, back),
                    _mm512_unpackhi_epi64(front, back), present);
}

ISA static inline struct number whole_group(const uint8_t *at)
{
    return group_of(_mm512_loadu_si512((const void *)at),
                    _mm512_loadu_si512((const void *)(at + 64)), 0xff);
}

/* Which lanes hold a block when the first n of the group are missing. */
static inline __mmask8 lanes_without(unsigned n)
{
#define LANES_WITHOUT(n)                                            \
    ((n) <= 0) | ((n) <= 4) << 1 | ((n) <= 1) << 2 | ((n) <= 5) << 3 | \
        ((n) <= 2) << 4 | ((n) <= 6) << 5 | ((n) <= 3) << 6 | ((n) <= 7) << 7
    static const uint8_t lanes[GROUP] = {
        LANES_WITHOUT(0), LANES_WITHOUT(1), LANES_WITHOUT(2), LANES_WITHOUT(3),
        LANES_WITHOUT(4), LANES_WITHOUT(5), LANES_WITHOUT(6), LANES_WITHOUT(7),
    };
    return lanes[n];
}

/* A group whose first blocks are missing; `at` has n bytes of it, then zeros follow. */
ISA static inline void load_group(const uint8_t *at, unsigned missing, size_t n,
                                  __m512i *front, __m512i *back)
{
    const unsigned start = 16 * missing;

    if (start >= PART) {
        *front = _mm512_setzero_si512();
        *back = load_behind(at, start - PART, n);
    } else {
        const unsigned room = PART - start;
        *front = start > 0 ? load_behind(at, start, n) : load_first(at, n);
        *back = n > room ? load_first(at + room, n - room) : _mm512_setzero_si512();
    }
}

/* The first group of several. */
ISA static inline struct number first_group(const uint8_t *at, unsigned missing)
{
    __m512i front, back;

    load_group(at, missing, GROUP_BYTES - 16 * missing, &front, &back);
    return group_of(front, back, lanes_without(missing));
}

/* The last group: of its text n bytes are left, its last block is the length. */
ISA static inline struct number last_group(const uint8_t *at, unsigned missing,
                                           size_t n, uint32_t length)
{
    __m512i front, back;

    load_group(at, missing, n, &front, &back);
    back = _mm512_mask_set1_epi64(back, 0x80, length);
    return group_of(front, back, lanes_without(missing));
}

static inline size_t text_groups(uint32_t length)
{
    return (text_blocks16(length) + GROUP - 1) / GROUP;
}

/* The r^8k of one text, in all lanes. */
ISA static inline struct factor step_power(const struct poly1305_scratch *s, size_t k,
                                           size_t text)
{
    const struct factor *f = &s->step[k - 1];
    struct factor r;

    for (int i = 0; i < 5; i++)
        r.x[i] = _mm512_set1_epi64(((const long long *)&f->x[i])[text]);
    return r;
}

/* h r^32 + g1 r^24 + g2 r^16 + g3 r^8 + g4, which is the next h */
ISA static inline struct number four_groups(const struct poly1305_scratch *s,
                                            size_t text, struct number h,
                                            const uint8_t *at)
{
    struct products p = no_products(), q = no_products();
    struct number g;
    struct factor r;

    for (size_t k = 3; k > 0; k--) {
        g = whole_group(at + (3 - k) * GROUP_BYTES);
        r = step_power(s, k, text);
        multiply_add(&p, &g, &r);
    }
    r = step_power(s, 4, text);
    multiply_add(&q, &h, &r);
    add_products(&p, &q);
    h = reduce(&p);
    g = whole_group(at + 3 * GROUP_BYTES);
    return add(&h, &g);
}

/* The sum over a text, lane by lane. */
ISA static inline struct number text_sum(const struct poly1305_scratch *s, size_t text,
                                         const struct text *t)
{
    const size_t blocks = text_blocks16(t->length), groups = text_groups(t->length);
    const unsigned missing = (unsigned)(groups * GROUP - blocks);
    const uint8_t *at = t->at, *end = t->at + t->length;
    struct products p = no_products();
    struct number h, g;
    struct factor r;
    size_t left = groups - 1;

    if (left == 0)
        return last_group(at, missing, t->length, t->length);
    h = first_group(at, missing);
    at += GROUP_BYTES - 16 * missing;
    for (; left > GROUPS_AT_ONCE; left -= GROUPS_AT_ONCE) {
        h = four_groups(s, text, h, at);
        at += GROUPS_AT_ONCE * GROUP_BYTES;
    }
    r = step_power(s, left, text);
    multiply_add(&p, &h, &r);
    for (; left > 1; left--, at += GROUP_BYTES) {
        g = whole_group(at);
        r = step_power(s, left - 1, text);
        multiply_add(&p, &g, &r);
    }
    h = reduce(&p);
    g = last_group(at, 0, (size_t)(end - at), t->length);
    return add(&h, &g);
}

#endif
