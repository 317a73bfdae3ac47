/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) with AVX2, one text at a time.
 *
 * With zero blocks in front, a text is whole groups g0, g1, ... of four blocks, one
 * block per lane:
 *
 *     tag = sum over the lanes of (...((g0 r^4 + g1) r^4 + g2)...) (r^4, r^3, r^2, r)
 *
 * Two groups share a reduction: h r^8 + g1 r^4 + g2 is the next h.  The few powers of r
 * and the final reduction are scalar.
 */
#ifndef TUNNEL_KERNELS_POLY1305_AVX2_H
#define TUNNEL_KERNELS_POLY1305_AVX2_H

#include <immintrin.h>

#include "lanes.h"
#include "number_avx2.h"
#include "text.h"

#define GROUP 4
#define GROUP_BYTES (GROUP * 16)
/* Shorter texts are done sooner one block after the other. */
#define SCALAR_BLOCKS 12

struct poly1305_scratch {
    struct poly1305 one; /* key, and at the end the sum of all lanes */
    struct factor r4, r8, end;
} __attribute__((aligned(64)));

/* ---- powers of r */

/* a * b, with limbs as in poly1305_64.h */
static inline void multiply_scalar(uint64_t product[3], const uint64_t a[3],
                                   const uint64_t b[3])
{
    const uint64_t mask = (UINT64_C(1) << 44) - 1;
    const uint64_t b1 = 20 * b[1], b2 = 20 * b[2];
    const poly1305_wide d0 = (poly1305_wide)a[0] * b[0] + (poly1305_wide)a[1] * b2 +
                             (poly1305_wide)a[2] * b1;
    const poly1305_wide d1 = (poly1305_wide)a[0] * b[1] + (poly1305_wide)a[1] * b[0] +
                             (poly1305_wide)a[2] * b2 + (uint64_t)(d0 >> 44);
    const poly1305_wide d2 = (poly1305_wide)a[0] * b[2] + (poly1305_wide)a[1] * b[1] +
                             (poly1305_wide)a[2] * b[0] + (uint64_t)(d1 >> 44);
    const uint64_t low = ((uint64_t)d0 & mask) + 5 * (uint64_t)(d2 >> 42);

    product[0] = low & mask;
    product[1] = ((uint64_t)d1 & mask) + (low >> 44);
    product[2] = (uint64_t)d2 & (mask >> 2);
}

ISA static inline void prepare_powers(struct poly1305_scratch *s)
{
    const uint64_t *r = s->one.r;
    uint64_t r2[3], r3[3], r4[3], r8[3];

    multiply_scalar(r2, r, r);
    multiply_scalar(r3, r2, r);
    multiply_scalar(r4, r2, r2);
    multiply_scalar(r8, r4, r4);
    for (int lane = 0; lane < GROUP; lane++)
        set_lane(&s->r8, lane, r8);
    set_lane(&s->end, 0, r4); /* in the order of group_of() */
    set_lane(&s->end, 1, r2);
    set_lane(&s->end, 2, r3);
    set_lane(&s->end, 3, r);
    spread(&s->r4, &s->end, 0);
}

/* ---- blocks */

/* Four blocks become numbers, in the order 0 2 1 3; without the first `missing`. */
ISA static inline struct number group_of(const uint8_t *at, unsigned missing)
{
    static const int64_t present[GROUP][GROUP] = {
        {1, 1, 1, 1}, {0, 1, 1, 1}, {0, 1, 0, 1}, {0, 0, 0, 1},
    };
    const __m256i mask = _mm256_set1_epi64x(LIMB_MASK);
    const __m256i front = _mm256_loadu_si256((const __m256i *)at);
    const __m256i back = _mm256_loadu_si256((const __m256i *)at + 1);
    const __m256i low = _mm256_unpacklo_epi64(front, back);
    const __m256i high = _mm256_unpackhi_epi64(front, back);
    const __m256i bit = _mm256_loadu_si256((const __m256i *)present[missing]);
    const __m256i middle = _mm256_or_si256(_mm256_srli_epi64(low, 52),
                                           _mm256_slli_epi64(high, 12));

    return (struct number){{
        _mm256_and_si256(low, mask),
        _mm256_and_si256(_mm256_srli_epi64(low, 26), mask),
        _mm256_and_si256(middle, mask),
        _mm256_and_si256(_mm256_srli_epi64(high, 14), mask),
        _mm256_or_si256(_mm256_srli_epi64(high, 40), _mm256_slli_epi64(bit, 24)),
    }};
}

/* The group that ends with the length: up to three blocks at `at` are in front. */
ISA static inline struct number last_group(const uint8_t *at, uint32_t length)
{
    uint8_t group[GROUP_BYTES] = {0};

    short_copy(group, at, GROUP_BYTES - 16 - -length % 16);
    store64(group + GROUP_BYTES - 8, length);
    return group_of(group, 0);
}

/* sum = all lanes of h, with limbs as in poly1305_64.h */
ISA static inline void add_lanes(uint64_t sum[3], const struct number *h)
{
    const uint64_t mask = (UINT64_C(1) << 44) - 1;
    uint64_t limb[LIMBS], low, middle, high;

    for (int i = 0; i < LIMBS; i++) {
        const __m128i pair = _mm_add_epi64(_mm256_castsi256_si128(h->x[i]),
                                           _mm256_extracti128_si256(h->x[i], 1));
        limb[i] = (uint64_t)_mm_cvtsi128_si64(pair) +
                  (uint64_t)_mm_extract_epi64(pair, 1);
    }
    low = limb[0] + (limb[1] << 26);
    middle = (low >> 44) + (limb[2] << 8) + (limb[3] << 34);
    high = (middle >> 44) + (limb[4] << 16);
    /* once around: then at most the highest limb has a bit too many */
    low = (low & mask) + 5 * (high >> 42);
    middle = (middle & mask) + (low >> 44);
    sum[0] = low & mask;
    sum[1] = middle & mask;
    sum[2] = (high & mask >> 2) + (middle >> 44);
}

/* The sum of the text's lanes goes to s->one. */
ISA static inline void text_sum(struct poly1305_scratch *s, const struct text *t)
{
    const size_t blocks = text_blocks16(t->length);
    const size_t groups = (blocks + GROUP - 1) / GROUP;
    const unsigned missing = (unsigned)(groups * GROUP - blocks);
    const uint8_t *at = t->at + (GROUP_BYTES - 16 * missing);
    uint8_t first[GROUP_BYTES] = {0};
    size_t left = groups - 1;
    struct number h, g, g2;

    memcpy(first + 16 * missing, t->at, GROUP_BYTES - 16 * missing);
    h = group_of(first, missing);
    for (; left > 2; left -= 2, at += 2 * GROUP_BYTES) {
        g = group_of(at, 0);
        g2 = group_of(at + GROUP_BYTES, 0);
        h = multiply_add(&h, &s->r8, &g, &s->r4);
        h = add(&h, &g2);
    }
    if (left == 2) {
        g = group_of(at, 0);
        h = multiply_add(&h, &s->r8, &g, &s->r4);
        at += GROUP_BYTES;
    } else {
        h = multiply_add(&h, &s->r4, NULL, NULL);
    }
    g = last_group(at, t->length);
    h = add(&h, &g);
    h = multiply_add(&h, &s->end, NULL, NULL);

    add_lanes(s->one.h, &h);
}

/* Returns how many bytes of the scratch it used, which the caller wipes. */
ISA static size_t poly1305_tags(struct poly1305_scratch *s, const uint8_t (*keys)[64],
                                const struct text *texts, size_t n,
                                uint8_t (*tags)[16])
{
    size_t used = 0;

    for (size_t i = 0; i < n; i++) {
        if (text_blocks16(texts[i].length) <= SCALAR_BLOCKS) {
            scalar_tag(keys[i], &texts[i], tags[i]);
            continue;
        }
        used = sizeof *s;
        poly1305_init(&s->one, keys[i]);
        prepare_powers(s);
        text_sum(s, &texts[i]);
        poly1305_final(&s->one, tags[i]);
    }
    return used;
}

#endif
