/* SPDX-License-Identifier: MIT
 *
 * Numbers of the field in memory, 256 bits each, and the way to limbs and back: only
 * what is fully reduced is the same number in the same words.
 */
#ifndef TUNNEL_KERNELS_FIELD_WORDS_IFMA_H
#define TUNNEL_KERNELS_FIELD_WORDS_IFMA_H

#include "bytes.h"
#include "field_ifma.h"

#define WORDS 4 /* of 64 bits, of a number */

static void gather(uint64_t words[WORDS][LANES], int lane, const uint8_t *bytes)
{
    for (int i = 0; i < WORDS; i++)
        words[i][lane] = load64(bytes + 8 * i);
}

ISA static inline vector word(uint64_t words[WORDS][LANES], int i)
{
    return _mm512_load_si512(words[i]);
}

/* The limbs of eight numbers; bit 255 is left out. */
ISA static struct field from_words(uint64_t words[WORDS][LANES])
{
    struct field r;

    r.x[0] = word(words, 0);
    for (int i = 1; i < WORDS; i++)
        r.x[i] = _mm512_or_si512(_mm512_srli_epi64(word(words, i - 1), 64 - 13 * i),
                                 _mm512_slli_epi64(word(words, i), 13 * i));
    r.x[4] = _mm512_srli_epi64(word(words, 3), 12);
    EACH_LIMB r.x[i] = _mm512_and_si512(r.x[i], all(LIMB_MASK));
    return r;
}

/* Back again, from limbs of 51 bits. */
ISA static void to_words(uint64_t words[WORDS][LANES], const struct field *a)
{
    for (int i = 0; i < WORDS; i++) {
        const vector low = _mm512_srli_epi64(a->x[i], 13 * i);
        const vector high = _mm512_slli_epi64(a->x[i + 1], LIMB_BITS - 13 * i);
        _mm512_store_si512(words[i], _mm512_or_si512(low, high));
    }
}

/* Carries one limb after the other; what limb 4 has too much stays there. */
ISA static inline void carry_up(struct field *a)
{
    _Pragma("GCC unroll 4") for (int i = 0; i < LIMBS - 1; i++) {
        const vector excess = _mm512_srli_epi64(a->x[i], LIMB_BITS);
        a->x[i] = _mm512_and_si512(a->x[i], all(LIMB_MASK));
        a->x[i + 1] = _mm512_add_epi64(a->x[i + 1], excess);
    }
}

/* The same, and the excess of limb 4 comes back to limb 0. */
ISA static inline void carry_around(struct field *a)
{
    carry_up(a);
    const vector excess = _mm512_srli_epi64(a->x[4], LIMB_BITS);
    a->x[4] = _mm512_and_si512(a->x[4], all(LIMB_MASK));
    a->x[0] = _mm512_madd52lo_epu64(a->x[0], excess, all(19));
}

/* The one representative in 0..p-1. */
ISA static inline void reduce_fully(struct field *a)
{
    vector past;

    carry_around(a);
    carry_around(a); /* where this moved anything, limb 0 was almost zero */
    /* all limbs have 51 bits; a + 19 reaches 2^255 exactly when a >= p, and is then
     * a - p and that bit */
    past = _mm512_add_epi64(a->x[0], all(19));
    for (int i = 1; i < LIMBS; i++)
        past = _mm512_add_epi64(a->x[i], _mm512_srli_epi64(past, LIMB_BITS));
    past = _mm512_srli_epi64(past, LIMB_BITS);
    a->x[0] = _mm512_madd52lo_epu64(a->x[0], past, all(19));
    carry_up(a);
    a->x[4] = _mm512_and_si512(a->x[4], all(LIMB_MASK));
}

/* Where a reduced number is not zero. */
ISA static inline __mmask8 nonzero(const struct field *a)
{
    vector any = a->x[0];

    for (int i = 1; i < LIMBS; i++)
        any = _mm512_or_si512(any, a->x[i]);
    return _mm512_test_epi64_mask(any, any);
}

#endif
