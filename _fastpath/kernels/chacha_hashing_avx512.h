/* SPDX-License-Identifier: MIT
 *
 * The 32 blocks of chacha_avx512.h, and Poly1305 of two texts between their rounds.
 * ChaCha20 keeps the vector units busy and leaves general registers and multipliers
 * idle: on Zen 4 the rounds take 305 ns with 80 blocks of 16 bytes between them, 303 ns
 * without.  A fifth block of each text would add 43 ns, more than it costs elsewhere.
 *
 * A double round is eight steps, and each takes one block of the first or of the second
 * text along: four of each, which are PART bytes.
 */
#ifndef TUNNEL_KERNELS_CHACHA_HASHING_AVX512_H
#define TUNNEL_KERNELS_CHACHA_HASHING_AVX512_H

#include <immintrin.h>
#include <stddef.h>

#include "chacha_avx512.h"
#include "streams_avx512.h"

#define TURNS 10 /* double rounds */

/* What the rounds work on; turns are filled by CHUNKs, so that some past the last one
 * are written too. */
#define TURNS_FILLED (TURNS + CHUNK)
struct hashing_pass {
    uint64_t stream[2][TURNS_FILLED]; /* addresses; 0 behind the last of the first */
    uint64_t at[2][TURNS_FILLED]; /* of PART bytes of the text */
    const uint32_t *words, *block, *low, *high;
    __m512i *rows;
};

/* ---- the text around a block: offsets are those of the turn in hashing_pass */

#define AT_A "288"
#define AT_B "432"
#define STREAM_OF_B "144"
#define POINTERS "576"
#define POINTERS_BEHIND "496" /* the last turn */
_Static_assert(sizeof(uint64_t[TURNS_FILLED]) == 144, "STREAM_OF_B");
_Static_assert(offsetof(struct hashing_pass, at) == 288, "AT_A, AT_B");
_Static_assert(offsetof(struct hashing_pass, words) == 576, "POINTERS");
_Static_assert(576 - 8 * TURNS == 496, "POINTERS_BEHIND");

#define STREAM_A "%[rows]"
#define STREAM_B "%[b]"
#define TEXT_A(part, number) part(STREAM_A, "%[a0]", "%[a1]", "%[a2]", "16*" number)
#define TEXT_B(part, number) part(STREAM_B, "%[b0]", "%[b1]", "%[b2]", "16*" number)
#define FIND(at) "movq " at "(%[turn]), %%rdx\n\t"
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

/* STEP_BOTH with one block of a text */
#define STEP_HASHING(a, b, d, n, at, text, number)      \
    FIRST(ADD, a, b) FIND(at) text(BLOCK_1, number)     \
    FIRST(XOR, d, a) text(BLOCK_2, number)              \
    ROTATE_FIRST(d, n) text(BLOCK_3, number)            \
    SECOND(ADD, a, b) text(BLOCK_4, number)             \
    SECOND(XOR, d, a) text(BLOCK_5, number)             \
    ROTATE_SECOND(d, n) text(BLOCK_6, number)

#define ROUND_HASHING(a, b, c, d, i, j)                 \
    STEP_HASHING(a, b, d, "16", AT_A, TEXT_A, i)        \
    STEP_HASHING(c, d, b, "12", AT_B, TEXT_B, i)        \
    STEP_HASHING(a, b, d, "8", AT_A, TEXT_A, j)         \
    STEP_HASHING(c, d, b, "7", AT_B, TEXT_B, j)

#define TEN_DOUBLE_ROUNDS_HASHING                                      \
    ".p2align 6\n"                                                     \
    "1:\n\t"                                                           \
    LOAD_STREAM("0", STREAM_A, "%[a0]", "%[a1]", "%[a2]")              \
    LOAD_STREAM(STREAM_OF_B, STREAM_B, "%[b0]", "%[b1]", "%[b2]")      \
    ROUND_HASHING(ROW_A, ROW_B, ROW_C, ROW_D, "0", "1")                \
    ROUND_HASHING(ROW_A, DIAGONAL_B, DIAGONAL_C, DIAGONAL_D, "2", "3") \
    STORE_STREAM(STREAM_A, "%[a0]", "%[a1]", "%[a2]")                  \
    STORE_STREAM(STREAM_B, "%[b0]", "%[b1]", "%[b2]")                  \
    "addq $8, %[turn]\n\t"                                             \
    "cmpq $0, (%[turn])\n\t"                                           \
    "jne 1b\n\t"

/* All general registers are taken: what only the ends need is fetched there. */
#define LOAD_POINTERS(offset)                      \
    "movq " offset "(%[turn]), %[words]\n\t"       \
    "movq 8+" offset "(%[turn]), %[block]\n\t"     \
    "movq 16+" offset "(%[turn]), %[low]\n\t"      \
    "movq 24+" offset "(%[turn]), %[high]\n\t"     \
    "movq 32+" offset "(%[turn]), %[rows]\n\t"

/* As rows_of_32(), and the streams of p take their parts. */
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

#endif
