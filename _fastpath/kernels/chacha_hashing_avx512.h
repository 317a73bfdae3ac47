/* SPDX-License-Identifier: MIT
 *
 * The 32 blocks of chacha_avx512.h, and Poly1305 of two texts between their rounds.
 * ChaCha20 keeps the vector units busy and leaves general registers and multipliers
 * idle: on Zen 4 the rounds take as long (1,040 cycles) with 90 blocks of 16 bytes
 * between them as without.  100 would make it 1,070, and leave no time for what is
 * planned before the next pass; from there on, each takes 11 cycles, as it would alone,
 * because the one unit that multiplies gets its share of other instructions as well.
 *
 * A turn is two double rounds, which are sixteen steps of four halves.  A half takes a
 * third of a block along, or nothing: nine blocks of each text, which are PIECE bytes.
 */
#ifndef TUNNEL_KERNELS_CHACHA_HASHING_AVX512_H
#define TUNNEL_KERNELS_CHACHA_HASHING_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "chacha_avx512.h"
#include "streams_avx512.h"

#define TURNS 5

/* What the rounds work on; turns are filled by CHUNKs, so that some past the last one
 * are written too. */
#define TURNS_FILLED (TURNS + CHUNK)
struct hashing_pass {
    uint64_t stream[2][TURNS_FILLED]; /* addresses; 0 behind the last of the first */
    uint64_t at[2][TURNS_FILLED]; /* of PIECE bytes of the text */
    const uint32_t *words, *block, *low, *high;
    __m512i *rows;
};

/* ---- the text around a block: offsets are those of the turn in hashing_pass */

#define AT_A "208"
#define AT_B "312"
#define STREAM_OF_B "104"
#define POINTERS "416"
#define POINTERS_BEHIND "376" /* the last turn */
_Static_assert(sizeof(uint64_t[TURNS_FILLED]) == 104, "STREAM_OF_B");
_Static_assert(offsetof(struct hashing_pass, at) == 208, "AT_A, AT_B");
_Static_assert(offsetof(struct hashing_pass, words) == 416, "POINTERS");
_Static_assert(416 - 8 * TURNS == 376, "POINTERS_BEHIND");

#define STREAM_A "%[rows]"
#define STREAM_B "%[b]"
#define TEXT_A(part, number) part(STREAM_A, "%[a0]", "%[a1]", "%[a2]", "16*" number)
#define TEXT_B(part, number) part(STREAM_B, "%[b0]", "%[b1]", "%[b2]", "16*" number)
#define FIND_A "movq " AT_A "(%[turn]), %%rdx\n\t"
#define FIND_B "movq " AT_B "(%[turn]), %%rdx\n\t"
#define LOAD_STREAM(offset, s, h0, h1, h2)                            \
    "movq " offset "(%[turn]), " s "\n\t"                             \
    "movq (" s "), " h0 "\n\t"                                        \
    "movq 8(" s "), " h1 "\n\t"                                       \
    "movq 16(" s "), " h2 "\n\t"
#define STORE_STREAM(s, h0, h1, h2)                                   \
    "movq " h0 ", (" s ")\n\t"                                        \
    "movq " h1 ", 8(" s ")\n\t"                                       \
    "movq " h2 ", 16(" s ")\n\t"

/* ---- the rounds */

/* a third of a block of text t */
#define THIRD_1(t, number) FIND_##t TEXT_##t(BLOCK_1, number) TEXT_##t(BLOCK_2, number)
#define THIRD_2(t, number) TEXT_##t(BLOCK_3, number) TEXT_##t(BLOCK_4, number)
#define THIRD_3(t, number) TEXT_##t(BLOCK_5, number) TEXT_##t(BLOCK_6, number)

/* STEP_BOTH with four of them */
#define STEP_HASHING(a, b, d, n, third1, third2, third3, third4) \
    HALF_STEP(FIRST_LEFT, a, b, d, n) third1                     \
    HALF_STEP(FIRST_RIGHT, a, b, d, n) third2                    \
    HALF_STEP(SECOND_LEFT, a, b, d, n) third3                    \
    HALF_STEP(SECOND_RIGHT, a, b, d, n) third4

/* A round with three blocks of text t and, in turn with them, two of text u. */
#define ROUND_WITH_FIVE(a, b, c, d, t, t1, t2, t3, u, u1, u2)                   \
    STEP_HASHING(a, b, d, 16,                                                   \
                 THIRD_1(t, t1), THIRD_2(t, t1), THIRD_3(t, t1), THIRD_1(u, u1)) \
    STEP_HASHING(c, d, b, 12,                                                   \
                 THIRD_2(u, u1), THIRD_3(u, u1), THIRD_1(t, t2), THIRD_2(t, t2)) \
    STEP_HASHING(a, b, d, 8,                                                    \
                 THIRD_3(t, t2), THIRD_1(u, u2), THIRD_2(u, u2), THIRD_3(u, u2)) \
    STEP_HASHING(c, d, b, 7, THIRD_1(t, t3), THIRD_2(t, t3), THIRD_3(t, t3), "")

/* A round with two of each. */
#define ROUND_WITH_FOUR(a, b, c, d, t, t1, t2, u, u1, u2)                         \
    STEP_HASHING(a, b, d, 16, THIRD_1(t, t1), THIRD_2(t, t1), THIRD_3(t, t1), "") \
    STEP_HASHING(c, d, b, 12, THIRD_1(u, u1), THIRD_2(u, u1), THIRD_3(u, u1), "") \
    STEP_HASHING(a, b, d, 8, THIRD_1(t, t2), THIRD_2(t, t2), THIRD_3(t, t2), "")  \
    STEP_HASHING(c, d, b, 7, THIRD_1(u, u2), THIRD_2(u, u2), THIRD_3(u, u2), "")

#define TEN_DOUBLE_ROUNDS_HASHING                                              \
    ".p2align 6\n"                                                             \
    "1:\n\t"                                                                   \
    LOAD_STREAM("0", STREAM_A, "%[a0]", "%[a1]", "%[a2]")                      \
    LOAD_STREAM(STREAM_OF_B, STREAM_B, "%[b0]", "%[b1]", "%[b2]")              \
    ROUND_WITH_FIVE(ROW_A, ROW_B, ROW_C, ROW_D, A, "0", "1", "2", B, "0", "1") \
    ROUND_WITH_FOUR(ROW_A, DIAGONAL_B, DIAGONAL_C, DIAGONAL_D,                 \
                    B, "2", "3", A, "3", "4")                                  \
    ROUND_WITH_FIVE(ROW_A, ROW_B, ROW_C, ROW_D, B, "4", "5", "6", A, "5", "6") \
    ROUND_WITH_FOUR(ROW_A, DIAGONAL_B, DIAGONAL_C, DIAGONAL_D,                 \
                    A, "7", "8", B, "7", "8")                                  \
    STORE_STREAM(STREAM_A, "%[a0]", "%[a1]", "%[a2]")                          \
    STORE_STREAM(STREAM_B, "%[b0]", "%[b1]", "%[b2]")                          \
    "addq $8, %[turn]\n\t"                                                     \
    "cmpq $0, (%[turn])\n\t"                                                   \
    "jne 1b\n\t"

/* All general registers are taken: what only the ends need is fetched there. */
#define LOAD_POINTERS(offset)                      \
    "movq " offset "(%[turn]), %[words]\n\t"       \
    "movq 8+" offset "(%[turn]), %[block]\n\t"     \
    "movq 16+" offset "(%[turn]), %[low]\n\t"      \
    "movq 24+" offset "(%[turn]), %[high]\n\t"     \
    "movq 32+" offset "(%[turn]), %[rows]\n\t"

/* As rows_of_32(), and the streams of p take their pieces. */
ISA static inline void rows_of_32_hashing(const struct hashing_pass *p, __m512i x[16])
{
    ALL_WORDS(FIRST_REGISTER)
    const void *turn = p->stream;
    uint64_t t0, t1, t2, t3, rows, b, a0, a1, a2, b0, b1, b2;

    __asm__ volatile(LOAD_POINTERS(POINTERS)
                     KEY_WORDS(FETCH_FIRST) KEY_WORDS(FETCH_SECOND)
                     FETCH_LANES("0", "12", "13", "14", "15")
                     FETCH_LANES("64", "28", "29", "30", "31")
                     TEN_DOUBLE_ROUNDS_HASHING
                     LOAD_POINTERS(POINTERS_BEHIND)
                     KEY_WORDS(FINISH_FIRST) KEY_WORDS(FINISH_SECOND)
                     FINISH_LANES("0", "12", "14", "15")
                     FINISH_LANES("64", "28", "30", "31")
                     ALL_WORDS(STORE_SECOND)
                     : [turn] "+r"(turn), [words] "=&r"(t0), [block] "=&r"(t1),
                       [low] "=&r"(t2), [high] "=&r"(t3), [rows] "=&r"(rows),
                       [b] "=&r"(b), [a0] "=&r"(a0), [a1] "=&r"(a1), [a2] "=&r"(a2),
                       [b0] "=&r"(b0), [b1] "=&r"(b1), ALL_WORDS(FIRST_RESULT)
                       [b2] "=&r"(b2)
                     : : "memory", "cc", "rdx", VECTORS_SECOND);
    const __m512i first[] = {ALL_WORDS(FIRST_ROW)};
    for (int i = 0; i < 16; i++)
        x[i] = first[i];
}

/* The first 16 lanes of a pass; the keystream of the others is left in rows. */
ISA __attribute__((noinline)) static void first_half(const uint32_t words[12],
                                                     const struct lanes *l,
                                                     __m512i rows[16])
{
    __m512i x[16];

    rows_of_32(words, l, x, rows);
    xor_16(x, l, 0);
}

/* The same, and the streams of p take their pieces. */
ISA __attribute__((noinline)) static void
first_half_hashing(const struct hashing_pass *p, const struct lanes *l)
{
    __m512i x[16];

    rows_of_32_hashing(p, x);
    xor_16(x, l, 0);
}

#endif
