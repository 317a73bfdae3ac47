/* SPDX-License-Identifier: MIT
 *
 * ChaCha20 (RFC 8439 section 2.3) on 32 blocks at once with AVX-512: a register
 * holds one word of 16 blocks, two such states fill all 32 registers.  The rounds
 * are assembler because compilers spill here; their text is put together by macros.
 *
 * While one state waits for its results (every instruction takes two cycles on
 * Zen 5) the other one computes, so 32 blocks cost little more than 16.  Afterwards the
 * first state is turned into blocks where it is, and the second one waits in memory.
 */
#ifndef TUNNEL_KERNELS_CHACHA_AVX512_H
#define TUNNEL_KERNELS_CHACHA_AVX512_H

#include <immintrin.h>

#include "chacha_few_avx512.h"
#include "lanes.h"
#include "transpose_avx512.h"

#define HASHING_PASSES /* chacha_hashing_avx512.h has some */

/* ---- the text of the rounds */

/* The second state has word n in register 16 + n. */
#define TWIN_0 "16"
#define TWIN_1 "17"
#define TWIN_2 "18"
#define TWIN_3 "19"
#define TWIN_4 "20"
#define TWIN_5 "21"
#define TWIN_6 "22"
#define TWIN_7 "23"
#define TWIN_8 "24"
#define TWIN_9 "25"
#define TWIN_10 "26"
#define TWIN_11 "27"
#define TWIN_12 "28"
#define TWIN_13 "29"
#define TWIN_14 "30"
#define TWIN_15 "31"

#define INSTRUCTION(op, from, to) op " " from ", %%zmm" to ", %%zmm" to "\n\t"
#define ADD(x, y) INSTRUCTION("vpaddd", "%%zmm" y, x)
#define XOR(x, y) INSTRUCTION("vpxord", "%%zmm" y, x)
#define ROTATE(x, n) "vprold $" n ", %%zmm" x ", %%zmm" x "\n\t"
#define ROTATE_16(x, y) ROTATE(x, "16")
#define ROTATE_12(x, y) ROTATE(x, "12")
#define ROTATE_8(x, y) ROTATE(x, "8")
#define ROTATE_7(x, y) ROTATE(x, "7")

/* The four words of a row, in the order of the quarter rounds that use them. */
#define ROW_A (0, 1, 2, 3)
#define ROW_B (4, 5, 6, 7)
#define ROW_C (8, 9, 10, 11)
#define ROW_D (12, 13, 14, 15)
#define DIAGONAL_B (5, 6, 7, 4)
#define DIAGONAL_C (10, 11, 8, 9)
#define DIAGONAL_D (15, 12, 13, 14)

#define CALL(macro, ...) macro(__VA_ARGS__)
#define BARE(...) __VA_ARGS__

/* op on two words of each of two rows, in the first or in the second state */
#define FIRST_LEFT(op, x0, x1, x2, x3, y0, y1, y2, y3) op(#x0, #y0) op(#x1, #y1)
#define FIRST_RIGHT(op, x0, x1, x2, x3, y0, y1, y2, y3) op(#x2, #y2) op(#x3, #y3)
#define SECOND_LEFT(op, x0, x1, x2, x3, y0, y1, y2, y3) \
    op(TWIN_##x0, TWIN_##y0) op(TWIN_##x1, TWIN_##y1)
#define SECOND_RIGHT(op, x0, x1, x2, x3, y0, y1, y2, y3) \
    op(TWIN_##x2, TWIN_##y2) op(TWIN_##x3, TWIN_##y3)
#define ROWS(words, op, x, y) CALL(words, op, BARE x, BARE y)

/* a += b; d ^= a; d <<<= n; for two words of a row.  This order, two columns of one
 * state and then two others, is the fastest on Zen 4 by 6 %. */
#define HALF_STEP(words, a, b, d, n) \
    ROWS(words, ADD, a, b) ROWS(words, XOR, d, a) ROWS(words, ROTATE_##n, d, d)

/* for a whole row, in one state or in both */
#define STEP_ONE(a, b, d, n) \
    HALF_STEP(FIRST_LEFT, a, b, d, n) HALF_STEP(FIRST_RIGHT, a, b, d, n)
#define STEP_BOTH(a, b, d, n) \
    STEP_ONE(a, b, d, n)      \
    HALF_STEP(SECOND_LEFT, a, b, d, n) HALF_STEP(SECOND_RIGHT, a, b, d, n)

#define ROUND(step, a, b, c, d) \
    step(a, b, d, 16) step(c, d, b, 12) step(a, b, d, 8) step(c, d, b, 7)
#define TEN_DOUBLE_ROUNDS(step)                             \
    "movl $10, %%eax\n\t"                                   \
    ".p2align 6\n"                                          \
    "1:\n\t"                                                \
    ROUND(step, ROW_A, ROW_B, ROW_C, ROW_D)                 \
    ROUND(step, ROW_A, DIAGONAL_B, DIAGONAL_C, DIAGONAL_D)  \
    "decl %%eax\n\t"                                        \
    "jnz 1b\n\t"

/* ---- the text around them: fetch the input, add it again, store the result */

#define KEY_WORDS(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11)
#define ALL_WORDS(f) KEY_WORDS(f) f(12) f(13) f(14) f(15)

#define FETCH(to, n) "vpbroadcastd 4*" #n "(%[words]), %%zmm" to "\n\t"
#define FETCH_FIRST(n) FETCH(#n, n)
#define FETCH_SECOND(n) FETCH(TWIN_##n, n)
#define FETCH_LANES(at, w12, w13, w14, w15)              \
    "vmovdqu32 " at "(%[block]), %%zmm" w12 "\n\t"       \
    "vpxord %%zmm" w13 ", %%zmm" w13 ", %%zmm" w13 "\n\t" \
    "vmovdqu32 " at "(%[low]), %%zmm" w14 "\n\t"         \
    "vmovdqu32 " at "(%[high]), %%zmm" w15 "\n\t"

#define FINISH_FIRST(n) INSTRUCTION("vpaddd", "4*" #n "(%[words])%{1to16%}", #n)
#define FINISH_SECOND(n) INSTRUCTION("vpaddd", "4*" #n "(%[words])%{1to16%}", TWIN_##n)
#define FINISH_LANES(at, w12, w14, w15)              \
    INSTRUCTION("vpaddd", at "(%[block])", w12)      \
    INSTRUCTION("vpaddd", at "(%[low])", w14)        \
    INSTRUCTION("vpaddd", at "(%[high])", w15)

#define STORE(from, n) "vmovdqa64 %%zmm" from ", 64*" #n "(%[rows])\n\t"
#define STORE_FIRST(n) STORE(#n, n)
#define STORE_SECOND(n) STORE(TWIN_##n, n)

#define OPERANDS                                                               \
    [words] "r"(words), [block] "r"(l->block), [low] "r"(l->low),              \
        [high] "r"(l->high), [rows] "r"(rows)
#define VECTORS_FIRST                                                          \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",    \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define VECTORS_SECOND                                                         \
    "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",    \
        "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31"
#define CLOBBERS "memory", "cc", "eax"

/* Results of an assembler statement: the first state, in its registers. */
#define FIRST_REGISTER(n) register __m512i first##n __asm__("zmm" #n);
#define FIRST_RESULT(n) "=v"(first##n),
#define FIRST_ROW(n) first##n,

/* x[n] = word n of the keystream of lanes 0-15; of lanes 16-31 in rows[n] */
ISA static inline void rows_of_32(const uint32_t words[12], const struct lanes *l,
                                  __m512i x[16], __m512i rows[16])
{
    ALL_WORDS(FIRST_REGISTER)

    __asm__ volatile(KEY_WORDS(FETCH_FIRST) KEY_WORDS(FETCH_SECOND)
                     FETCH_LANES("0", "12", "13", "14", "15")
                     FETCH_LANES("64", "28", "29", "30", "31")
                     TEN_DOUBLE_ROUNDS(STEP_BOTH)
                     KEY_WORDS(FINISH_FIRST) KEY_WORDS(FINISH_SECOND)
                     FINISH_LANES("0", "12", "14", "15")
                     FINISH_LANES("64", "28", "30", "31")
                     ALL_WORDS(STORE_SECOND)
                     : ALL_WORDS(FIRST_RESULT) "=m"(*(__m512i(*)[16])rows)
                     : OPERANDS : CLOBBERS, VECTORS_SECOND);
    const __m512i first[] = {ALL_WORDS(FIRST_ROW)};
    for (int i = 0; i < 16; i++)
        x[i] = first[i];
}

ISA static inline void rows_of_16(const uint32_t words[12], const struct lanes *l,
                                  __m512i rows[16])
{
    __asm__ volatile(KEY_WORDS(FETCH_FIRST)
                     FETCH_LANES("0", "12", "13", "14", "15")
                     TEN_DOUBLE_ROUNDS(STEP_ONE)
                     KEY_WORDS(FINISH_FIRST)
                     FINISH_LANES("0", "12", "14", "15")
                     ALL_WORDS(STORE_FIRST)
                     : : OPERANDS : CLOBBERS, VECTORS_FIRST);
}

/* ---- from words to blocks */

/* dst = src ^ keystream for the 16 lanes from `first` on; x is lost.  Always inlined,
 * or x would have to leave its registers. */
ISA __attribute__((always_inline)) static inline void
xor_16(__m512i x[16], const struct lanes *l, size_t first)
{
    transpose16(x);
    for (int i = 0; i < 16; i++) {
        const void *src = (const void *)(uintptr_t)l->src[first + i];
        void *dst = (void *)(uintptr_t)l->dst[first + i];
        _mm512_storeu_si512(dst, _mm512_xor_si512(x[i], _mm512_loadu_si512(src)));
    }
}

ISA __attribute__((noinline)) static void
xor_16_of_rows(const __m512i rows[16], const struct lanes *l, size_t first)
{
    __m512i x[16];

    for (int i = 0; i < 16; i++)
        x[i] = rows[i];
    xor_16(x, l, first);
}

/* How many lanes are computed when so many are used. */
static inline size_t chacha_width(size_t used)
{
    return used <= 4 ? 4 : used <= FEW_LANES ? FEW_LANES : used <= 16 ? 16 : 32;
}

/* dst = src ^ keystream for chacha_width(used) lanes.  Returns how many bytes of the
 * rows it used, which are left for the caller to wipe. */
ISA static inline size_t chacha_xor_lanes(const uint32_t words[12],
                                          const struct lanes *l, __m512i rows[16])
{
    __m512i x[16];

    if (l->used <= FEW_LANES) {
        chacha_xor_few(words, l);
        return 0;
    }
    if (l->used <= 16) {
        rows_of_16(words, l, rows);
        xor_16_of_rows(rows, l, 0);
        return 16 * sizeof *rows;
    }
    rows_of_32(words, l, x, rows);
    xor_16(x, l, 0);
    xor_16_of_rows(rows, l, 16);
    return 16 * sizeof *rows;
}

#endif
