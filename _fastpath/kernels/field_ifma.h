/* SPDX-License-Identifier: MIT
 *
 * Arithmetic modulo p = 2^255 - 19 in eight lanes, with AVX-512 IFMA.
 *
 * A number is five limbs of 51 bits.  What functions take and give is *loose*: each
 * limb is below 2^51 + 2^14, so that the multiplier, which sees 52 bits, sees all of
 * it.  A product of limbs i and j has a low part of 52 bits, which counts at limb
 * i + j, and a high part, which counts twice at limb i + j + 1 (2^52 = 2 * 2^51).  What
 * lies past limb 4 comes back times 19.
 *
 * Constant time: there is no branch, no table and no address made of a value; every
 * loop has a constant length.  The instructions used (vpmadd52, vpmullq, additions,
 * shifts, logic, blends) take the same time whatever their operands.
 */
#ifndef TUNNEL_KERNELS_FIELD_IFMA_H
#define TUNNEL_KERNELS_FIELD_IFMA_H

#include <immintrin.h>
#include <stdint.h>

#define LIMBS 5
#define LIMB_BITS 51
#define LIMB_MASK ((INT64_C(1) << LIMB_BITS) - 1)
#define EACH_LIMB _Pragma("GCC unroll 5") for (int i = 0; i < LIMBS; i++)

typedef __m512i vector;

struct field {
    vector x[LIMBS];
};

ISA static inline vector all(int64_t value)
{
    return _mm512_set1_epi64(value);
}

/* The same small number in every lane. */
ISA static struct field small(int64_t value)
{
    const vector zero = _mm512_setzero_si512();
    return (struct field){{all(value), zero, zero, zero, zero}};
}

/* Each limb's excess goes to the next one, all at the same time.  Limbs below 2^61 in,
 * loose out: 2^51 + 19 * 2^10 at most. */
ISA static inline struct field carried(const struct field *a)
{
    struct field r;
    vector excess[LIMBS];

    EACH_LIMB {
        excess[i] = _mm512_srli_epi64(a->x[i], LIMB_BITS);
        r.x[i] = _mm512_and_si512(a->x[i], all(LIMB_MASK));
    }
    r.x[0] = _mm512_madd52lo_epu64(r.x[0], excess[4], all(19));
    for (int i = 1; i < LIMBS; i++)
        r.x[i] = _mm512_add_epi64(r.x[i], excess[i - 1]);
    return r;
}

/* a + b */
ISA static inline struct field plus(const struct field *a, const struct field *b)
{
    struct field r;

    EACH_LIMB r.x[i] = _mm512_add_epi64(a->x[i], b->x[i]);
    return carried(&r);
}

/* a - b, by way of a + 2p - b: no limb of 2p is smaller than one of b */
ISA static inline struct field minus(const struct field *a, const struct field *b)
{
    struct field r;

    EACH_LIMB {
        const vector twice_p = all(2 * LIMB_MASK - (i == 0 ? 36 : 0));
        r.x[i] = _mm512_sub_epi64(_mm512_add_epi64(a->x[i], twice_p), b->x[i]);
    }
    return carried(&r);
}

/* Ten sums of products to five limbs: each below 15 * 2^52, so 20 times that < 2^61. */
ISA static inline struct field reduced(const vector sum[2 * LIMBS])
{
    vector nineteen = all(19);
    struct field r;

    /* hidden from the compiler, which would make four instructions of one */
    __asm__("" : "+v"(nineteen));
    EACH_LIMB {
        const vector past = _mm512_mullo_epi64(sum[i + LIMBS], nineteen);
        r.x[i] = _mm512_add_epi64(sum[i], past);
    }
    return carried(&r);
}

/* sum[k] += the low or the high part of a's limb i times b's limb j */
#define LOW(k, i, j) sum[k] = _mm512_madd52lo_epu64(sum[k], a->x[i], b->x[j])
#define HIGH(k, i, j) sum[k] = _mm512_madd52hi_epu64(sum[k], a->x[i], b->x[j])
#define EACH_SUM _Pragma("GCC unroll 10") for (int k = 0; k < 2 * LIMBS; k++)
#define FROM(first) _Pragma("GCC unroll 5") for (int j = first; j < LIMBS; j++)

/* a * b.  Limb k is the low parts of i + j = k and twice the high ones of k - 1.  In
 * this order no multiplication waits for the one before it. */
ISA static inline struct field times(const struct field *a, const struct field *b)
{
    vector sum[2 * LIMBS];

    EACH_SUM sum[k] = _mm512_setzero_si512();
    EACH_LIMB FROM(0) HIGH(i + j + 1, i, j);
    EACH_SUM sum[k] = _mm512_add_epi64(sum[k], sum[k]);
    EACH_LIMB FROM(0) LOW(i + j, i, j);
    return reduced(sum);
}

/* a * a.  What lies off the diagonal (i < j) is computed once and doubled. */
ISA static inline struct field squared(const struct field *a)
{
    const struct field *const b = a;
    vector sum[2 * LIMBS];

    EACH_SUM sum[k] = _mm512_setzero_si512();
    EACH_LIMB FROM(i + 1) HIGH(i + j + 1, i, j);
    EACH_SUM sum[k] = _mm512_add_epi64(sum[k], sum[k]);
    EACH_LIMB HIGH(2 * i + 1, i, i);
    EACH_LIMB FROM(i + 1) LOW(i + j, i, j);
    EACH_SUM sum[k] = _mm512_add_epi64(sum[k], sum[k]);
    EACH_LIMB LOW(2 * i, i, i);
    return reduced(sum);
}

#undef LOW
#undef HIGH

/* a + factor * b, for a factor below 2^20 */
ISA static inline struct field plus_multiple(const struct field *a, int64_t factor,
                                             const struct field *b)
{
    struct field r;
    vector high[LIMBS];

    EACH_LIMB {
        r.x[i] = _mm512_madd52lo_epu64(a->x[i], b->x[i], all(factor));
        high[i] = _mm512_madd52hi_epu64(_mm512_setzero_si512(), b->x[i], all(factor));
    }
    r.x[0] = _mm512_madd52lo_epu64(r.x[0], high[4], all(2 * 19));
    for (int i = 1; i < LIMBS; i++)
        r.x[i] = _mm512_madd52lo_epu64(r.x[i], high[i - 1], all(2));
    return carried(&r);
}

/* Exchanges a and b in the lanes that are set. */
ISA static inline void exchange(__mmask8 lanes, struct field *a, struct field *b)
{
    EACH_LIMB {
        const vector kept = a->x[i];
        a->x[i] = _mm512_mask_mov_epi64(a->x[i], lanes, b->x[i]);
        b->x[i] = _mm512_mask_mov_epi64(b->x[i], lanes, kept);
    }
}

/* a^(2^n) */
ISA __attribute__((noinline)) static struct field squared_often(struct field a, int n)
{
    while (n-- > 0)
        a = squared(&a);
    return a;
}

/* a^(2^n) * b */
ISA __attribute__((noinline)) static struct field climb(struct field a, int n,
                                                        struct field b)
{
    a = squared_often(a, n);
    return times(&a, &b);
}

/* 1 / a = a^(p - 2), 0 for 0; p - 2 = 2^255 - 21.  Names: ones_n is a^(2^n - 1). */
ISA static struct field inverse(struct field a)
{
    const struct field a2 = squared_often(a, 1), a9 = climb(a2, 2, a);
    const struct field a11 = times(&a9, &a2), ones5 = climb(a11, 1, a9);
    const struct field ones10 = climb(ones5, 5, ones5);
    const struct field ones20 = climb(ones10, 10, ones10);
    const struct field ones40 = climb(ones20, 20, ones20);
    const struct field ones50 = climb(ones40, 10, ones10);
    const struct field ones100 = climb(ones50, 50, ones50);
    const struct field ones200 = climb(ones100, 100, ones100);
    const struct field ones250 = climb(ones200, 50, ones50);

    return climb(ones250, 5, a11);
}

#endif
