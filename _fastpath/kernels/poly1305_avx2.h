/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) with AVX2, one text at a time.
 *
 * Numbers in vectors are five limbs of 26 bits.  With zero blocks in front, a text is
 * whole groups g0, g1, ... of four blocks, one block per lane:
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
#include "text.h"

#define GROUP 4
#define GROUP_BYTES (GROUP * 16)
/* Shorter texts are done sooner one block after the other. */
#define SCALAR_BLOCKS 12

#define LIMBS 5
#define LIMB_BITS 26
#define LIMB_MASK ((UINT64_C(1) << LIMB_BITS) - 1)
#define PLUS _mm256_add_epi64

/* four numbers, partly reduced: every limb may keep a bit or two too many */
struct number {
    __m256i x[LIMBS];
};

/* What a number is multiplied by: its limbs are x[4] ... x[8]; 5 times all of them but
 * the first stands in front, for terms past 2^130. */
struct factor {
    __m256i x[2 * LIMBS - 1];
};

struct poly1305_scratch {
    struct poly1305 one; /* key, and at the end the sum of all lanes */
    struct factor r4, r8, end;
} __attribute__((aligned(64)));

/* ---- arithmetic in lanes */

/* sum[j] += limb * x[j]; held here, because compilers that sort many of these anew run
 * out of registers */
ISA static inline void add_products(__m256i sum[LIMBS], __m256i limb, const __m256i *x)
{
    for (int j = 0; j < LIMBS; j++) {
        sum[j] = PLUS(sum[j], _mm256_mul_epu32(limb, x[j]));
        __asm__ volatile("" : "+x"(sum[j]));
    }
}

/* a * r + b * s, carried around; without b if that is NULL */
ISA static inline struct number multiply_add(const struct number *a,
                                             const struct factor *r,
                                             const struct number *b,
                                             const struct factor *s)
{
    const __m256i mask = _mm256_set1_epi64x(LIMB_MASK);
    __m256i sum[LIMBS], carry;

    for (int j = 0; j < LIMBS; j++)
        sum[j] = _mm256_setzero_si256();
    for (int i = 0; b && i < LIMBS; i++)
        add_products(sum, b->x[i], &s->x[4 - i]);
    for (int i = 0; i < LIMBS; i++)
        add_products(sum, a->x[i], &r->x[4 - i]);
#define CARRY(from, to)                                  \
    do {                                                 \
        carry = _mm256_srli_epi64(sum[from], LIMB_BITS); \
        sum[from] = _mm256_and_si256(sum[from], mask);   \
        sum[to] = PLUS(sum[to], carry);                  \
    } while (0)
    /* two chains; 5 carry = carry + 4 carry goes from the last limb to the first */
    CARRY(0, 1);
    CARRY(3, 4);
    CARRY(1, 2);
    CARRY(4, 0);
    sum[0] = PLUS(sum[0], _mm256_slli_epi64(carry, 2));
    CARRY(2, 3);
    CARRY(0, 1);
    CARRY(3, 4);
    return (struct number){{sum[0], sum[1], sum[2], sum[3], sum[4]}};
}

ISA static inline struct number add(const struct number *a, const struct number *b)
{
    struct number sum;
    for (int i = 0; i < LIMBS; i++)
        sum.x[i] = PLUS(a->x[i], b->x[i]);
    return sum;
}

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

/* Puts x, and 5 x, into one lane. */
static inline void set_lane(struct factor *f, int lane, const uint64_t x[3])
{
    const uint64_t top = (x[1] >> 34) + (x[2] << 10);
    const uint64_t limb[LIMBS] = {
        x[0] & LIMB_MASK, (x[0] >> 26 | x[1] << 18) & LIMB_MASK,
        x[1] >> 8 & LIMB_MASK, top & LIMB_MASK, top >> 26,
    };
    for (int i = 0; i < LIMBS; i++)
        ((long long *)&f->x[4 + i])[lane] = (long long)limb[i];
    for (int i = 1; i < LIMBS; i++)
        ((long long *)&f->x[i - 1])[lane] = (long long)(5 * limb[i]);
}

/* All lanes of f become this lane of `from`. */
ISA static inline void spread(struct factor *f, const struct factor *from, int lane)
{
    for (int i = 0; i < 2 * LIMBS - 1; i++)
        f->x[i] = _mm256_set1_epi64x(((const long long *)&from->x[i])[lane]);
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
