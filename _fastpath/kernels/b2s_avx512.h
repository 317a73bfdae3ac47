/* SPDX-License-Identifier: MIT
 *
 * The compression function of BLAKE2s (RFC 7693 section 3.2) with the 128-bit part of
 * AVX-512: four mixing functions side by side, each in one lane.  b2s.c has it in
 * plain C, which is the specification.
 *
 * The state's rows a, b, c, d are a vector each.  For the diagonals a, c and d are
 * turned, and b, which is computed last, stays where it is: lane j is diagonal j - 1.
 */
#ifndef TUNNEL_KERNELS_B2S_AVX512_H
#define TUNNEL_KERNELS_B2S_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "x86.h"

#define B2S_ISA __attribute__((target("avx2,avx512f,avx512vl")))

/* Which message word each lane takes, section 2.7: columns x, columns y, diagonals x,
 * diagonals y. */
static const uint8_t B2S_ORDER[10][16] = {
    {0, 2, 4, 6, 1, 3, 5, 7, 14, 8, 10, 12, 15, 9, 11, 13},
    {14, 4, 9, 13, 10, 8, 15, 6, 5, 1, 0, 11, 3, 12, 2, 7},
    {11, 12, 5, 15, 8, 0, 2, 13, 9, 10, 3, 7, 4, 14, 6, 1},
    {7, 3, 13, 11, 9, 1, 12, 14, 15, 2, 5, 4, 8, 6, 10, 0},
    {9, 5, 2, 10, 0, 7, 4, 15, 3, 14, 11, 6, 13, 1, 12, 8},
    {2, 6, 0, 8, 12, 10, 11, 3, 1, 4, 7, 15, 9, 13, 5, 14},
    {12, 1, 14, 4, 5, 15, 13, 10, 8, 0, 6, 9, 11, 7, 3, 2},
    {13, 7, 12, 3, 11, 14, 1, 9, 2, 5, 15, 8, 10, 0, 4, 6},
    {6, 14, 11, 0, 15, 9, 3, 8, 10, 12, 13, 1, 5, 2, 7, 4},
    {10, 8, 7, 1, 2, 4, 6, 5, 13, 15, 9, 3, 0, 11, 14, 12},
};

/* Half a mixing function G in each lane (section 3.1); rotations by r and s bits. */
#define HALF_G(word, r, s)                                       \
    do {                                                         \
        a = _mm_add_epi32(_mm_add_epi32(a, word), b);            \
        d = _mm_ror_epi32(_mm_xor_si128(d, a), r);               \
        c = _mm_add_epi32(c, d);                                 \
        b = _mm_ror_epi32(_mm_xor_si128(b, c), s);               \
    } while (0)

/* words: eight message words, the four x and the four y */
#define G_LANES(words)                                           \
    do {                                                         \
        HALF_G(_mm256_castsi256_si128(words), 16, 12);           \
        HALF_G(_mm256_extracti128_si256(words, 1), 8, 7);        \
    } while (0)

/* The words of the message that the eight bytes at `order` number. */
B2S_ISA static inline __m256i b2s_words(const uint8_t *order, __m256i low, __m256i high)
{
    const __m128i numbers = _mm_loadl_epi64((const __m128i *)order);
    return _mm256_permutex2var_epi32(low, _mm256_cvtepu8_epi32(numbers), high);
}

/* last: what is mixed into the last row (count, and whether the block is the last) */
B2S_ISA static void compress_avx512(uint32_t h[8], const uint8_t *block,
                                    const uint32_t iv[8], const uint32_t last[4])
{
    const __m256i low = _mm256_loadu_si256((const __m256i *)block);
    const __m256i high = _mm256_loadu_si256((const __m256i *)(block + 32));
    __m128i *const state = (__m128i *)h;
    __m128i a = _mm_loadu_si128(state), b = _mm_loadu_si128(state + 1);
    __m128i c = _mm_loadu_si128((const __m128i *)iv);
    __m128i d = _mm_loadu_si128((const __m128i *)(iv + 4));

    d = _mm_xor_si128(d, _mm_loadu_si128((const __m128i *)last));

    _Pragma("GCC unroll 10") for (int round = 0; round < 10; round++) {
        G_LANES(b2s_words(B2S_ORDER[round], low, high));
        a = _mm_shuffle_epi32(a, 0x93);
        d = _mm_shuffle_epi32(d, 0x4e);
        c = _mm_shuffle_epi32(c, 0x39);
        G_LANES(b2s_words(B2S_ORDER[round] + 8, low, high));
        a = _mm_shuffle_epi32(a, 0x39);
        d = _mm_shuffle_epi32(d, 0x4e);
        c = _mm_shuffle_epi32(c, 0x93);
    }
    a = _mm_xor_si128(a, c);
    b = _mm_xor_si128(b, d);
    _mm_storeu_si128(state, _mm_xor_si128(_mm_loadu_si128(state), a));
    _mm_storeu_si128(state + 1, _mm_xor_si128(_mm_loadu_si128(state + 1), b));
}

#undef HALF_G
#undef G_LANES

/* 1 when this CPU runs it and the system saves its registers. */
static int b2s_avx512_supported(void)
{
    return os_saves(XCR0_ZMM) && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512vl");
}

#endif
