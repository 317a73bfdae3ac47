/* SPDX-License-Identifier: MIT
 *
 * ChaCha20 (RFC 8439 section 2.3) on 16 blocks at once with AVX2: a vector holds one
 * word of 8 blocks.  One such state would fill the 16 registers; two go through them
 * piece by piece, and while one waits for its results the other one computes.
 */
#ifndef TUNNEL_KERNELS_CHACHA_AVX2_H
#define TUNNEL_KERNELS_CHACHA_AVX2_H

#include <immintrin.h>

#include "lanes.h"

/* ---- the text of the rounds */

/* One state has word n in rows[n], the other one in rows[16 + n]. */
#define FIRST(n) "32*" #n "(%[rows])"
#define SECOND(n) "32*(16+" #n ")(%[rows])"

#define ADD(x, y) "vpaddd %%ymm" y ", %%ymm" x ", %%ymm" x "\n\t"
#define XOR(x, y) "vpxor %%ymm" y ", %%ymm" x ", %%ymm" x "\n\t"
#define SHUFFLE(x, order) "vpshufb %[" order "], %%ymm" x ", %%ymm" x "\n\t"
#define ROTATE(x, left, right, spare)                        \
    "vpslld $" left ", %%ymm" x ", %%ymm" spare "\n\t"       \
    "vpsrld $" right ", %%ymm" x ", %%ymm" x "\n\t"          \
    "vpor %%ymm" spare ", %%ymm" x ", %%ymm" x "\n\t"

#define LOAD(at, x) "vmovdqa " at ", %%ymm" x "\n\t"
#define SAVE(x, at) "vmovdqa %%ymm" x ", " at "\n\t"

/* Two quarter rounds, a0 ... d0 in ymm0-3 and a1 ... d1 in ymm4-7; operands come from
 * memory the first time. */
#define TAKE(op, at, x, y) op " " at ", %%ymm" y ", %%ymm" x "\n\t"
#define QUARTERS(at, a0, b0, c0, d0, a1, b1, c1, d1)                        \
    LOAD(at(a0), "0") LOAD(at(a1), "4")                                     \
    TAKE("vpaddd", at(b0), "0", "0") TAKE("vpaddd", at(b1), "4", "4")       \
    TAKE("vpxor", at(d0), "3", "0") TAKE("vpxor", at(d1), "7", "4")         \
    SHUFFLE("3", "by16") SHUFFLE("7", "by16")                               \
    TAKE("vpaddd", at(c0), "2", "3") TAKE("vpaddd", at(c1), "6", "7")       \
    TAKE("vpxor", at(b0), "1", "2") TAKE("vpxor", at(b1), "5", "6")         \
    ROTATE("1", "12", "20", "8") ROTATE("5", "12", "20", "9")               \
    ADD("0", "1") ADD("4", "5") XOR("3", "0") XOR("7", "4")                 \
    SAVE("0", at(a0)) SAVE("4", at(a1))                                     \
    SHUFFLE("3", "by8") SHUFFLE("7", "by8")                                 \
    ADD("2", "3") ADD("6", "7") XOR("1", "2") XOR("5", "6")                 \
    SAVE("3", at(d0)) SAVE("7", at(d1)) SAVE("2", at(c0)) SAVE("6", at(c1)) \
    ROTATE("1", "7", "25", "8") ROTATE("5", "7", "25", "9")                 \
    SAVE("1", at(b0)) SAVE("5", at(b1))

#define QUARTERS_ONE(...) QUARTERS(FIRST, __VA_ARGS__)
#define QUARTERS_BOTH(...) QUARTERS(FIRST, __VA_ARGS__) QUARTERS(SECOND, __VA_ARGS__)
#define TEN_DOUBLE_ROUNDS(quarters)            \
    "movl $10, %%eax\n\t"                      \
    ".p2align 6\n"                             \
    "1:\n\t"                                   \
    quarters(0, 4, 8, 12, 1, 5, 9, 13)         \
    quarters(2, 6, 10, 14, 3, 7, 11, 15)       \
    quarters(0, 5, 10, 15, 1, 6, 11, 12)       \
    quarters(2, 7, 8, 13, 3, 4, 9, 14)         \
    "decl %%eax\n\t"                           \
    "jnz 1b\n\t"

#define OPERANDS [rows] "r"(rows), [by16] "x"(by16), [by8] "x"(by8)
#define CLOBBERS                                                                \
    "memory", "cc", "eax", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",      \
        "xmm6", "xmm7", "xmm8", "xmm9"

/* The rounds of the state in rows[0..16), and of the one behind it if `both`. */
ISA static inline void rounds(__m256i *rows, int both)
{
    const __m256i by16 = _mm256_set_epi8(
        13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2,
        13, 12, 15, 14, 9, 8, 11, 10, 5, 4, 7, 6, 1, 0, 3, 2);
    const __m256i by8 = _mm256_set_epi8(
        14, 13, 12, 15, 10, 9, 8, 11, 6, 5, 4, 7, 2, 1, 0, 3,
        14, 13, 12, 15, 10, 9, 8, 11, 6, 5, 4, 7, 2, 1, 0, 3);

    if (both)
        __asm__ volatile(TEN_DOUBLE_ROUNDS(QUARTERS_BOTH) : : OPERANDS : CLOBBERS);
    else
        __asm__ volatile(TEN_DOUBLE_ROUNDS(QUARTERS_ONE) : : OPERANDS : CLOBBERS);
}

/* ---- from words to blocks */

/* The input of the 8 lanes from `first` on. */
ISA static inline void input_of_8(__m256i x[16], const uint32_t words[12],
                                  const struct lanes *l, size_t first)
{
    for (int i = 0; i < 12; i++)
        x[i] = _mm256_set1_epi32((int)words[i]);
    x[12] = _mm256_loadu_si256((const __m256i *)&l->block[first]);
    x[13] = _mm256_setzero_si256();
    x[14] = _mm256_loadu_si256((const __m256i *)&l->low[first]);
    x[15] = _mm256_loadu_si256((const __m256i *)&l->high[first]);
}

/* Rows become columns: x[i] word j  ->  x[j] word i. */
ISA static inline void transpose8_words(__m256i x[8])
{
    __m256i t[8];

    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        x[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x20);
        t[i + 4] = _mm256_permute2x128_si256(x[i], x[i + 4], 0x31);
    }
    for (int i = 0; i < 8; i++)
        x[i] = t[i];
}

/* dst = src ^ (x + input) for the 8 lanes from `first` on */
ISA static inline void xor_8(__m256i x[16], const uint32_t words[12],
                             const struct lanes *l, size_t first)
{
    __m256i input[16];

    input_of_8(input, words, l, first);
    for (int i = 0; i < 16; i++)
        x[i] = _mm256_add_epi32(x[i], input[i]);
    transpose8_words(x);
    transpose8_words(x + 8);
    for (int i = 0; i < 8; i++) {
        const __m256i *src = (const __m256i *)(uintptr_t)l->src[first + i];
        __m256i *dst = (__m256i *)(uintptr_t)l->dst[first + i];
        const __m256i front = _mm256_loadu_si256(src);
        const __m256i back = _mm256_loadu_si256(src + 1);
        _mm256_storeu_si256(dst, _mm256_xor_si256(x[i], front));
        _mm256_storeu_si256(dst + 1, _mm256_xor_si256(x[8 + i], back));
    }
}

/* How many lanes are computed when so many are used. */
static inline size_t chacha_width(size_t used)
{
    return used <= 8 ? 8 : 16;
}

/* dst = src ^ keystream for chacha_width(used) lanes.  Returns how many bytes of the
 * rows it used, which are left for the caller to wipe. */
ISA static inline size_t chacha_xor_lanes(const uint32_t words[12],
                                          const struct lanes *l, __m256i rows[32])
{
    input_of_8(rows, words, l, 0);
    input_of_8(rows + 16, words, l, 8);
    rounds(rows, l->used > 8);
    xor_8(rows, words, l, 0);
    if (l->used > 8)
        xor_8(rows + 16, words, l, 8);
    return 32 * sizeof *rows;
}

#endif
