/* SPDX-License-Identifier: MIT
 *
 * A pass of ChaCha20 for small packets, those whose text is at most one block: eight of
 * them in 16 lanes, or two times eight, the halves, in 32.  In front lie the blocks of
 * the texts, behind them those of the one-time keys.
 */
#ifndef TUNNEL_KERNELS_SMALL_PASS_AVX512_H
#define TUNNEL_KERNELS_SMALL_PASS_AVX512_H

#include "small_poly_avx512.h"
#include "work.h"

_Static_assert(sizeof(struct aead_op) == 32 && offsetof(struct aead_op, len) == 16 &&
                   offsetof(struct aead_op, nonce) == 24,
               "eight_fields()");

/* Lengths and counters of eight packets, in this order; order[i + 1] is order[i] + 1
 * where i is even. */
ISA static inline void eight_fields(const struct aead_op *ops, const uint8_t order[8],
                                    __m512i *length, __m512i *counter)
{
    const __m512i both = _mm512_set_epi64(15, 11, 7, 3, 14, 10, 6, 2);
    __m512i x[4];

    for (int i = 0; i < 4; i++)
        x[i] = _mm512_loadu_si512((const void *)&ops[order[2 * i]]);
    for (int i = 0; i < 4; i += 2)
        x[i] = _mm512_permutex2var_epi64(x[i], both, x[i + 1]);
    *length = _mm512_and_si512(_mm512_shuffle_i64x2(x[0], x[2], 0x44),
                               _mm512_set1_epi64(UINT32_MAX)); /* not ok */
    *counter = _mm512_shuffle_i64x2(x[0], x[2], 0xee);
}

/* Sets 16 lanes, from `first` on. */
ISA static inline void sixteen_lanes(struct lanes *l, int first, __m512i block,
                                     __m512i low, __m512i high)
{
    _mm512_storeu_si512(l->block + first, block);
    _mm512_storeu_si512(l->low + first, low);
    _mm512_storeu_si512(l->high + first, high);
}

/* Where the lower halves of the counters are: of two vectors in the order of
 * small_text, and of one, twice. */
#define EVEN_OF_HALVES \
    _mm512_set_epi32(30, 28, 14, 12, 26, 24, 10, 8, 22, 20, 6, 4, 18, 16, 2, 0)
#define EVEN_OF_EIGHT \
    _mm512_set_epi32(14, 12, 10, 8, 6, 4, 2, 0, 14, 12, 10, 8, 6, 4, 2, 0)

/* Returns the keystreams of 16 texts; s gets the keys and lengths. */
ISA __attribute__((always_inline)) static inline __m512i *
pass_of_16(struct work *w, const struct aead_op *ops, struct small_half s[HALVES])
{
    const __m512i odd = _mm512_or_si512(EVEN_OF_HALVES, _mm512_set1_epi32(1));
    __m512i *x = w->rows + 16, counter[HALVES], low, high;

    for (int half = 0; half < HALVES; half++)
        eight_fields(ops, small_text[half], &s[half].length, &counter[half]);
    low = _mm512_permutex2var_epi32(counter[0], EVEN_OF_HALVES, counter[1]);
    high = _mm512_permutex2var_epi32(counter[0], odd, counter[1]);
    sixteen_lanes(&w->lanes, 0, _mm512_set1_epi32(1), low, high);
    sixteen_lanes(&w->lanes, 16, _mm512_setzero_si512(), low, high);
    rows_of_32(w->words, &w->lanes, x, w->rows);
    transpose16(x);
    for (int half = 0; half < HALVES; half++)
        small_keys_of_rows(&s[half], w->rows, half);
    return x;
}

/* The same for eight. */
ISA __attribute__((always_inline)) static inline __m512i *
pass_of_8(struct work *w, const struct aead_op *ops, struct small_half *s)
{
    const __m512i odd = _mm512_or_si512(EVEN_OF_EIGHT, _mm512_set1_epi32(1));
    const __m512i block = _mm512_maskz_set1_epi32(0x00ff, 1);
    __m512i *x = w->rows + 16, counter;
    struct number r;

    eight_fields(ops, small_text[2], &s->length, &counter);
    sixteen_lanes(&w->lanes, 0, block, _mm512_permutexvar_epi32(EVEN_OF_EIGHT, counter),
                  _mm512_permutexvar_epi32(odd, counter));
    rows_of_16(w->words, &w->lanes, w->rows);
    for (int i = 0; i < 16; i++)
        x[i] = w->rows[i];
    transpose16(x);
    r = multipliers((const void *)(x + TEXTS), TEXTS, s->pad);
    s->r = factor_of(&r);
    return x;
}

#endif
