/* SPDX-License-Identifier: MIT
 *
 * ChaCha20 (RFC 8439 section 2.3) for one packet with AVX-512: a pass makes 4, 8 or 12
 * blocks by rows, as chacha_few_avx512.h does, or 16 with a word of all of them in each
 * register.  The keystream stays in registers as long as there are some.
 */
#ifndef TUNNEL_KERNELS_LONE_CHACHA_AVX512_H
#define TUNNEL_KERNELS_LONE_CHACHA_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#include "bytes.h"
#include "chacha_avx512.h"
#include "lone_poly_avx512.h"

static const uint32_t lone_constants[4] = {
    0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, /* "expand 32-byte k" */
};

struct lone_cipher {
    const uint8_t *key;
    uint64_t nonce;
};

/* ---- by rows */

/* Rows of the four blocks from `first` on. */
ISA INLINE struct four lone_start(const struct lone_cipher *c, uint32_t first)
{
    const __m512i order =
        _mm512_set_epi32(0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0);
    const __m128i d = _mm_set_epi64x((long long)c->nonce, first);

    return (struct four){
        _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)lone_constants)),
        _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)c->key)),
        _mm512_broadcast_i32x4(_mm_loadu_si128((const void *)(c->key + 16))),
        _mm512_add_epi32(_mm512_broadcast_i32x4(d), order),
    };
}

/* The blocks that become of the rows of the four from `first` on. */
ISA INLINE void lone_blocks(const struct lone_cipher *c, uint32_t first, struct four x,
                            __m512i stream[4])
{
    const struct four start = lone_start(c, first);

    x = sum_of(&x, &start);
    blocks_of(&x, stream);
}

/* stream[0 .. 4 * states - 1] = blocks from `first` on; `states` is 1 to 3.  With p not
 * NULL, the blocks that go one by one do so, 2 or 3 at a time. */
ISA INLINE void lone_rows(const struct lone_cipher *c, uint32_t first, int states,
                          __m512i *stream, struct lone_poly *p)
{
    struct four x = lone_start(c, first), y = lone_start(c, first + 4);
    struct four z = lone_start(c, first + 8);

    if (p)
        LONE_TEN_TIMES(double_round(states, &x, &y, &z), p, states > 1 ? 3 : 2);
    else
        for (int i = 0; i < 10; i++)
            double_round(states, &x, &y, &z);
    lone_blocks(c, first, x, stream);
    if (states > 1)
        lone_blocks(c, first + 4, y, stream + 4);
    if (states > 2)
        lone_blocks(c, first + 8, z, stream + 8);
}

/* ---- by words */

/* x += y; z ^= x; z <<<= n; of four columns, whose words are turned by so many */
#define LONE_WORD(row, i, turn) x[4 * (row) + ((i) + (turn)) % 4]
#define LONE_STEP(p, turn_p, q, turn_q, r, turn_r, n)                              \
    for (int i = 0; i < 4; i++)                                                    \
        LONE_WORD(p, i, turn_p) =                                                  \
            _mm512_add_epi32(LONE_WORD(p, i, turn_p), LONE_WORD(q, i, turn_q));    \
    for (int i = 0; i < 4; i++)                                                    \
        LONE_WORD(r, i, turn_r) =                                                  \
            _mm512_xor_si512(LONE_WORD(r, i, turn_r), LONE_WORD(p, i, turn_p));    \
    for (int i = 0; i < 4; i++)                                                    \
        LONE_WORD(r, i, turn_r) = _mm512_rol_epi32(LONE_WORD(r, i, turn_r), n)

/* A round of 16 blocks, of which x[n] holds word n: of columns with `turn` 0, of
 * diagonals with 1. */
ISA INLINE void lone_round(__m512i x[16], int turn)
{
    LONE_STEP(0, 0, 1, turn, 3, 3 * turn, 16);
    LONE_STEP(2, 2 * turn, 3, 3 * turn, 1, turn, 12);
    LONE_STEP(0, 0, 1, turn, 3, 3 * turn, 8);
    LONE_STEP(2, 2 * turn, 3, 3 * turn, 1, turn, 7);
}

ISA INLINE void lone_two_rounds(__m512i x[16])
{
    lone_round(x, 0);
    lone_round(x, 1);
}

/* The words of the 16 blocks from `first` on. */
ISA INLINE void lone_words(const struct lone_cipher *c, uint32_t first, __m512i x[16])
{
    const __m512i order =
        _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);

#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        x[i] = _mm512_set1_epi32((int)lone_constants[i]);
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        x[4 + i] = _mm512_set1_epi32((int)load32(c->key + 4 * i));
    x[12] = _mm512_add_epi32(_mm512_set1_epi32((int)first), order);
    x[13] = _mm512_setzero_si512();
    x[14] = _mm512_set1_epi32((int)c->nonce);
    x[15] = _mm512_set1_epi32((int)(c->nonce >> 32));
}

/* x = 16 blocks from `first` on; the blocks that go one by one do so, 3 at a time. */
ISA INLINE void lone_16(struct lone_cipher c, uint32_t first, __m512i x[16],
                        struct lone_poly *p)
{
    __m512i start[16];

    lone_words(&c, first, x);
    LONE_TEN_TIMES(lone_two_rounds(x), p, 3);
    /* fetched again, which is cheaper than kept: there is no register for it */
    __asm__("" : "+r"(c.key), "+r"(c.nonce), "+r"(first));
    lone_words(&c, first, start);
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        x[i] = _mm512_add_epi32(x[i], start[i]);
    transpose16(x);
}

/* stream = keystream for 4 * states blocks of the text, from its block `done` on;
 * `states` is 1 to 4. */
ISA INLINE void lone_pass(const struct lone_cipher *c, size_t done, int states,
                          __m512i stream[16], struct lone_poly *p)
{
    if (states < 4)
        lone_rows(c, (uint32_t)done + 1, states, stream, p);
    else
        lone_16(*c, (uint32_t)done + 1, stream, p);
}

#endif
