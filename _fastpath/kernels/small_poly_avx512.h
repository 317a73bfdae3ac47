/* SPDX-License-Identifier: MIT
 *
 * Poly1305 (RFC 8439 section 2.5) of texts of at most BLOCK bytes: two times eight, the
 * halves, with one text per lane, or eight alone.  The one-time keys of halves come as
 * rows, as ChaCha20 makes them: row n is word n of all of them.
 */
#ifndef TUNNEL_KERNELS_SMALL_POLY_AVX512_H
#define TUNNEL_KERNELS_SMALL_POLY_AVX512_H

#include <immintrin.h>

#include "lanes.h"
#include "number_avx512.h"
#include "poly1305_avx512.h"

#define SMALL 16 /* texts */
#define HALVES 2

/* Text of each lane of a half, which is what unpacking makes of rows; and of eight. */
static const uint8_t small_text[HALVES + 1][TEXTS] = {
    {0, 1, 4, 5, 8, 9, 12, 13},
    {2, 3, 6, 7, 10, 11, 14, 15},
    {0, 1, 2, 3, 4, 5, 6, 7},
};

ISA static inline const uint8_t *small_order(int halves, int half)
{
    return small_text[halves == HALVES ? half : HALVES];
}

/* One text per lane. */
struct small_half {
    struct factor r;
    struct number h;
    __m512i pad[2], length, missing; /* blocks that a text does not have */
    __m512i word[TEXTS];             /* of the texts */
};

/* The multipliers of a half, and what is added at the end. */
ISA static inline void small_keys_of_rows(struct small_half *s, const __m512i rows[8],
                                          int half)
{
    __m512i word[4];
    struct number r;

    for (int i = 0; i < 4; i++)
        word[i] = half ? _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1])
                       : _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
    r = clamped(word[0], word[1]);
    s->r = factor_of(&r);
    s->pad[0] = word[2];
    s->pad[1] = word[3];
}

ISA static inline void small_start(struct small_half *s, const uint8_t order[TEXTS],
                                   const __m512i *text)
{
    const __m512i most = _mm512_set1_epi64(BLOCK / 16);

    s->missing = _mm512_sub_epi64(
        most, _mm512_srli_epi64(PLUS(s->length, _mm512_set1_epi64(15)), 4));
    for (int i = 0; i < TEXTS; i++)
        s->word[i] = text[order[i]];
    transpose8(s->word);
    s->h = no_number();
}

/* h = (h + block) r */
ISA static inline void small_add(struct small_half *s, const struct number *block)
{
    s->h = add(&s->h, block);
    s->h = multiply(&s->h, &s->r);
}

/* Block i, in the lanes that have it. */
ISA static inline void small_step(struct small_half *s, int i)
{
    const __mmask8 present =
        _mm512_cmple_epu64_mask(s->missing, _mm512_set1_epi64(i));
    const struct number b = block_of(s->word[2 * i], s->word[2 * i + 1], present);

    small_add(s, &b);
}

/* The block with the length, and the end: see finish(). */
ISA static inline void small_end(struct small_half *s, __m512i tags[2])
{
    const struct number b = block_of(_mm512_setzero_si512(), s->length, 0xff);

    small_add(s, &b);
    finish(&s->h, s->pad, &tags[0], &tags[1]);
}

/* The tags, half by half: first those of the even lanes.  The blocks of the texts lie
 * behind those that they do not have; s has the keys and lengths. */
ISA __attribute__((always_inline)) static inline void
small_tags(struct small_half *s, int halves, const __m512i *text, __m512i (*tags)[2])
{
    for (int half = 0; half < halves; half++)
        small_start(&s[half], small_order(halves, half), text);
    for (int i = 0; i < BLOCK / 16; i++)
        for (int half = 0; half < halves; half++)
            small_step(&s[half], i);
    for (int half = 0; half < halves; half++)
        small_end(&s[half], tags[half]);
}

/* The first `length` bytes of the text, up to BLOCK, behind the blocks it does not
 * have. */
ISA static inline __m512i small_behind(__m512i text, uint32_t length)
{
    const __mmask8 words = (__mmask8)(0xff << (8 - 2 * data_blocks(length)));

    return length == BLOCK ? text : _mm512_maskz_expand_epi64(words, text);
}

#endif
