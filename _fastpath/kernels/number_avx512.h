/* SPDX-License-Identifier: MIT
 *
 * Arithmetic modulo 2^130 - 5 in eight lanes, with AVX-512 IFMA: a number is three
 * limbs of 44, 44 and 42 bits, as in poly1305_64.h, and a product of limbs has a low
 * part of 52 bits and a high one.
 */
#ifndef TUNNEL_KERNELS_NUMBER_AVX512_H
#define TUNNEL_KERNELS_NUMBER_AVX512_H

#include <immintrin.h>

#define LIMB44 _mm512_set1_epi64(0xfffffffffff)
#define LIMB42 _mm512_set1_epi64(0x3ffffffffff)
#define PLUS _mm512_add_epi64

/* eight numbers, partly reduced: every limb may keep a bit or two too many */
struct number {
    __m512i x[3];
};

/* What a number is multiplied by: its limbs are x[2], x[3], x[4]; 20 times the last two
 * stands in front, for terms past 2^132. */
struct factor {
    __m512i x[5];
};

/* sums of products, by limb; high counts multiples of 2^52 */
struct products {
    __m512i low[3], high[3];
};

ISA static inline __m512i times20(__m512i x)
{
    return PLUS(_mm512_slli_epi64(x, 4), _mm512_slli_epi64(x, 2));
}

ISA static inline struct factor factor_of(const struct number *r)
{
    return (struct factor){
        {times20(r->x[1]), times20(r->x[2]), r->x[0], r->x[1], r->x[2]}};
}

/* p += limb i of a number * r */
ISA static inline void multiply_add_limb(struct products *p, int i, __m512i limb,
                                         const struct factor *r)
{
    for (int j = 0; j < 3; j++) {
        p->low[j] = _mm512_madd52lo_epu64(p->low[j], limb, r->x[2 - i + j]);
        p->high[j] = _mm512_madd52hi_epu64(p->high[j], limb, r->x[2 - i + j]);
    }
}

/* p += a * r */
ISA static inline void multiply_add(struct products *p, const struct number *a,
                                    const struct factor *r)
{
    for (int i = 0; i < 3; i++)
        multiply_add_limb(p, i, a->x[i], r);
}

ISA static inline struct number no_number(void)
{
    const __m512i zero = _mm512_setzero_si512();
    return (struct number){{zero, zero, zero}};
}

ISA static inline struct products no_products(void)
{
    const __m512i zero = _mm512_setzero_si512();
    return (struct products){{zero, zero, zero}, {zero, zero, zero}};
}

ISA static inline void add_products(struct products *p, const struct products *q)
{
    for (int i = 0; i < 3; i++) {
        p->low[i] = PLUS(p->low[i], q->low[i]);
        p->high[i] = PLUS(p->high[i], q->high[i]);
    }
}

/* Carries once around; the second limb may keep one bit too many. */
ISA static inline struct number reduce(const struct products *p)
{
    struct number h;
    __m512i carry, limb;

    h.x[0] = _mm512_and_si512(p->low[0], LIMB44);
    carry = PLUS(_mm512_srli_epi64(p->low[0], 44), _mm512_slli_epi64(p->high[0], 8));
    limb = PLUS(p->low[1], carry);
    h.x[1] = _mm512_and_si512(limb, LIMB44);
    carry = PLUS(_mm512_srli_epi64(limb, 44), _mm512_slli_epi64(p->high[1], 8));
    limb = PLUS(p->low[2], carry);
    h.x[2] = _mm512_and_si512(limb, LIMB42);
    carry = PLUS(_mm512_srli_epi64(limb, 42), _mm512_slli_epi64(p->high[2], 10));
    limb = PLUS(h.x[0], PLUS(carry, _mm512_slli_epi64(carry, 2)));
    h.x[0] = _mm512_and_si512(limb, LIMB44);
    h.x[1] = PLUS(h.x[1], _mm512_srli_epi64(limb, 44));
    return h;
}

ISA static inline struct number multiply(const struct number *a, const struct factor *b)
{
    struct products p = no_products();

    multiply_add(&p, a, b);
    return reduce(&p);
}

ISA static inline struct number add(const struct number *a, const struct number *b)
{
    return (struct number){{PLUS(a->x[0], b->x[0]), PLUS(a->x[1], b->x[1]),
                            PLUS(a->x[2], b->x[2])}};
}

/* The limbs of eight 128-bit numbers, given as low and high halves. */
ISA static inline struct number limbs(__m512i low, __m512i high)
{
    return (struct number){{
        _mm512_and_si512(low, LIMB44),
        _mm512_and_si512(_mm512_shrdi_epi64(low, high, 44), LIMB44),
        _mm512_srli_epi64(high, 24),
    }};
}

#endif
