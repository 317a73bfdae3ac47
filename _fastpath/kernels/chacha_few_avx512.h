/* SPDX-License-Identifier: MIT
 *
 * ChaCha20 (RFC 8439 section 2.3) on up to eight blocks with AVX-512: a register holds
 * one row of four blocks, and the columns of a diagonal round are rotated into place.
 * Half as fast as 32 blocks of chacha_avx512.h, but a short packet need not wait for
 * lanes that nobody uses.
 */
#ifndef TUNNEL_KERNELS_CHACHA_FEW_AVX512_H
#define TUNNEL_KERNELS_CHACHA_FEW_AVX512_H

#include <immintrin.h>

#include "lanes.h"

#define FEW_LANES 8

/* the rows of four blocks */
struct four {
    __m512i a, b, c, d;
};

#define TURN(x, words) _mm512_shuffle_epi32(x, (_MM_PERM_ENUM)(words))
#define LEFT_1 0x39 /* word i comes from i + 1 */
#define LEFT_2 0x4e
#define LEFT_3 0x93

#define HALF_QUARTER(a, b, d, n)                              \
    a = _mm512_add_epi32(a, b);                               \
    d = _mm512_rol_epi32(_mm512_xor_si512(d, a), n)

ISA static inline void columns(struct four *x)
{
    HALF_QUARTER(x->a, x->b, x->d, 16);
    HALF_QUARTER(x->c, x->d, x->b, 12);
    HALF_QUARTER(x->a, x->b, x->d, 8);
    HALF_QUARTER(x->c, x->d, x->b, 7);
}

ISA static inline void turn_diagonals_up(struct four *x)
{
    x->b = TURN(x->b, LEFT_1);
    x->c = TURN(x->c, LEFT_2);
    x->d = TURN(x->d, LEFT_3);
}

ISA static inline void turn_back(struct four *x)
{
    x->b = TURN(x->b, LEFT_3);
    x->c = TURN(x->c, LEFT_2);
    x->d = TURN(x->d, LEFT_1);
}

/* Words 12 to 15 of the lanes from `first` on. */
ISA static inline __m512i row_d(const struct lanes *l, size_t first)
{
    const __m128i block = _mm_loadu_si128((const void *)&l->block[first]);
    const __m128i low = _mm_loadu_si128((const void *)&l->low[first]);
    const __m128i high = _mm_loadu_si128((const void *)&l->high[first]);
    const __m256i front = _mm256_cvtepu32_epi64(block);
    const __m256i back = _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_unpacklo_epi32(low, high)),
        _mm_unpackhi_epi32(low, high), 1);

    return _mm512_permutex2var_epi64(_mm512_castsi256_si512(front),
                                     _mm512_set_epi64(11, 3, 10, 2, 9, 1, 8, 0),
                                     _mm512_castsi256_si512(back));
}

ISA static inline struct four start_of(const uint32_t words[12], const struct lanes *l,
                                       size_t first)
{
    return (struct four){
        _mm512_broadcast_i32x4(_mm_load_si128((const void *)words)),
        _mm512_broadcast_i32x4(_mm_load_si128((const void *)(words + 4))),
        _mm512_broadcast_i32x4(_mm_load_si128((const void *)(words + 8))),
        row_d(l, first),
    };
}

ISA static inline void xor_lane(const struct lanes *l, size_t lane, __m512i stream)
{
    const void *src = (const void *)(uintptr_t)l->src[lane];
    void *dst = (void *)(uintptr_t)l->dst[lane];

    _mm512_storeu_si512(dst, _mm512_xor_si512(stream, _mm512_loadu_si512(src)));
}

/* dst = src ^ keystream for the four lanes from `first` on; x is start + rounds */
ISA static inline void xor_four(const struct four *x, const struct lanes *l,
                                size_t first)
{
    const __m512i low_ab = _mm512_shuffle_i32x4(x->a, x->b, 0x44); /* a0 a1 b0 b1 */
    const __m512i high_ab = _mm512_shuffle_i32x4(x->a, x->b, 0xee);
    const __m512i low_cd = _mm512_shuffle_i32x4(x->c, x->d, 0x44);
    const __m512i high_cd = _mm512_shuffle_i32x4(x->c, x->d, 0xee);

    xor_lane(l, first, _mm512_shuffle_i32x4(low_ab, low_cd, 0x88));
    xor_lane(l, first + 1, _mm512_shuffle_i32x4(low_ab, low_cd, 0xdd));
    xor_lane(l, first + 2, _mm512_shuffle_i32x4(high_ab, high_cd, 0x88));
    xor_lane(l, first + 3, _mm512_shuffle_i32x4(high_ab, high_cd, 0xdd));
}

ISA static inline struct four sum_of(const struct four *x, const struct four *y)
{
    return (struct four){
        _mm512_add_epi32(x->a, y->a), _mm512_add_epi32(x->b, y->b),
        _mm512_add_epi32(x->c, y->c), _mm512_add_epi32(x->d, y->d)};
}

ISA static inline void xor_first_4(const uint32_t words[12], const struct lanes *l)
{
    const struct four start = start_of(words, l, 0);
    struct four x = start;

    for (int i = 0; i < 10; i++) {
        columns(&x);
        turn_diagonals_up(&x);
        columns(&x);
        turn_back(&x);
    }
    x = sum_of(&x, &start);
    xor_four(&x, l, 0);
}

ISA static inline void xor_first_8(const uint32_t words[12], const struct lanes *l)
{
    const struct four start = start_of(words, l, 0), start2 = start_of(words, l, 4);
    struct four x = start, y = start2;

    for (int i = 0; i < 10; i++) {
        columns(&x), columns(&y);
        turn_diagonals_up(&x), turn_diagonals_up(&y);
        columns(&x), columns(&y);
        turn_back(&x), turn_back(&y);
    }
    x = sum_of(&x, &start);
    y = sum_of(&y, &start2);
    xor_four(&x, l, 0);
    xor_four(&y, l, 4);
}

/* dst = src ^ keystream for at most FEW_LANES lanes that are used. */
ISA static inline void chacha_xor_few(const uint32_t words[12], const struct lanes *l)
{
    if (l->used > 4)
        xor_first_8(words, l);
    else
        xor_first_4(words, l);
}

#endif
