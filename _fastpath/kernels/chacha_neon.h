/* SPDX-License-Identifier: MIT
 *
 * ChaCha20 (RFC 8439 section 2.3) on four blocks at once with Advanced SIMD (NEON): a
 * register holds one word of four blocks, so that a state is half of the registers.
 */
#ifndef TUNNEL_KERNELS_CHACHA_NEON_H
#define TUNNEL_KERNELS_CHACHA_NEON_H

#include <arm_neon.h>

#include "lanes.h"

static inline uint32x4_t rotate16(uint32x4_t x)
{
    return vreinterpretq_u32_u16(vrev32q_u16(vreinterpretq_u16_u32(x)));
}

static inline uint32x4_t rotate8(uint32x4_t x)
{
    static const uint8_t order[16] = {
        3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14,
    };
    return vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_u32(x), vld1q_u8(order)));
}

#define ROTATE(x, n) vsriq_n_u32(vshlq_n_u32(x, n), x, 32 - (n))

static inline void quarter(uint32x4_t x[16], int a, int b, int c, int d)
{
    x[a] = vaddq_u32(x[a], x[b]);
    x[d] = rotate16(veorq_u32(x[d], x[a]));
    x[c] = vaddq_u32(x[c], x[d]);
    x[b] = veorq_u32(x[b], x[c]);
    x[b] = ROTATE(x[b], 12);
    x[a] = vaddq_u32(x[a], x[b]);
    x[d] = rotate8(veorq_u32(x[d], x[a]));
    x[c] = vaddq_u32(x[c], x[d]);
    x[b] = veorq_u32(x[b], x[c]);
    x[b] = ROTATE(x[b], 7);
}

/* Words 12 to 15 of the lanes. */
static inline void last_words(uint32x4_t x[4], const struct lanes *l)
{
    x[0] = vld1q_u32(l->block);
    x[1] = vdupq_n_u32(0);
    x[2] = vld1q_u32(l->low);
    x[3] = vld1q_u32(l->high);
}

/* x[n] = word n of the keystream of the four lanes */
static inline void keystream(const uint32_t words[12], const struct lanes *l,
                             uint32x4_t x[16])
{
    uint32x4_t last[4];

    for (int i = 0; i < 12; i++)
        x[i] = vdupq_n_u32(words[i]);
    last_words(x + 12, l);
    for (int i = 0; i < 10; i++) {
        for (int j = 0; j < 4; j++)
            quarter(x, j, 4 + j, 8 + j, 12 + j);
        for (int j = 0; j < 4; j++)
            quarter(x, j, 4 + (j + 1) % 4, 8 + (j + 2) % 4, 12 + (j + 3) % 4);
    }
    for (int i = 0; i < 12; i++)
        x[i] = vaddq_u32(x[i], vdupq_n_u32(words[i]));
    last_words(last, l);
    for (int i = 0; i < 4; i++)
        x[12 + i] = vaddq_u32(x[12 + i], last[i]);
}

/* Rows become columns: x[i] word j  ->  x[j] word i. */
static inline void transpose4(uint32x4_t x[4])
{
#define PAIRS(f, a, b) vreinterpretq_u64_u32(f(a, b))
#define WORDS(f, a, b) vreinterpretq_u32_u64(f(a, b))
    const uint64x2_t even = PAIRS(vtrn1q_u32, x[0], x[1]);
    const uint64x2_t odd = PAIRS(vtrn2q_u32, x[0], x[1]);
    const uint64x2_t even2 = PAIRS(vtrn1q_u32, x[2], x[3]);
    const uint64x2_t odd2 = PAIRS(vtrn2q_u32, x[2], x[3]);

    x[0] = WORDS(vtrn1q_u64, even, even2);
    x[1] = WORDS(vtrn1q_u64, odd, odd2);
    x[2] = WORDS(vtrn2q_u64, even, even2);
    x[3] = WORDS(vtrn2q_u64, odd, odd2);
#undef PAIRS
#undef WORDS
}

static inline size_t chacha_width(size_t used)
{
    (void)used;
    return LANES;
}

/* dst = src ^ keystream for the four lanes.  Returns how many bytes of the rows it
 * used, which are left for the caller to wipe. */
static inline size_t chacha_xor_lanes(const uint32_t words[12], const struct lanes *l,
                                      uint32x4_t rows[16])
{
    keystream(words, l, rows);
    for (int i = 0; i < 16; i += 4)
        transpose4(rows + i);
    for (int lane = 0; lane < LANES; lane++) {
        const uint8_t *src = (const uint8_t *)(uintptr_t)l->src[lane];
        uint8_t *dst = (uint8_t *)(uintptr_t)l->dst[lane];
        for (int i = 0; i < 4; i++) /* words 4i .. 4i + 3 */
            vst1q_u8(dst + 16 * i,
                     veorq_u8(vld1q_u8(src + 16 * i),
                              vreinterpretq_u8_u32(rows[4 * i + lane])));
    }
    return 16 * sizeof *rows;
}

#endif
