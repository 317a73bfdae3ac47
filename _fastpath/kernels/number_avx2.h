/* SPDX-License-Identifier: MIT
 *
 * Arithmetic modulo 2^130 - 5 in four lanes, with AVX2: a number is five limbs of 26
 * bits, so that products of them, of 64 bits, can be summed.
 */
#ifndef TUNNEL_KERNELS_NUMBER_AVX2_H
#define TUNNEL_KERNELS_NUMBER_AVX2_H

#include <immintrin.h>
#include <stdint.h>

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

/* Puts x, whose limbs are as in poly1305_64.h, and 5 x into one lane. */
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

#endif
