/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) with AVX-512 IFMA, for texts that are zero-padded to
 * 16 bytes and followed by a block with their length, as the AEAD has them.
 *
 * With zero blocks in front, every text is whole groups g0, g1, ... of eight blocks,
 * and one group is eight lanes.  The sum over a text is taken lane by lane,
 *
 *     h = (...((g0 r^8 + g1) r^8 + g2)...),
 *
 * four groups to a reduction: h r^32 + g1 r^24 + g2 r^16 + g3 r^8 + g4 is the next h.
 * Everything else is done for eight texts at a time, with one text per lane: the powers
 * of r, the end h[0] r^8 + h[1] r^7 + ... + h[7] r, and the final reduction.
 */
#ifndef TUNNEL_KERNELS_POLY1305_AVX512_H
#define TUNNEL_KERNELS_POLY1305_AVX512_H

#include <immintrin.h>

#include "lanes.h"
#include "number_avx512.h"
#include "text.h"

#define GROUP 8          /* blocks of a text that are worked on at once */
#define GROUPS_AT_ONCE 4 /* of them share a reduction */
#define GROUP_BYTES (GROUP * 16)

/* One text per lane, except in sum. */
struct poly1305_scratch {
    struct factor power[GROUP];         /* r, r^2, ... r^8 */
    struct factor step[GROUPS_AT_ONCE]; /* r^8, r^16, r^24, r^32 */
    struct number sum[TEXTS];           /* of a text, before its lanes are added */
};

/* How many bytes of it hold secrets after n texts at a time. */
static inline size_t poly1305_secret_bytes(size_t n)
{
    return offsetof(struct poly1305_scratch, sum) +
           (n < TEXTS ? n : TEXTS) * sizeof(struct number);
}

/* ---- blocks of one text */

/* Blocks 0-3 and 4-7 become numbers, in the order 0 4 1 5 2 6 3 7, which comes from
 * unpacking; the lanes `present` get their 2^128. */
ISA static inline struct number group_of(__m512i front, __m512i back, __mmask8 present)
{
    struct number g = limbs(_mm512_unpacklo_epi64(front, back),
                            _mm512_unpackhi_epi64(front, back));

    g.x[2] = _mm512_mask_or_epi64(g.x[2], present, g.x[2],
                                  _mm512_set1_epi64(INT64_C(1) << 40));
    return g;
}

ISA static inline struct number whole_group(const uint8_t *at)
{
    return group_of(_mm512_loadu_si512((const void *)at),
                    _mm512_loadu_si512((const void *)(at + 64)), 0xff);
}

/* A bit for each byte of a group, from byte n on. */
static inline unsigned __int128 bytes_from(unsigned n)
{
    return ~(unsigned __int128)0 << n;
}

/* The bytes of `mask`, zeros between them; others are not read. */
ISA static inline void load_bytes(const uint8_t *at, unsigned __int128 mask,
                                  __m512i *front, __m512i *back)
{
    *front = _mm512_maskz_loadu_epi8((uint64_t)mask, at);
    *back = _mm512_maskz_loadu_epi8((uint64_t)(mask >> 64), at + 64);
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

/* The first group of several. */
ISA static inline struct number first_group(const uint8_t *at, unsigned missing)
{
    __m512i front, back;

    load_bytes(at, bytes_from(16 * missing), &front, &back);
    return group_of(front, back, lanes_without(missing));
}

/* The last group: its text ends before byte `end`, its last block is the length. */
ISA static inline struct number last_group(const uint8_t *at, unsigned missing,
                                           unsigned end, uint32_t length)
{
    __m512i front, back;

    load_bytes(at, bytes_from(16 * missing) & ~bytes_from(end), &front, &back);
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
    const unsigned end = GROUP_BYTES - 16 - -t->length % 16;
    const uint8_t *at = t->at - 16 * missing;
    struct products p = no_products();
    struct number h, g;
    struct factor r;
    size_t left = groups - 1;

    if (left == 0)
        return last_group(at, missing, end, t->length);
    h = first_group(at, missing);
    at += GROUP_BYTES;
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
    g = last_group(at, 0, end, t->length);
    return add(&h, &g);
}

/* ---- eight texts, one per lane */

/* Rows become columns: x[i] lane j  ->  x[j] lane i. */
ISA static inline void transpose8(__m512i x[8])
{
    __m512i t[8];

    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm512_unpacklo_epi64(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi64(x[i], x[i + 1]);
    }
    for (int i = 0; i < 2; i++) {
        const __m512i even = _mm512_shuffle_i64x2(t[i], t[i + 2], 0x88);
        const __m512i odd = _mm512_shuffle_i64x2(t[i], t[i + 2], 0xdd);
        const __m512i even2 = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0x88);
        const __m512i odd2 = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0xdd);
        x[i] = _mm512_shuffle_i64x2(even, even2, 0x88);
        x[i + 4] = _mm512_shuffle_i64x2(even, even2, 0xdd);
        x[i + 2] = _mm512_shuffle_i64x2(odd, odd2, 0x88);
        x[i + 6] = _mm512_shuffle_i64x2(odd, odd2, 0xdd);
    }
}

/* The clamped multipliers. */
ISA static inline struct number multipliers(const uint8_t (*keys)[64], size_t n,
                                            __m512i pad[2])
{
    __m512i x[8];

    for (size_t i = 0; i < 8; i++)
        x[i] = i < n ? _mm512_load_si512((const void *)keys[i])
                     : _mm512_setzero_si512();
    transpose8(x);
    pad[0] = x[2];
    pad[1] = x[3];
    return limbs(_mm512_and_si512(x[0], _mm512_set1_epi64(0x0ffffffc0fffffff)),
                 _mm512_and_si512(x[1], _mm512_set1_epi64(0x0ffffffc0ffffffc)));
}

/* Computes the powers of r, and those that the longest text needs of the steps. */
ISA static inline void prepare_powers(struct poly1305_scratch *s,
                                      const struct number *r, size_t groups)
{
    struct number power[GROUP + 1], step;

    power[1] = *r;
    s->power[0] = factor_of(r);
    power[2] = multiply(r, &s->power[0]);
    s->power[1] = factor_of(&power[2]);
    for (int i = 1; i <= 2; i++) {
        power[2 + i] = multiply(&power[i], &s->power[1]);
        s->power[1 + i] = factor_of(&power[2 + i]);
    }
    for (int i = 1; i <= 4; i++) {
        power[4 + i] = multiply(&power[i], &s->power[3]);
        s->power[3 + i] = factor_of(&power[4 + i]);
    }
    if (groups <= 1)
        return;
    s->step[0] = s->power[7];
    if (groups <= 2)
        return;
    step = multiply(&power[8], &s->step[0]);
    s->step[1] = factor_of(&step);
    if (groups <= 3)
        return;
    power[8] = multiply(&power[8], &s->step[1]);
    s->step[2] = factor_of(&power[8]);
    step = multiply(&step, &s->step[1]);
    s->step[3] = factor_of(&step);
}

/* h[0] r^8 + ... + h[7] r of each text */
ISA static inline struct number end_sums(const struct poly1305_scratch *s)
{
    static const uint8_t block[GROUP] = {0, 4, 1, 5, 2, 6, 3, 7}; /* see group_of() */
    struct products p = no_products(), q = no_products();
    __m512i h[GROUP];

    for (int limb = 0; limb < 3; limb++) {
        for (int text = 0; text < TEXTS; text++)
            h[text] = s->sum[text].x[limb];
        transpose8(h);
        for (int i = 0; i < GROUP; i += 2) { /* two sums wait less for themselves */
            multiply_add_limb(&p, limb, h[i], &s->power[GROUP - 1 - block[i]]);
            multiply_add_limb(&q, limb, h[i + 1], &s->power[GROUP - 1 - block[i + 1]]);
        }
    }
    add_products(&p, &q);
    return reduce(&p);
}

/* tags = ((h mod p) + pad) mod 2^128 */
ISA static inline void finish(const struct number *h, const __m512i pad[2],
                              uint64_t tags[2][TEXTS])
{
    __m512i x[3] = {h->x[0], h->x[1], h->x[2]}, carry;

    /* once around, so that every limb has its width: where x[2] overflows it becomes
     * 0, and the carry out of x[0] ends in x[1] */
    carry = _mm512_srli_epi64(x[1], 44);
    x[1] = _mm512_and_si512(x[1], LIMB44);
    x[2] = PLUS(x[2], carry);
    carry = _mm512_srli_epi64(x[2], 42);
    x[2] = _mm512_and_si512(x[2], LIMB42);
    x[0] = PLUS(x[0], PLUS(carry, _mm512_slli_epi64(carry, 2)));
    x[1] = PLUS(x[1], _mm512_srli_epi64(x[0], 44));
    x[0] = _mm512_and_si512(x[0], LIMB44);

    /* g = x + 5; it reaches 2^130 exactly when x >= p, and is then x - p */
    __m512i g[3];
    g[0] = PLUS(x[0], _mm512_set1_epi64(5));
    g[1] = PLUS(x[1], _mm512_srli_epi64(g[0], 44));
    g[2] = PLUS(x[2], _mm512_srli_epi64(g[1], 44));
    const __mmask8 above =
        _mm512_cmpge_epu64_mask(g[2], _mm512_set1_epi64(INT64_C(1) << 42));
    x[0] = _mm512_mask_and_epi64(x[0], above, g[0], LIMB44);
    x[1] = _mm512_mask_and_epi64(x[1], above, g[1], LIMB44);
    x[2] = _mm512_mask_and_epi64(x[2], above, g[2], LIMB42);

    const __m512i low = _mm512_or_si512(x[0], _mm512_slli_epi64(x[1], 44));
    const __m512i high =
        _mm512_or_si512(_mm512_srli_epi64(x[1], 20), _mm512_slli_epi64(x[2], 24));
    const __m512i tag = PLUS(low, pad[0]);
    const __mmask8 over = _mm512_cmplt_epu64_mask(tag, low);
    const __m512i top = PLUS(high, pad[1]);
    _mm512_storeu_si512((void *)tags[0], tag);
    _mm512_storeu_si512((void *)tags[1],
                        _mm512_mask_add_epi64(top, over, top, _mm512_set1_epi64(1)));
}

/* Few blocks are done sooner one by one than their powers of r are computed. */
#define SCALAR_BLOCKS 24

/* The tags of up to eight texts, each under the first 32 bytes of its key. */
ISA static void poly1305_tags(struct poly1305_scratch *s, const uint8_t (*keys)[64],
                              const struct text *texts, size_t n, uint8_t (*tags)[16])
{
    uint64_t tag[2][TEXTS];
    uint32_t longest = 0;
    size_t blocks = 0;
    const __m512i zero = _mm512_setzero_si512();
    __m512i pad[2];
    struct number r;

    for (size_t i = 0; i < n; i++) {
        longest = texts[i].length > longest ? texts[i].length : longest;
        blocks += text_blocks16(texts[i].length);
    }
    if (blocks <= SCALAR_BLOCKS) {
        for (size_t i = 0; i < n; i++)
            scalar_tag(keys[i], &texts[i], tags[i]);
        return;
    }
    r = multipliers(keys, n, pad);
    prepare_powers(s, &r, text_groups(longest));
    for (size_t i = 0; i < n; i++)
        s->sum[i] = text_sum(s, i, &texts[i]);
    for (size_t i = n; i < TEXTS; i++)
        s->sum[i] = (struct number){{zero, zero, zero}};
    r = end_sums(s);
    finish(&r, pad, tag);
    for (size_t i = 0; i < n; i++)
        for (int half = 0; half < 2; half++)
            store64(tags[i] + 8 * half, tag[half][i]);
}

#endif
