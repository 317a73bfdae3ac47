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

/* ---- two rounds of one, two or three such states, with their rows in operands 0 to 3,
 * 4 to 7, 8 to 11.  Assembler, because compilers mix the instructions of the states in
 * an order that takes a tenth longer.  For the diagonals a, c and d turn, and b stays,
 * which is needed first. */

#define FEW_OP(op, from, to) op " %" #from ", %" #to ", %" #to "\n\t"
#define FEW_BY(op, n, to) op " $" #n ", %" #to ", %" #to "\n\t"
#define FEW_ADD_AB(a, b, c, d) FEW_OP("vpaddd", b, a)
#define FEW_XOR_DA(a, b, c, d) FEW_OP("vpxord", a, d)
#define FEW_D_16(a, b, c, d) FEW_BY("vprold", 16, d)
#define FEW_D_8(a, b, c, d) FEW_BY("vprold", 8, d)
#define FEW_ADD_CD(a, b, c, d) FEW_OP("vpaddd", d, c)
#define FEW_XOR_BC(a, b, c, d) FEW_OP("vpxord", c, b)
#define FEW_B_12(a, b, c, d) FEW_BY("vprold", 12, b)
#define FEW_B_7(a, b, c, d) FEW_BY("vprold", 7, b)
/* word i comes from i + 1: 0x39; from i + 2: 0x4e; from i + 3: 0x93 */
#define FEW_A_OUT(a, b, c, d) FEW_BY("vpshufd", 0x93, a)
#define FEW_C_OUT(a, b, c, d) FEW_BY("vpshufd", 0x39, c)
#define FEW_A_BACK(a, b, c, d) FEW_BY("vpshufd", 0x39, a)
#define FEW_C_BACK(a, b, c, d) FEW_BY("vpshufd", 0x93, c)
#define FEW_D_TURN(a, b, c, d) FEW_BY("vpshufd", 0x4e, d)

#define FEW_1(f) f(0, 1, 2, 3)
#define FEW_2(f) FEW_1(f) f(4, 5, 6, 7)
#define FEW_3(f) FEW_2(f) f(8, 9, 10, 11)
#define FEW_ROUND(all, a_turn, c_turn)                                            \
    all(FEW_ADD_AB) all(FEW_XOR_DA) all(FEW_D_16)                                 \
    all(FEW_ADD_CD) all(FEW_XOR_BC) all(FEW_B_12)                                 \
    all(FEW_ADD_AB) all(FEW_XOR_DA) all(FEW_D_8)                                  \
    all(FEW_ADD_CD) all(FEW_XOR_BC) all(FEW_B_7)                                  \
    all(a_turn) all(FEW_D_TURN) all(c_turn)
#define FEW_DOUBLE_ROUND(all)                                                     \
    FEW_ROUND(all, FEW_A_OUT, FEW_C_OUT) FEW_ROUND(all, FEW_A_BACK, FEW_C_BACK)
#define FEW_ROWS(x) "+v"((x)->a), "+v"((x)->b), "+v"((x)->c), "+v"((x)->d)

/* Two rounds of the first one, two or three; `states` is a constant. */
ISA __attribute__((always_inline)) static inline void
double_round(int states, struct four *x, struct four *y, struct four *z)
{
    if (states == 1)
        __asm__(FEW_DOUBLE_ROUND(FEW_1) : FEW_ROWS(x));
    else if (states == 2)
        __asm__(FEW_DOUBLE_ROUND(FEW_2) : FEW_ROWS(x), FEW_ROWS(y));
    else
        __asm__(FEW_DOUBLE_ROUND(FEW_3) : FEW_ROWS(x), FEW_ROWS(y), FEW_ROWS(z));
}

/* ---- lanes */

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

/* From rows to blocks. */
ISA static inline void blocks_of(const struct four *x, __m512i block[4])
{
    const __m512i low_ab = _mm512_shuffle_i32x4(x->a, x->b, 0x44); /* a0 a1 b0 b1 */
    const __m512i high_ab = _mm512_shuffle_i32x4(x->a, x->b, 0xee);
    const __m512i low_cd = _mm512_shuffle_i32x4(x->c, x->d, 0x44);
    const __m512i high_cd = _mm512_shuffle_i32x4(x->c, x->d, 0xee);

    block[0] = _mm512_shuffle_i32x4(low_ab, low_cd, 0x88);
    block[1] = _mm512_shuffle_i32x4(low_ab, low_cd, 0xdd);
    block[2] = _mm512_shuffle_i32x4(high_ab, high_cd, 0x88);
    block[3] = _mm512_shuffle_i32x4(high_ab, high_cd, 0xdd);
}

/* dst = src ^ keystream for the four lanes from `first` on; x is start + rounds */
ISA static inline void xor_four(const struct four *x, const struct lanes *l,
                                size_t first)
{
    __m512i block[4];

    blocks_of(x, block);
    for (size_t i = 0; i < 4; i++)
        xor_lane(l, first + i, block[i]);
}

ISA static inline struct four sum_of(const struct four *x, const struct four *y)
{
    return (struct four){
        _mm512_add_epi32(x->a, y->a), _mm512_add_epi32(x->b, y->b),
        _mm512_add_epi32(x->c, y->c), _mm512_add_epi32(x->d, y->d)};
}

/* dst = src ^ keystream for the 4 * states lanes in front */
ISA __attribute__((always_inline)) static inline void
xor_rows(const uint32_t words[12], const struct lanes *l, int states)
{
    const struct four start = start_of(words, l, 0);
    struct four x = start, start2, y;

    if (states > 1)
        y = start2 = start_of(words, l, 4);
    for (int i = 0; i < 10; i++)
        double_round(states, &x, &y, NULL);
    x = sum_of(&x, &start);
    xor_four(&x, l, 0);
    if (states > 1) {
        y = sum_of(&y, &start2);
        xor_four(&y, l, 4);
    }
}

/* dst = src ^ keystream for at most FEW_LANES lanes that are used. */
ISA static inline void chacha_xor_few(const uint32_t words[12], const struct lanes *l)
{
    if (l->used > 4)
        xor_rows(words, l, 2);
    else
        xor_rows(words, l, 1);
}

#endif
